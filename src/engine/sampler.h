// Choosing the next token from logits. Order as in vLLM and transformers: bias, penalties, temperature, then the
// filters min-p, top-k, top-p over the remaining distribution, then one draw. The draw is a pure function of (seed,
// position, distribution), so a run repeats itself, and similar distributions draw the same token as often as is
// possible without knowing each other (docs/speculation.md).
//
// Microseconds for a row of 129280 logits, on a core of the machine of docs/performance.md: greedy 5, top-k 50 12, all
// tokens 40, to 65 where a thousand are likely, top-p 40 to 60; top-p over tokens that are nearly all alike 5,000 to
// 10,000. LogSumExp 35, TopLogprobs of 20 9.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/context.h"
#include "core/error.h"
#include "kernels/logit_ops.h"

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
void Validate(const SamplingParams& params, int64_t vocab_size = std::numeric_limits<int32_t>::max());

// Tokens that may be drawn and their weights, relative to the likeliest (not normalised; the sum is more than 0).
struct DistributionView {
  static constexpr int64_t kBlock = kernels::kExpSumOf;

  std::span<const int32_t> ids;  // ascending; empty: weights[id], of the whole vocabulary
  std::span<const float> weights;
  std::span<const double> block_sums;  // of kBlock weights each, where ids is empty
  double sum = 0;

  int32_t Id(size_t place) const { return ids.empty() ? static_cast<int32_t>(place) : ids[place]; }
  // The token at the share u of the sum, 0 <= u < 1, the weights laid one behind the other.
  int32_t At(double u) const;
  double Probability(int32_t id) const;  // 0 if it may not be drawn; linear in the size of ids
};
// The same, owned.
struct Distribution {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<double> block_sums;
  double sum = 0;

  DistributionView view() const { return {ids, weights, block_sums, sum}; }
  double Probability(int32_t id) const { return view().Probability(id); }
};

// Thread-compatible: const members may be called from many threads at once.
class Sampler {
 public:
  // Throws what Validate throws. isa: of the kernels that it uses.
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int64_t vocab_size, Isa isa = BestIsa());

  // The next token; logits (vocab,) are used as scratch. Call Accept with what was chosen. A likeliest logit that is
  // not finite is chosen.
  int32_t Sample(std::span<float> logits) const;
  void Accept(int32_t id);

  bool greedy() const { return params_.temperature == 0; }
  // The largest logit as it comes from the model is chosen: greedy, and nothing changes logits before.
  bool plain_greedy() const;
  Isa isa() const { return isa_; }
  // What Sample draws from, after bias, penalties, temperature and filters; greedy: the one token.
  Distribution Distribute(std::span<float> logits) const;
  // The same without a copy: weights of the whole vocabulary stay in logits, others come into `storage`.
  DistributionView Distribute(std::span<float> logits, Distribution& storage) const;
  // The token of the distribution that position `ahead` (0: the next) draws; independent of the two draws below.
  int32_t Draw(const DistributionView& p, int64_t ahead) const;
  int32_t Draw(const Distribution& p, int64_t ahead) const { return Draw(p.view(), ahead); }
  double AcceptanceDraw(int64_t ahead) const;  // uniform in [0, 1)
  double ResidualDraw(int64_t ahead) const;    // uniform in [0, 1): for the token instead of a rejected draft

 private:
  void Penalise(std::span<float> logits) const;
  void See(int32_t id);

  SamplingParams params_;
  int64_t vocab_size_;
  Isa isa_;
  int64_t step_ = 0;
  std::vector<bool> seen_;                       // in the prompt or the answer; only with a repetition penalty
  std::vector<int32_t> seen_ids_;                // these, each once
  std::unordered_map<int32_t, int64_t> answer_;  // occurrences
};

// Index of the largest value, the lowest of equals.
int32_t ArgMax(std::span<const float> logits, Isa isa = BestIsa());

// log(sum e^logits), and the n likeliest tokens with their log-probabilities, likeliest first (equals: lower id first).
double LogSumExp(std::span<const float> logits, Isa isa = BestIsa());
std::vector<std::pair<int32_t, float>> TopLogprobs(std::span<const float> logits, double log_sum, int64_t n,
                                                   Isa isa = BestIsa());

}  // namespace fathom::engine
