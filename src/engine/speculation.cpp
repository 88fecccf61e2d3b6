#include "engine/speculation.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fathom::engine {
namespace {

// Turns p into max(0, p - q) in p's unit; p is of the whole vocabulary, its weights are `weights`.
DistributionView SubtractFrom(std::span<float> weights, Distribution& storage, const Distribution& q, double unit,
                              Isa isa) {
  if (q.ids.empty()) {
    kernels::ExcessSums(isa, weights.data(), storage.block_sums.data(), q.weights.data(), std::ssize(weights),
                        static_cast<float>(unit));
  } else {
    for (size_t i = 0; i < q.ids.size(); ++i) {
      const auto id = static_cast<size_t>(q.ids[i]);
      const float rest = static_cast<float>(std::max(0.0, weights[id] - q.weights[i] * unit));
      storage.block_sums[id / DistributionView::kBlock] -= weights[id] - rest;
      weights[id] = rest;
    }
  }
  storage.sum = 0;
  for (double sum : storage.block_sums) storage.sum += sum;
  return {{}, weights, storage.block_sums, storage.sum};
}

// The same for a p of some tokens only. scratch (V,).
DistributionView SubtractFrom(Distribution& p, std::span<float> scratch, const Distribution& q, double unit) {
  std::span<const float> weight_of = q.weights;  // by id
  if (!q.ids.empty()) {
    for (int32_t id : p.ids) scratch[static_cast<size_t>(id)] = 0;
    for (size_t i = 0; i < q.ids.size(); ++i) scratch[static_cast<size_t>(q.ids[i])] = q.weights[i];
    weight_of = scratch;
  }
  p.sum = 0;
  for (size_t i = 0; i < p.ids.size(); ++i) {
    const double less = p.weights[i] - weight_of[static_cast<size_t>(p.ids[i])] * unit;
    p.weights[i] = static_cast<float>(std::max(0.0, less));
    p.sum += p.weights[i];
  }
  return p.view();
}

// Algorithm 1 of Leviathan et al. 2023 for one draft.
Verified Reject(const Sampler& sampler, std::span<float> logits, const Draft& draft) {
  Distribution storage;
  const DistributionView p = sampler.Distribute(logits, storage);
  const double wanted = p.Probability(draft.id), drawn = draft.q.Probability(draft.id);
  if (sampler.AcceptanceDraw(0) * drawn < wanted) return {draft.id, true};
  const double unit = p.sum / draft.q.sum;
  const DistributionView rest = p.ids.empty() ? SubtractFrom(logits, storage, draft.q, unit, sampler.isa())
                                              : SubtractFrom(storage, logits, draft.q, unit);
  // p and q differ by rounding only: so does their quotient from 1.
  if (rest.sum <= 0) return {draft.id, true};
  return {rest.At(sampler.ResidualDraw(0)), false};
}

}  // namespace

Draft DrawDraft(const Sampler& sampler, int64_t ahead, std::span<float> logits, Verification how) {
  Draft draft;
  if (how == Verification::kRejection && !sampler.greedy()) {
    draft.q = sampler.Distribute(logits);
    draft.id = sampler.Draw(draft.q, ahead);
  } else {
    Distribution storage;
    draft.id = sampler.Draw(sampler.Distribute(logits, storage), ahead);
  }
  return draft;
}

Verified Verify(Sampler& sampler, std::span<float> logits, const Draft* draft, Verification how) {
  Verified next;
  if (draft && how == Verification::kRejection && !sampler.greedy()) {
    next = Reject(sampler, logits, *draft);
  } else {
    next.id = sampler.Sample(logits);
    next.kept = draft && draft->id == next.id;
  }
  sampler.Accept(next.id);
  return next;
}

namespace {

constexpr double kLatest = 0.125;        // weight of a new time in its mean
constexpr double kOutcomes = 200;        // drafts that the acceptance remembers
constexpr double kForgetful = 1 / 500.;  // of what it remembers it forgets in a step, so that a choice against drafts
                                         // is tried again
constexpr double kExpected = 0.8, kExpectedWeight = 16;  // acceptance before any outcome (V3 report: 0.85 to 0.9)

}  // namespace

SpeculationGain::SpeculationGain() = default;

void SpeculationGain::Times::Add(int64_t rows, double seconds) {
  const auto at =
      std::lower_bound(mean.begin(), mean.end(), rows, [](const auto& m, int64_t r) { return m.first < r; });
  if (at != mean.end() && at->first == rows) {
    at->second += kLatest * (seconds - at->second);
  } else {
    mean.insert(at, {rows, seconds});
  }
}

// Before the first and behind the last measured count: as there, in proportion to the rows at most.
double SpeculationGain::Times::At(int64_t rows) const {
  if (mean.empty()) return 0;
  const auto at =
      std::lower_bound(mean.begin(), mean.end(), rows, [](const auto& m, int64_t r) { return m.first < r; });
  if (at == mean.begin()) return at->second;
  const auto before = at - 1;
  if (at == mean.end()) {
    return before->second * static_cast<double>(rows) / static_cast<double>(before->first);
  }
  const double share = static_cast<double>(rows - before->first) / static_cast<double>(at->first - before->first);
  return before->second + share * (at->second - before->second);
}

void SpeculationGain::AddStep(int64_t rows, double seconds) {
  steps_.Add(rows, seconds);
  kept_ *= 1 - kForgetful;
  tried_ *= 1 - kForgetful;
}

void SpeculationGain::AddDraft(int64_t sequences, double seconds) { drafts_.Add(sequences, seconds); }

void SpeculationGain::AddOutcome(int64_t drafted, int64_t kept) {
  FATHOM_CHECK(kept >= 0 && kept <= drafted);
  const double tried = static_cast<double>(std::min(drafted, kept + 1));
  const double stays = 1 - std::min(1.0, tried / kOutcomes);
  kept_ = kept_ * stays + static_cast<double>(kept);
  tried_ = tried_ * stays + tried;
}

double SpeculationGain::StepSeconds(int64_t rows) const { return steps_.At(rows); }
double SpeculationGain::DraftSeconds(int64_t sequences) const { return drafts_.At(sequences); }
double SpeculationGain::Acceptance() const {
  return (kept_ + kExpected * kExpectedWeight) / (tried_ + kExpectedWeight);
}

double SpeculationGain::TokensPerSecond(int64_t sequences, int64_t drafts) const {
  const double a = Acceptance();
  double tokens = 1, chance = 1;
  for (int64_t i = 0; i < drafts; ++i) tokens += chance *= a;
  const double seconds = StepSeconds(sequences * (1 + drafts)) + static_cast<double>(drafts) * DraftSeconds(sequences);
  return seconds > 0 ? static_cast<double>(sequences) * tokens / seconds : 0;
}

int64_t SpeculationGain::Best(int64_t sequences, int64_t max_drafts) const {
  if (steps_.mean.empty() || drafts_.mean.empty()) return max_drafts;
  int64_t best = 0;
  for (int64_t k = 1; k <= max_drafts; ++k) {
    if (TokensPerSecond(sequences, k) > TokensPerSecond(sequences, best)) best = k;
  }
  return best;
}

}  // namespace fathom::engine
