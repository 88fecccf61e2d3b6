#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace fathom::engine {

void Validate(const SamplingParams& p) {
  const auto require = [](bool ok, std::string_view field, double got, std::string_view expected) {
    if (!ok) throw Error(fmt::format("{} is out of range", field), fmt::format("{}", got), std::string(expected));
  };
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature, "0 or more");
  require(p.top_k >= 0, "top_k", static_cast<double>(p.top_k), "0 (off) or more");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "more than 0, at most 1");
  require(p.min_p >= 0 && p.min_p < 1, "min_p", p.min_p, "at least 0, less than 1");
  require(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty", p.repetition_penalty,
          "more than 0");
  require(std::fabs(p.presence_penalty) <= 2, "presence_penalty", p.presence_penalty, "-2 to 2");
  require(std::fabs(p.frequency_penalty) <= 2, "frequency_penalty", p.frequency_penalty, "-2 to 2");
}

int32_t ArgMax(std::span<const float> logits) {
  FATHOM_CHECK(!logits.empty());
  // Blockwise, so that the common case is a vector maximum; equal values keep the lowest index.
  constexpr size_t kBlock = 1024;
  float best = logits[0];
  size_t at = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t end = std::min(logits.size(), begin + kBlock);
    float m = logits[begin];
    for (size_t i = begin; i < end; ++i) m = logits[i] > m ? logits[i] : m;
    if (m > best) {
      best = m;
      at = static_cast<size_t>(std::find(logits.begin() + static_cast<std::ptrdiff_t>(begin),
                                         logits.begin() + static_cast<std::ptrdiff_t>(end), m) -
                               logits.begin());
    }
  }
  return static_cast<int32_t>(at);
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int64_t vocab_size) : params_(params) {
  Validate(params);
  if (params.repetition_penalty != 1.0) {
    in_prompt_.resize(static_cast<size_t>(vocab_size));
    for (int32_t id : prompt) in_prompt_[static_cast<size_t>(id)] = true;
  }
}

void Sampler::Accept(int32_t id) {
  ++step_;
  if (params_.repetition_penalty != 1.0) in_prompt_[static_cast<size_t>(id)] = true;
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) ++answer_[id];
}

void Sampler::Penalise(std::span<float> logits) const {
  if (params_.repetition_penalty != 1.0) {
    const float penalty = static_cast<float>(params_.repetition_penalty);
    for (size_t i = 0; i < in_prompt_.size(); ++i) {
      if (in_prompt_[i]) logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
    }
  }
  for (const auto& [id, count] : answer_) {
    logits[static_cast<size_t>(id)] -=
        static_cast<float>(params_.presence_penalty + params_.frequency_penalty * static_cast<double>(count));
  }
}

int32_t Sampler::Sample(std::span<float> logits) {
  Penalise(logits);
  const int32_t best = ArgMax(logits);
  if (params_.temperature == 0) return best;
  // Weights relative to the best token; what lies below min-p, or below what float32 can add, is dropped before
  // sorting.
  const double t = std::max(params_.temperature, 1e-5);
  const float top = logits[static_cast<size_t>(best)];
  const float floor =
      static_cast<float>(top + t * std::max(params_.min_p > 0 ? std::log(params_.min_p) : -1e30, -104.0));
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= floor) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  const auto better = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  if (params_.top_k > 0 && params_.top_k < static_cast<int64_t>(candidates_.size())) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k - 1, candidates_.end(), better);
    candidates_.resize(static_cast<size_t>(params_.top_k));
  }
  double sum = 0;
  const auto weight = [&](float logit) { return std::exp((static_cast<double>(logit) - top) / t); };
  for (auto& c : candidates_) sum += weight(c.first);
  if (params_.top_p < 1) {
    // The smallest set of the most likely tokens that reaches top_p, the one that crosses it included.
    std::sort(candidates_.begin(), candidates_.end(), better);
    double kept = 0;
    size_t n = 0;
    while (n < candidates_.size() && (n == 0 || kept < params_.top_p * sum)) kept += weight(candidates_[n++].first);
    candidates_.resize(n);
    sum = kept;
  }
  double draw = Rng(params_.seed, /*stream=*/0x5a17, static_cast<uint64_t>(step_)).NextDouble() * sum;
  for (const auto& c : candidates_) {
    draw -= weight(c.first);
    if (draw < 0) return c.second;
  }
  return candidates_.back().second;
}

}  // namespace fathom::engine
