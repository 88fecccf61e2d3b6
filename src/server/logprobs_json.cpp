#include "server/logprobs_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/utf8.h"
#include "server/json_text.h"

namespace fathom::server {
namespace {

void AppendToken(std::string& out, const ServedModel& model, int32_t id, float logprob) {
  const std::string_view bytes = model.TokenBytes(id);
  out += "{\"token\":";
  AppendQuoted(out, bytes);
  out += ",\"logprob\":";
  AppendLogprob(out, logprob);
  out += ",\"bytes\":[";
  for (size_t i = 0; i < bytes.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i > 0 ? "," : "", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

std::string LegacyName(const ServedModel& model, int32_t id) {
  const std::string_view bytes = model.TokenBytes(id);
  if (IsUtf8(bytes)) return std::string(bytes);
  std::string name = "bytes:";
  for (char c : bytes) fmt::format_to(std::back_inserter(name), "\\x{:02x}", static_cast<unsigned char>(c));
  return name;
}

// [a,b,...] by `append(element)`.
template <class T, class F>
void AppendElements(std::string& out, std::span<const T> elements, const F& append) {
  out += '[';
  for (size_t i = 0; i < elements.size(); ++i) {
    if (i > 0) out += ',';
    append(elements[i]);
  }
  out += ']';
}

template <class T, class F>
void AppendList(std::string& out, std::string_view name, std::span<const T> elements, const F& append) {
  fmt::format_to(std::back_inserter(out), "\"{}\":", name);
  AppendElements(out, elements, append);
}

}  // namespace

void AppendTokenLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens) {
  AppendElements(out, tokens, [&](const ShownToken& t) {
    AppendToken(out, model, t.token.id, t.token.logprob);
    out += ',';
    AppendList(out, "top_logprobs", std::span<const std::pair<int32_t, float>>(t.token.top), [&](const auto& top) {
      AppendToken(out, model, top.first, top.second);
      out += '}';
    });
    out += '}';
  });
}

void AppendChatLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens) {
  out += "{\"content\":";
  AppendTokenLogprobs(out, model, tokens);
  out += ",\"refusal\":null}";
}

void AppendDeepSeekLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens) {
  std::vector<ShownToken> parts[2];
  for (const ShownToken& t : tokens) parts[t.reasoning ? 1 : 0].push_back(t);
  for (int i = 0; i < 2; ++i) {
    out += i == 0 ? "{\"content\":" : ",\"reasoning_content\":";
    if (parts[i].empty()) {
      out += "null";
    } else {
      AppendTokenLogprobs(out, model, parts[i]);
    }
  }
  out += '}';
}

void AppendLegacyLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens) {
  out += '{';
  AppendList(out, "tokens", tokens, [&](const ShownToken& t) { AppendQuoted(out, LegacyName(model, t.token.id)); });
  out += ',';
  AppendList(out, "token_logprobs", tokens, [&](const ShownToken& t) { AppendLogprob(out, t.token.logprob); });
  out += ',';
  AppendList(out, "top_logprobs", tokens, [&](const ShownToken& t) {
    if (std::isnan(t.token.logprob)) {
      out += "null";
      return;
    }
    std::vector<std::pair<int32_t, float>> top = t.token.top;
    const bool there = std::any_of(top.begin(), top.end(), [&](const auto& e) { return e.first == t.token.id; });
    if (!there) top.emplace_back(t.token.id, t.token.logprob);
    out += '{';
    for (size_t i = 0; i < top.size(); ++i) {
      if (i > 0) out += ',';
      AppendQuoted(out, LegacyName(model, top[i].first));
      out += ':';
      AppendLogprob(out, top[i].second);
    }
    out += '}';
  });
  out += ',';
  AppendList(out, "text_offset", tokens, [&](const ShownToken& t) { out += std::to_string(t.offset); });
  out += '}';
}

std::vector<ShownToken> PromptTokens(const ServedModel& model, bool skip_special, std::span<const int32_t> ids,
                                     std::span<const engine::Token> tokens) {
  std::vector<ShownToken> shown;
  shown.reserve(ids.size());
  int64_t offset = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    ShownToken s{.token = {}, .offset = offset};
    s.token.id = ids[i];
    if (i > 0 && i - 1 < tokens.size()) s.token = tokens[i - 1];
    shown.push_back(std::move(s));
    if (!skip_special || !model.text.tokenizer.IsSpecial(ids[i])) offset += CountCharacters(model.TokenBytes(ids[i]));
  }
  return shown;
}

}  // namespace fathom::server
