#include "server/served_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/tools.h"
#include "tokenizer/tool_text.h"

namespace fathom::server {

void ServedModel::Prepare(const std::optional<std::string>& named) {
  for (int64_t id = 0; id < text.tokenizer.vocab_size(); ++id) {
    longest_token = std::max<int64_t>(longest_token, static_cast<int64_t>(TokenBytes(static_cast<int32_t>(id)).size()));
  }
  if (named) {
    chat = tokenizer::ChatTemplateFromName(*named).Value();
    return;
  }
  const Result<tokenizer::ChatTemplate> own = tokenizer::ChooseChatTemplate(std::nullopt, text.chat_template);
  if (own.ok()) {
    chat = own.Value();
  } else {
    no_chat = text.chat_template ? own.error().summary() : "it has no chat template";
  }
}

bool ServedModel::Answers(std::string_view name) const {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void ServedModel::CheckLength(int64_t tokens, const std::string& param) const {
  if (tokens <= max_context) return;
  throw BadField(
      param,
      fmt::format("This model's maximum context length is {} tokens, but the prompt has {}", max_context, tokens),
      "context_length_exceeded");
}

void ServedModel::CheckBytes(std::string_view prompt, const std::string& param) const {
  if (prompt.size() <= static_cast<size_t>(max_context * longest_token)) return;
  throw BadField(param,
                 fmt::format("This model's maximum context length is {} tokens, but the prompt has {} bytes and so "
                             "more tokens than that",
                             max_context, prompt.size()),
                 "context_length_exceeded");
}

std::vector<int32_t> ServedModel::Encode(std::string_view prompt, bool add_special, const std::string& param) const {
  CheckBytes(prompt, param);
  const bool bos = add_special && text.add_bos_token && text.tokenizer.bos_id();
  return text.tokenizer.Encode(prompt, {.add_bos = bos});
}

std::vector<int32_t> ServedModel::EncodePlain(std::string_view prompt, const std::string& param) const {
  CheckBytes(prompt, param);
  return text.tokenizer.Encode(prompt, {.parse_special = false});
}

std::string ServedModel::RenderChat(const nlohmann::ordered_json& messages, bool thinking, bool add_generation_prompt,
                                    const nlohmann::ordered_json* tools,
                                    const nlohmann::ordered_json* variables) const {
  if (!chat) {
    throw BadField("messages",
                   fmt::format("{} is served for completion only: {}. Use /v1/completions, or start the server with "
                               "--template or --chat-template",
                               names.front(), no_chat),
                   "completion_only");
  }
  const tokenizer::ChatOptions options{.bos_token = text.bos_token,
                                       .eos_token = text.eos_token,
                                       .add_generation_prompt = add_generation_prompt,
                                       .thinking = thinking,
                                       .tools = tools,
                                       .variables = variables};
  const bool with_tools = (tools && !tools->empty()) || HasTools(messages);
  const Result<std::string> rendered = with_tools ? tokenizer::RenderToolChat(*chat, messages, options)
                                                  : tokenizer::RenderChat(*chat, messages, options);
  if (!rendered.ok()) throw BadField("messages", rendered.error().summary());
  return rendered.Value();
}

}  // namespace fathom::server
