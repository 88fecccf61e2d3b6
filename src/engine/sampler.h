// Choosing the next token from logits. Order as in vLLM and transformers: bias, penalties, temperature, then the
// filters min-p, top-k, top-p over the remaining distribution, then one draw. The draw is a pure function of (seed,
// position), so a run repeats itself.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/error.h"

namespace fathom::engine {

struct SamplingParams {
  double temperature = 1.0;  // 0: the most likely token
  int64_t top_k = 0;         // 0: off
  double top_p = 1.0;        // (0, 1]
  double min_p = 0.0;        // [0, 1): of the most likely token's probability
  double repetition_penalty =
      1.0;  // > 0; tokens of prompt and answer: logit / penalty if positive, * penalty if negative
  double presence_penalty = 0.0;                      // tokens of the answer, once each
  double frequency_penalty = 0.0;                     // tokens of the answer, per occurrence
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to the logits of these tokens; -100 to 100
  uint64_t seed = 0;
};
// Throws Error naming the first field out of range.
void Validate(const SamplingParams& params);

// Tokens that may be drawn and their weights (not normalised; more than 0, sum more than 0).
struct Distribution {
  std::vector<std::pair<int32_t, float>> weights;
  double sum = 0;
  double Probability(int32_t id) const;  // 0 if it may not be drawn; linear in the size
};

class Sampler {
 public:
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int64_t vocab_size);

  // The next token; logits (vocab,) are used as scratch. Call Accept with what was chosen.
  int32_t Sample(std::span<float> logits);
  void Accept(int32_t id);

  bool greedy() const { return params_.temperature == 0; }
  // What Sample draws from, after bias, penalties, temperature and filters.
  Distribution Distribute(std::span<float> logits) const;
  // The token of the distribution that position `ahead` (0: the next) draws; independent of the one of AcceptanceDraw.
  int32_t Draw(const Distribution& p, int64_t ahead) const;
  double AcceptanceDraw(int64_t ahead) const;  // uniform in [0, 1)

 private:
  void Penalise(std::span<float> logits) const;

  SamplingParams params_;
  int64_t step_ = 0;
  std::vector<bool> in_prompt_;
  std::unordered_map<int32_t, int64_t> answer_;  // occurrences
  std::vector<std::pair<float, int32_t>> candidates_;
};

// Index of the largest value, the lowest of equals.
int32_t ArgMax(std::span<const float> logits);

// log(sum e^logits), and the n likeliest tokens with their log-probabilities, likeliest first.
double LogSumExp(std::span<const float> logits);
std::vector<std::pair<int32_t, float>> TopLogprobs(std::span<const float> logits, double log_sum, int64_t n);

}  // namespace fathom::engine
