// A document's text to the ids that are trained on:  [bos] ids eos,  perhaps turned to fill-in-the-middle, combined
// punctuation-newline tokens perhaps taken apart (V3 report 4.1: "randomly split a certain proportion of such combined
// tokens", the proportion not given). What is drawn depends on (seed, number of the document) and nothing else.
//
// The names of special tokens written in a text are text: they never become their ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/chat.h"
#include "data/fim.h"
#include "tokenizer/tokenizer.h"

namespace fathom::data {

struct EncoderOptions {
  uint64_t seed = 0;
  bool add_bos = true;
  double fim_rate = 0;
  double split_punctuation_newline_rate = 0;
  std::optional<tokenizer::ChatTemplate> chat_template = {};  // for conversations
};

class DocumentEncoder {
 public:
  // `tokenizer` outlives this. Throws Error: no eos, no bos with add_bos, no FIM tokens with a fim_rate.
  DocumentEncoder(const tokenizer::Tokenizer& tokenizer, const EncoderOptions& options);

  // The line of a conversation, as chat.h has it: learned ids and others. Neither FIM nor taken-apart tokens. No ids,
  // and what was wrong, where the template does not render it.
  std::string EncodeChat(std::string_view line, std::vector<int32_t>* ids) const;

  // `text` is valid UTF-8. Clears `ids`.
  void Encode(std::string_view text, int64_t document, std::vector<int32_t>* ids) const;

  // The combined tokens, and what each is taken apart to (empty without a rate).
  const std::unordered_map<int32_t, std::vector<int32_t>>& splits() const { return splits_; }

 private:
  void Append(std::string_view text, Rng& rng, std::vector<int32_t>* ids) const;

  const tokenizer::Tokenizer& tokenizer_;
  EncoderOptions options_;
  int32_t bos_ = -1, eos_ = -1;
  std::optional<FimTokens> fim_;
  std::optional<ChatEncoder> chat_;
  std::unordered_map<int32_t, std::vector<int32_t>> splits_;
};

// Where the line ends begin in a token of punctuation or symbols (perhaps a blank before them) with line ends behind
// them, the pre-tokenizer's ` ?[\p{P}\p{S}]+[\r\n]*`; 0 for any other bytes.
size_t PunctuationBeforeNewline(std::string_view token);

}  // namespace fathom::data
