#include "server/chat_reply.h"

#include <fmt/format.h>

#include "server/json_text.h"
#include "server/logprobs_json.h"

namespace fathom::server {

PromptIds EncodeChat(const ServedModel& model, const nlohmann::ordered_json& messages, bool thinking,
                     bool add_generation_prompt) {
  using tokenizer::ChatTemplate;
  const std::string text = model.RenderChat(messages, thinking, add_generation_prompt);
  const bool may_think = model.chat == ChatTemplate::kR1 || model.chat == ChatTemplate::kV31;
  return {.ids = model.Encode(text, /*add_special=*/false, "messages"),
          .echo = "",
          .start = ReasoningSplitter::StartOf(text, may_think)};
}

void ChatReply::AppendPart(std::string& out, size_t index, std::string_view field, std::string_view text,
                           std::span<const ShownToken> tokens) const {
  OpenChunk(out, index);
  fmt::format_to(std::back_inserter(out), "\"delta\":{{\"{}\":", field);
  AppendQuoted(out, text);
  out += "},\"logprobs\":";
  if (tokens.empty()) {
    out += "null";
  } else {
    AppendChatLogprobs(out, model_, tokens);
  }
  CloseChunk(out, "");
}

void ChatReply::AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                             std::string_view finish_reason) {
  if (!std::exchange(state.begun, true)) {
    OpenChunk(out, index);
    out += R"("delta":{"role":"assistant","content":""},"logprobs":null)";
    CloseChunk(out, "");
  }
  const bool thinks = !delta.reasoning.empty();
  if (thinks) AppendPart(out, index, "reasoning_content", delta.reasoning, delta.tokens);
  if (!delta.content.empty() || (!thinks && !delta.tokens.empty())) {
    AppendPart(out, index, "content", delta.content, thinks ? std::span<const ShownToken>() : delta.tokens);
  }
  if (finish_reason.empty()) return;
  OpenChunk(out, index);
  out += R"("delta":{},"logprobs":null)";
  CloseChunk(out, finish_reason);
}

void ChatReply::AppendChoice(std::string& out, size_t index, const State& state) const {
  fmt::format_to(std::back_inserter(out), R"({{"index":{},"message":{{"role":"assistant","content":)", index);
  AppendQuoted(out, state.text.content);
  if (!state.text.reasoning.empty()) {
    out += ",\"reasoning_content\":";
    AppendQuoted(out, state.text.reasoning);
  }
  out += "},\"logprobs\":";
  if (WantsTokens()) {
    AppendChatLogprobs(out, model_, state.text.tokens);
  } else {
    out += "null";
  }
  fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}})", state.finish_reason);
}

}  // namespace fathom::server
