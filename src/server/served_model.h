// The model as its clients know it: names, text and ids, limits and defaults.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "server/answer_memory.h"
#include "server/grammar_cache.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/model_files.h"

namespace fathom::server {

// What /v1/models says of it, for those who look.
struct ModelFigures {
  int64_t params = 0, bytes = 0, n_embd = 0, n_ctx_train = 0;
};

struct ServedModel {
  std::vector<std::string> names;  // the first is the one that answers carry
  tokenizer::ModelText text;
  std::optional<tokenizer::ChatTemplate> chat = {};  // nothing: completion only
  std::string no_chat = {};                          // why, for those who try
  int64_t vocab_size = 0;                            // of the model: ids lie below it
  int64_t max_context = 0;
  std::vector<int32_t> eos_ids = {};
  engine::SamplingParams defaults = {};  // where a request says nothing
  bool deepseek_temperature = false;     // requests have DeepSeek's API's (FromDeepSeekTemperature)
  int64_t created = 0;                   // Unix time
  std::string fingerprint = {};

  ModelFigures figures = {};

  int64_t longest_token = 1;  // bytes

  // Of all requests; shared, as they change.
  std::shared_ptr<AnswerMemory> answers = std::make_shared<AnswerMemory>();
  std::shared_ptr<GrammarCache> grammars = std::make_shared<GrammarCache>();

  // Sets chat, no_chat and longest_token from `text`. The template is the one that `named` says, else the model's own;
  // throws Error if `named` is unknown.
  void Prepare(const std::optional<std::string>& named);
  bool Answers(std::string_view name) const;  // to it

  // Token ids of a text; one with so many bytes that it cannot fit is an ApiError (context_length_exceeded) without
  // being read through. `param` is its field.
  std::vector<int32_t> Encode(std::string_view text, bool add_special, const std::string& param) const;
  // The same of text in which special tokens have no names.
  std::vector<int32_t> EncodePlain(std::string_view text, const std::string& param) const;
  // What the model reads for a conversation; throws ApiError: no template, messages that it cannot show.
  // `tools` and `variables` as tokenizer::ChatOptions has them.
  std::string RenderChat(const nlohmann::ordered_json& messages, bool thinking, bool add_generation_prompt,
                         const nlohmann::ordered_json* tools = nullptr,
                         const nlohmann::ordered_json* variables = nullptr) const;
  // Throws ApiError if a prompt does not fit.
  void CheckLength(int64_t tokens, const std::string& param) const;

  // Throws ApiError if a text has more bytes than fit.
  void CheckBytes(std::string_view text, const std::string& param) const;

  // The text of a token; special ones by their names.
  std::string_view TokenBytes(int32_t id) const { return text.tokenizer.TokenBytes(id); }
};

}  // namespace fathom::server
