// Log-probabilities as the two endpoints show them.
#pragma once

#include <span>
#include <string>

#include "server/choice.h"

namespace fathom::server {

// [{token, logprob, bytes, top_logprobs: [{token, logprob, bytes}]}]
void AppendTokenLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens);

// {"content": the same, "refusal": null}
void AppendChatLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens);
// {"content": the same, "reasoning_content": the same of what is thought}, as DeepSeek's API has it; null where none is
void AppendDeepSeekLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens);

// {tokens, token_logprobs, top_logprobs: [{token: logprob}], text_offset}. The token itself is always among its top
// ones. Bytes that are no text have names: "bytes:\xe2\x80". A token that has no log-probability, as a prompt's first,
// has null and null.
void AppendLegacyLogprobs(std::string& out, const ServedModel& model, std::span<const ShownToken> tokens);

// An echoed prompt's, whose log-probabilities begin with the second token.
std::vector<ShownToken> PromptTokens(const ServedModel& model, bool skip_special, std::span<const int32_t> ids,
                                     std::span<const engine::Token> tokens);

}  // namespace fathom::server
