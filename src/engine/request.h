// What is asked of the engine and what it answers. Token ids only: text, templates and stop strings belong to the
// callers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "engine/sampler.h"
#include "grammar/token_mask.h"

namespace fathom::engine {

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };
std::string_view Name(FinishReason reason);  // stop length cancelled error

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // of the answer; 0: the prompt is read (for prompt_logprobs) and nothing is chosen
  SamplingParams sampling;
  std::vector<int32_t> eos_ids;  // end the answer; not part of it
  // The answer is a text of it: what would lead out of it is never chosen, drafts included, eos_ids only where it is
  // complete. An answer that nothing can continue ends there, with kStop. Of the model's vocabulary.
  std::shared_ptr<grammar::CompiledGrammar> grammar;
  std::vector<int32_t> grammar_ends;  // allowed where eos_ids are, but part of the answer
  int priority = 0;                   // higher goes first and is preempted last
  uint64_t cache_scope = 0;           // prompts share cached prefixes within one scope only
  int64_t logprobs = -1;              // -1: none; n: of each token chosen, and of the n likeliest
  bool prompt_logprobs = false;       // the same for the tokens of the prompt; its cached prefix is then not used
  bool speculate = true;              // where the engine does
  bool reproducible = false;          // drafts are verified as kCoupled: they do not change what a seed gives
  bool record_experts = false;        // Answer::experts
};

// One token, chosen or of the prompt. Log-probabilities are the model's own: before penalties, bias and temperature.
struct Token {
  int32_t id = 0;
  float logprob = std::numeric_limits<float>::quiet_NaN();  // unless asked for
  std::vector<std::pair<int32_t, float>> top;               // likeliest first
};

struct Answer {
  FinishReason finish_reason = FinishReason::kLength;
  std::optional<Error> error;  // of kError
  std::vector<int32_t> ids;    // as on_token saw them
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt: not computed, because their latent rows were there
  int64_t drafted = 0, accepted = 0;
  int64_t preemptions = 0;
  double queue_seconds = 0;   // until its first token was in a step
  double prompt_seconds = 0;  // from there to the first token of the answer
  double decode_seconds = 0;  // from the first token to the last
  // record_experts: ids of the routed experts, (prompt + answer - 1 tokens, layers with experts, experts a token), in
  // the order of the router; for a training step that replays them. Of tokens that were found in the cache: -1.
  std::vector<int16_t> experts;
};

// What one step of the engine did for a sequence.
struct StepPart {
  enum class Kind : uint8_t { kPrompt, kDecode, kDraft };  // drafts: those for the next step
  Kind kind = Kind::kPrompt;
  std::chrono::steady_clock::time_point begin, end;  // of the step
  int64_t position = 0, tokens = 0;                  // tokens [position, position + tokens) were computed
  int64_t drafts = 0, kept = 0;                      // verified behind them, and found right; of kDraft: drafted
  int64_t rows = 0;                                  // of the step, those of other sequences too
};

// Called on the thread that steps the engine: they must not block.
struct Listener {
  std::function<bool(const Token&)> on_token;             // false: the answer ends here, with kStop
  std::function<void(std::span<const Token>)> on_prompt;  // prompt_logprobs: the next tokens of the prompt
  std::function<void(const Answer&)> on_finish;           // once, last
  std::function<void(const StepPart&)> on_step = {};      // for traces: before the step's on_token
};

}  // namespace fathom::engine
