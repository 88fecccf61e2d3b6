// Conversations as training data: a JSONL line {"messages": [{"role", "content"}, ...]} to the ids of the rendered chat
// template, of which the model learns the assistant's turns and nothing else (V3 report 5.1; docs/data.md).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace fathom::data {

// Ids on their way to a batch: those that the model must not be asked for are stored as their complement.
inline int32_t Unlearned(int32_t id) { return id < 0 ? id : ~id; }
inline int32_t IdOf(int32_t stored) { return stored < 0 ? ~stored : stored; }
inline bool Learned(int32_t stored) { return stored >= 0; }

// The messages of a line. Error: no JSON object, nested deeper than 64, no list of messages, a message without role or
// whose content is no string, no turn of the assistant.
Result<nlohmann::ordered_json> MessagesOfLine(std::string_view line);

// The contents of a line's messages, one behind the other; what `exclude` looks through. Empty if there are none.
std::string ContentsOfLine(std::string_view line);

class ChatEncoder {
 public:
  // `tokenizer` outlives this.
  ChatEncoder(const tokenizer::Tokenizer& tokenizer, tokenizer::ChatTemplate chat_template);

  // Each turn of the assistant, its content and eos, is learned behind the prompt that the template makes for it, its
  // thoughts too; what is behind the last of them is dropped. Where the template writes earlier turns otherwise once
  // there are later ones (R1 and V3.1 take thoughts out), only the turns from there on are learned. Text is encoded as
  // a server encodes it: names of special tokens become their ids, the prompt is encoded apart from the answer. Error:
  // messages that the template does not render.
  Result<std::vector<int32_t>> Encode(const nlohmann::ordered_json& messages) const;

 private:
  const tokenizer::Tokenizer& tokenizer_;
  tokenizer::ChatTemplate template_;
  std::string bos_, eos_;
};

}  // namespace fathom::data
