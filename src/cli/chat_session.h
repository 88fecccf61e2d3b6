// A conversation with a model: messages in, streamed answers out, the latent cache kept between turns.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/loaded_model.h"
#include "engine/engine.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {

struct ChatSettings {
  std::optional<std::string> chat_template;  // --template
  engine::SamplingParams sampling;
  std::vector<std::string> stop;
  std::string system;
  bool thinking = false;
  int64_t ctx_size = 0;    // positions; 0: the model's, at most kDefaultChatContext
  int64_t drafts = -1;     // as MakeEngine
  int64_t max_tokens = 0;  // of an answer; 0: what the context leaves
};
inline constexpr int64_t kDefaultChatContext = 16384;

struct Turn {
  std::string text;
  engine::Answer answer;
  std::string_view finish_reason;  // stop, length, or cancelled: on_text returned false
  int64_t prompt_tokens = 0;
};

class ChatSession {
 public:
  // Throws Error if the model has no tokenizer, no chat template (completion only) or one that is not known.
  ChatSession(LoadedModel& model, const ChatSettings& settings);

  // Adds the user's message and answers it; on_text sees the answer piece by piece and ends it by returning false. A
  // message that does not fit is taken back, with an Error.
  Turn Say(const std::string& text, const std::function<bool(std::string_view)>& on_text);
  void Clear();                              // forgets the messages, keeps the system prompt
  void SetSystem(const std::string& text);   // from the next turn on
  void Save(const std::string& path) const;  // the messages as JSON
  const nlohmann::ordered_json& messages() const { return messages_; }

 private:
  std::vector<int32_t> Encode(const nlohmann::ordered_json& messages) const;

  LoadedModel& model_;
  ChatSettings settings_;
  tokenizer::ModelText text_;
  tokenizer::ChatTemplate template_;
  std::unique_ptr<engine::Engine> engine_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  uint64_t turns_ = 0;
};

// Reads a line of the user: with editing and history on a terminal, else plainly. nullopt at the end of input.
class LineReader {
 public:
  explicit LineReader(bool history);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  std::optional<std::string> Read(const std::string& prompt);

 private:
  bool terminal_, history_;
  std::string history_path_;
};

}  // namespace fathom::cli
