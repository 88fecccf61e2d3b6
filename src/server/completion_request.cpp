#include "server/completion_request.h"

#include <fmt/format.h>

namespace fathom::server {
namespace {

constexpr int64_t kDefaultMaxTokens = 16, kDeepSeekMaxTokens = 4096;

// A string, a list of ids, or a list of either.
void ReadPrompts(const Fields& f, const ServedModel& model, CompletionRequest& r) {
  const Json* prompt = f.Find("prompt");
  const std::string name = f.Name("prompt");
  if (!prompt) f.Fail("prompt", "is missing");
  if (prompt->is_string()) {
    r.prompts.emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array())
    f.Fail("prompt", fmt::format("must be text, token ids, or a list of these, not {}", KindOf(*prompt)));
  if (prompt->empty()) f.Fail("prompt", "must not be empty");
  if (prompt->front().is_number()) {
    r.prompts.emplace_back(TokensOf(*prompt, name, model.vocab_size));
    return;
  }
  r.is_list = true;
  for (size_t i = 0; i < prompt->size(); ++i) {
    const Json& v = (*prompt)[i];
    const std::string item = fmt::format("{}[{}]", name, i);
    if (v.is_string()) {
      r.prompts.emplace_back(v.get<std::string>());
    } else if (v.is_array()) {
      if (v.empty()) throw BadField(item, fmt::format("{} must not be empty", item));
      r.prompts.emplace_back(TokensOf(v, item, model.vocab_size));
    } else {
      throw BadField(item, fmt::format("{} must be text or a list of token ids, not {}", item, KindOf(v)));
    }
  }
}

}  // namespace

CompletionRequest ReadCompletion(const Json& body, const ServedModel& model, bool deepseek) {
  const Fields f(body);
  CompletionRequest r;
  r.common = ReadGeneration(f, model);
  ReadPrompts(f, model, r);
  const auto answers = static_cast<int64_t>(r.prompts.size()) * r.common.n;
  if (answers > kMaxAnswers)
    f.Fail("prompt", fmt::format("asks for {} answers (prompts times n): at most {}", answers, kMaxAnswers));
  r.echo = f.Bool("echo").value_or(false);
  r.add_special_tokens = f.Bool("add_special_tokens").value_or(true);
  r.common.max_tokens =
      f.Int("max_tokens", r.echo ? 0 : 1, INT64_MAX).value_or(deepseek ? kDeepSeekMaxTokens : kDefaultMaxTokens);
  r.logprobs = f.Int("logprobs", 0, kMaxTopLogprobs).value_or(-1);
  r.common.request.logprobs = r.logprobs;
  r.common.request.prompt_logprobs = r.echo && r.logprobs >= 0;
  r.suffix = f.String("suffix").value_or("");
  if (!r.suffix.empty() && r.common.request.prompt_logprobs) {
    Refuse("echo", "with suffix and logprobs is not supported by this server");
  }
  // Who scores a prompt asks for one token behind it and drops the last of what comes back, whatever it is: so there
  // must be one even if it is the end of the text.
  if (r.common.request.prompt_logprobs) r.common.shown_eos.swap(r.common.request.eos_ids);
  // Who scores a prompt counts on one entry behind it: of an end of text too.
  if (r.common.request.prompt_logprobs && r.common.max_tokens == 1) r.common.request.eos_ids.clear();
  return r;
}

}  // namespace fathom::server
