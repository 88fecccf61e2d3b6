#include "server/completion_reply.h"

#include <fmt/format.h>

#include "data/fim.h"
#include "server/json_text.h"
#include "server/logprobs_json.h"
#include "tokenizer/unicode.h"

namespace fathom::server {
namespace {

data::FimTokens FimTokensOf(const ServedModel& model) {
  const std::optional<data::FimTokens> fim = data::FindFimTokens(model.text.tokenizer);
  if (!fim) Refuse("suffix", fmt::format("cannot be used: {} has no fill-in-the-middle tokens", model.names.front()));
  return *fim;
}

// Text in which neither special tokens nor these have names: behind the first byte of such a name it is cut.
std::vector<int32_t> EncodeBetween(const ServedModel& model, const data::FimTokens& fim, std::string_view text,
                                   const std::string& param) {
  std::vector<int32_t> ids;
  const auto add = [&](std::string_view piece) {
    const std::vector<int32_t> more = model.EncodePlain(piece, param);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  model.CheckBytes(text, param);
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    for (int32_t id : {fim.begin, fim.hole, fim.end}) {
      const std::string_view name = model.TokenBytes(id);
      if (text.compare(i, name.size(), name) != 0) continue;
      add(text.substr(begin, i + 1 - begin));
      begin = i + 1;
      break;
    }
  }
  add(text.substr(begin));
  return ids;
}

// <begin> prompt <hole> suffix <end>, and the model writes what was in the hole.
std::vector<int32_t> FillInTheMiddle(const ServedModel& model, const data::FimTokens& fim,
                                     const std::vector<int32_t>& prompt, const std::vector<int32_t>& suffix,
                                     bool add_special) {
  std::vector<int32_t> ids;
  const auto bos = model.text.tokenizer.bos_id();
  if (add_special && model.text.add_bos_token && bos) ids.push_back(*bos);
  ids.push_back(fim.begin);
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  ids.push_back(fim.hole);
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  ids.push_back(fim.end);
  return ids;
}

}  // namespace

std::vector<PromptIds> EncodePrompts(const ServedModel& model, const CompletionRequest& r) {
  std::vector<PromptIds> prompts;
  const bool middle = !r.suffix.empty();
  const data::FimTokens fim = middle ? FimTokensOf(model) : data::FimTokens{};
  const std::vector<int32_t> suffix = middle ? EncodeBetween(model, fim, r.suffix, "suffix") : std::vector<int32_t>{};
  for (size_t i = 0; i < r.prompts.size(); ++i) {
    const std::string name = r.is_list ? fmt::format("prompt[{}]", i) : "prompt";
    PromptIds p;
    if (const auto* text = std::get_if<std::string>(&r.prompts[i])) {
      p.ids = middle ? EncodeBetween(model, fim, *text, name) : model.Encode(*text, r.add_special_tokens, name);
      if (p.ids.empty() && !middle) throw BadField(name, fmt::format("{} has no tokens", name));
      if (r.echo) p.echo = *text;
    } else {
      p.ids = std::get<std::vector<int32_t>>(r.prompts[i]);
      if (r.echo) p.echo = model.text.tokenizer.Decode(p.ids, r.common.skip_special);
    }
    if (middle) p.ids = FillInTheMiddle(model, fim, p.ids, suffix, r.add_special_tokens);
    model.CheckLength(static_cast<int64_t>(p.ids.size()), name);
    prompts.push_back(std::move(p));
  }
  return prompts;
}

CompletionReply::CompletionReply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics,
                                 std::shared_ptr<Call> call, const CompletionRequest& request)
    : OpenAiReply(model, engine, metrics, std::move(call), request.common, EncodePrompts(model, request)) {}

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
