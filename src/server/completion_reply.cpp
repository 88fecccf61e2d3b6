#include "server/completion_reply.h"

#include <fmt/format.h>

#include "server/json_text.h"
#include "server/logprobs_json.h"
#include "tokenizer/unicode.h"

namespace fathom::server {
namespace {

std::vector<PromptIds> EncodePrompts(const ServedModel& model, const CompletionRequest& r) {
  std::vector<PromptIds> prompts;
  for (size_t i = 0; i < r.prompts.size(); ++i) {
    const std::string name = r.is_list ? fmt::format("prompt[{}]", i) : "prompt";
    PromptIds p;
    if (const auto* text = std::get_if<std::string>(&r.prompts[i])) {
      p.ids = model.Encode(*text, r.add_special_tokens, name);
      if (p.ids.empty()) throw BadField(name, fmt::format("{} has no tokens", name));
      if (r.echo) p.echo = *text;
    } else {
      p.ids = std::get<std::vector<int32_t>>(r.prompts[i]);
      if (r.echo) p.echo = model.text.tokenizer.Decode(p.ids, r.common.skip_special);
    }
    model.CheckLength(static_cast<int64_t>(p.ids.size()), name);
    prompts.push_back(std::move(p));
  }
  return prompts;
}

}  // namespace

CompletionReply::CompletionReply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics,
                                 std::shared_ptr<Call> call, const CompletionRequest& request)
    : Reply(model, engine, metrics, std::move(call), request.common, EncodePrompts(model, request)) {}

std::vector<ShownToken> CompletionReply::EchoTokens(const State& state) const {
  if (!fields_.request.prompt_logprobs) return {};
  return PromptTokens(model_, fields_.skip_special, state.prompt.ids, state.prompt_tokens);
}

void CompletionReply::AppendText(std::string& out, std::string_view text, std::span<const ShownToken> tokens) const {
  out += "\"text\":";
  AppendQuoted(out, text);
  out += ",\"logprobs\":";
  if (WantsTokens()) {
    AppendLegacyLogprobs(out, model_, tokens);
  } else {
    out += "null";
  }
}

void CompletionReply::AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                                   std::string_view finish_reason) {
  if (!std::exchange(state.begun, true) && !state.prompt.echo.empty()) {
    OpenChunk(out, index);
    AppendText(out, state.prompt.echo, EchoTokens(state));
    CloseChunk(out, "");
  }
  if (delta.empty() && finish_reason.empty()) return;
  OpenChunk(out, index);
  AppendText(out, delta.content, delta.tokens);
  CloseChunk(out, finish_reason);
}

void CompletionReply::AppendChoice(std::string& out, size_t index, const State& state) const {
  std::vector<ShownToken> tokens = EchoTokens(state);
  tokens.insert(tokens.end(), state.text.tokens.begin(), state.text.tokens.end());
  fmt::format_to(std::back_inserter(out), "{{\"index\":{},", index);
  AppendText(out, state.prompt.echo + state.text.content, tokens);
  fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}})", state.finish_reason);
}

}  // namespace fathom::server
