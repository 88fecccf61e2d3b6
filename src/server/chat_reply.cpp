#include "server/chat_reply.h"

#include <fmt/format.h>

#include "server/json_text.h"
#include "server/logprobs_json.h"

namespace fathom::server {

namespace {

// What stands between <think> and </think> goes there, whatever the template has opened or closed by itself.
void AppendPrefix(const AnswerPrefix& prefix, tokenizer::ChatTemplate chat, bool opened, std::string& text) {
  const std::string_view line =
      chat == tokenizer::ChatTemplate::kR1 ? "\n" : "";  // R1 writes tags in lines of their own
  if (!prefix.reasoning.empty()) {
    if (!opened) text.append("<think>").append(line);
    text += prefix.reasoning;
  }
  if (!prefix.content.empty()) {
    if (opened || !prefix.reasoning.empty()) text.append(line).append("</think>").append(line).append(line);
    text += prefix.content;
  }
}

}  // namespace

PromptIds EncodeChat(const ServedModel& model, const ChatRequest& request) {
  using Start = ReasoningSplitter::Start;
  const AnswerPrefix& prefix = request.prefix;
  const bool may_think = model.chat && model.chat->may_think();
  if (!prefix.reasoning.empty() && !may_think) {
    throw BadField("messages", "reasoning_content of the prefix: this model's template has no reasoning");
  }
  const bool thinking =
      prefix.content.empty() ? request.thinking || !prefix.reasoning.empty() : !prefix.reasoning.empty();
  std::string text = model.RenderChat(request.messages, thinking, true, &request.tools.shown, &request.variables);
  model.CheckBytes(text, "messages");
  Start start = ReasoningSplitter::StartOf(text, may_think);
  AppendPrefix(prefix, *model.chat, start == Start::kThinking, text);
  if (!prefix.content.empty()) {
    start = Start::kAnswering;
  } else if (!prefix.reasoning.empty()) {
    start = Start::kThinking;
  }
  PromptIds prompt{.ids = EncodeConversation(model.text.tokenizer, model.answers.get(), text, model.text.eos_token,
                                             AnswersOf(request.messages, model.chat->tool_format())),
                   .echo = "",
                   .start = start};
  model.CheckLength(static_cast<int64_t>(prompt.ids.size()), "messages");
  return prompt;
}

void ChatReply::AppendLogprobs(std::string& out, std::span<const ShownToken> tokens) const {
  const bool deepseek = call().dialect() == Dialect::kDeepSeek;
  (deepseek ? AppendDeepSeekLogprobs : AppendChatLogprobs)(out, model_, tokens);
}

void ChatReply::AppendPart(std::string& out, size_t index, std::string_view field, std::string_view text,
                           std::span<const ShownToken> tokens) {
  OpenChunk(out, index);
  fmt::format_to(std::back_inserter(out), "\"delta\":{{\"{}\":", field);
  AppendQuoted(out, text);
  out += "},\"logprobs\":";
  if (tokens.empty()) {
    out += "null";
  } else {
    AppendLogprobs(out, tokens);
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
  for (const CallDelta& call : delta.calls) AppendCall(out, index, call);
  if (finish_reason.empty()) return;
  OpenChunk(out, index);
  out += R"("delta":{},"logprobs":null)";
  CloseChunk(out, finish_reason);
}

// The name in a chunk of its own, as OpenAI sends it.
void ChatReply::AppendCall(std::string& out, size_t index, const CallDelta& call) {
  if (!call.name.empty()) {
    OpenChunk(out, index);
    fmt::format_to(std::back_inserter(out),
                   R"("delta":{{"tool_calls":[{{"index":{},"id":"{}","type":"function","function":{{"name":"{}",)"
                   R"("arguments":""}}}}]}},"logprobs":null)",
                   call.index, call.id, call.name);
    CloseChunk(out, "");
  }
  if (call.arguments.empty()) return;
  OpenChunk(out, index);
  fmt::format_to(std::back_inserter(out), R"("delta":{{"tool_calls":[{{"index":{},"function":{{"arguments":)",
                 call.index);
  AppendQuoted(out, call.arguments);
  out += R"(}}]},"logprobs":null)";
  CloseChunk(out, "");
}

void ChatReply::AppendChoice(std::string& out, size_t index, const State& state) const {
  fmt::format_to(std::back_inserter(out), R"({{"index":{},"message":{{"role":"assistant","content":)", index);
  if (state.text.calls.empty() || !state.text.content.empty()) {
    AppendQuoted(out, state.text.content);
  } else {
    out += "null";
  }
  if (!state.text.calls.empty()) out += ",\"tool_calls\":[";
  for (const CallDelta& call : state.text.calls) {
    if (call.index > 0) out += ',';
    fmt::format_to(std::back_inserter(out), R"({{"id":"{}","type":"function","function":{{"name":"{}","arguments":)",
                   call.id, call.name);
    AppendQuoted(out, call.arguments);
    out += "}}";
  }
  if (!state.text.calls.empty()) out += ']';
  if (!state.text.reasoning.empty()) {
    out += ",\"reasoning_content\":";
    AppendQuoted(out, state.text.reasoning);
  }
  out += "},\"logprobs\":";
  if (WantsTokens()) {
    AppendLogprobs(out, state.text.tokens);
  } else {
    out += "null";
  }
  fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}})", state.finish_reason);
}

}  // namespace fathom::server
