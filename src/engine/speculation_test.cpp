#include "engine/speculation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/rng.h"
#include "engine/draws_test.h"

namespace fathom::engine {
namespace {

using Logits = std::vector<float>;

Logits TargetLogits(size_t n, uint64_t seed, double spread) {
  Rng rng(seed, 77);
  Logits l(n);
  for (float& x : l) x = static_cast<float>(spread * rng.NextNormal());
  return l;
}

// The target's logits, with noise: what an MTP module would say.
Logits Disturbed(Logits l, uint64_t seed, double noise) {
  Rng rng(seed, 78);
  for (float& x : l) x += static_cast<float>(noise * rng.NextNormal());
  return l;
}

std::vector<double> Probabilities(const Sampler& sampler, Logits logits) {
  const size_t n = logits.size();
  const Distribution p = sampler.Distribute(logits);
  std::vector<double> probabilities;
  for (size_t i = 0; i < n; ++i) probabilities.push_back(p.Probability(static_cast<int32_t>(i)));
  return probabilities;
}

struct Case {
  std::string name;
  SamplingParams target, draft;  // a draft may be drawn with other filters
  double noise = 1;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, double noise, auto set) -> Case& {
    Case c{std::move(name), {}, {}, noise};
    set(c.target);
    set(c.draft);
    return cases.emplace_back(std::move(c));
  };
  add("plain", 1, [](SamplingParams&) {});
  add("far apart", 4, [](SamplingParams&) {});
  add("the same", 0, [](SamplingParams&) {});
  add("temperature", 1, [](SamplingParams& p) { p.temperature = 0.6; });
  add("top-k", 1, [](SamplingParams& p) { p.top_k = 5; });
  add("top-p", 1, [](SamplingParams& p) { p.top_p = 0.8; });
  add("min-p", 1, [](SamplingParams& p) { p.min_p = 0.15; });
  add("all filters", 1, [](SamplingParams& p) {
    p.temperature = 0.9;
    p.top_k = 9;
    p.top_p = 0.9;
    p.min_p = 0.02;
  });
  add("penalties", 1, [](SamplingParams& p) {
    p.repetition_penalty = 1.3;
    p.presence_penalty = 0.4;
    p.frequency_penalty = 0.3;
    p.logit_bias = {{2, 1.5f}, {7, -100.0f}};
  });
  add("filtered target, plain draft", 1, [](SamplingParams&) {}).target.top_k = 4;
  add("plain target, filtered draft", 1, [](SamplingParams&) {}).draft.top_k = 4;
  return cases;
}

constexpr size_t kVocab = 14;
const std::vector<int32_t> kPrompt = {1, 2, 3, 3};

// Two steps of a sequence: what was accepted before has its penalties.
Sampler Started(SamplingParams params, uint64_t seed) {
  params.seed = seed;
  Sampler sampler(params, kPrompt, kVocab);
  for (int32_t id : {5, 5, 0}) sampler.Accept(id);
  return sampler;
}

TEST(Verify, RejectionIsDistributedAsPlainSampling) {
  constexpr int64_t kDraws = 10000;
  for (const Case& c : Cases()) {
    const Logits target = TargetLogits(kVocab, 1, 1.5), drafter = Disturbed(target, 2, c.noise);
    const std::vector<double> p = Probabilities(Started(c.target, 0), target),
                              q = Probabilities(Started(c.draft, 0), drafter);
    std::vector<int64_t> counts(kVocab), plain(kVocab);
    int64_t kept = 0;
    for (int64_t i = 0; i < kDraws; ++i) {
      Sampler s = Started(c.target, static_cast<uint64_t>(i)), d = Started(c.draft, static_cast<uint64_t>(i));
      Logits l = drafter;
      const Draft draft = DrawDraft(d, 0, l, Verification::kRejection);
      l = target;
      const Verified v = Verify(s, l, &draft, Verification::kRejection);
      ++counts[static_cast<size_t>(v.id)];
      EXPECT_EQ(v.kept, v.id == draft.id) << c.name;  // the rest has no weight left at the draft
      kept += v.kept;
      Sampler again = Started(c.target, static_cast<uint64_t>(i));
      l = target;
      ++plain[static_cast<size_t>(Verify(again, l, nullptr, Verification::kRejection).id)];
    }
    ExpectFollows(plain, p, c.name + ", no draft");
    ExpectFollows(counts, p, c.name);
    // Kept with probability sum of min(p, q): within six standard errors.
    double overlap = 0;
    for (size_t i = 0; i < kVocab; ++i) overlap += std::min(p[i], q[i]);
    EXPECT_NEAR(static_cast<double>(kept) / kDraws, overlap, 6 * std::sqrt(overlap * (1 - overlap) / kDraws) + 1e-6)
        << c.name;
  }
}

// A model whose logits depend on the last token and the position's parity, and its drafter.
struct Markov {
  std::vector<Logits> target, drafter;
  Markov(size_t vocab, double noise) {
    for (size_t i = 0; i < vocab; ++i) {
      target.push_back(TargetLogits(vocab, 10 + i, 1.2));
      drafter.push_back(Disturbed(target.back(), 20 + i, noise));
    }
  }
  size_t vocab() const { return target.size(); }
};

// An answer as the engine makes it: up to k drafts ahead, each from the one before it; then they are verified in turn.
std::vector<int32_t> Speculate(const Markov& m, const SamplingParams& params, int64_t length, int64_t k,
                               Verification how, int64_t* kept = nullptr) {
  Sampler sampler(params, {}, static_cast<int64_t>(m.vocab()));
  std::vector<int32_t> answer;
  int32_t last = 0;
  while (static_cast<int64_t>(answer.size()) < length) {
    std::vector<Draft> drafts;
    int32_t before = last;
    for (int64_t ahead = 0; ahead < k; ++ahead) {
      Logits l = m.drafter[static_cast<size_t>(before)];
      drafts.push_back(DrawDraft(sampler, ahead, l, how));
      before = drafts.back().id;
    }
    for (size_t i = 0; i <= drafts.size() && static_cast<int64_t>(answer.size()) < length; ++i) {
      Logits l = m.target[static_cast<size_t>(last)];
      const Verified v = Verify(sampler, l, i < drafts.size() ? &drafts[i] : nullptr, how);
      answer.push_back(last = v.id);
      if (kept) *kept += v.kept;
      if (!v.kept) break;
    }
  }
  return answer;
}

// The probability of each answer of `length` tokens, by its digits.
void Enumerate(const Markov& m, const SamplingParams& params, int64_t length, std::vector<int32_t>& answer, double p,
               std::vector<double>& all) {
  if (static_cast<int64_t>(answer.size()) == length) {
    all.push_back(p);
    return;
  }
  Sampler sampler(params, {}, static_cast<int64_t>(m.vocab()));
  for (int32_t id : answer) sampler.Accept(id);
  const std::vector<double> next =
      Probabilities(sampler, m.target[answer.empty() ? 0 : static_cast<size_t>(answer.back())]);
  for (size_t i = 0; i < next.size(); ++i) {
    answer.push_back(static_cast<int32_t>(i));
    Enumerate(m, params, length, answer, p * next[i], all);
    answer.pop_back();
  }
}

// Whole answers, so that draws used by one position for its draft and by the next step for another are seen to be
// independent where they must be.
TEST(Verify, WholeAnswersAreDistributedAsPlainOnes) {
  const Markov m(4, 1.0);
  SamplingParams plain, penalised, filtered;
  penalised.presence_penalty = 0.7;
  penalised.frequency_penalty = 0.4;
  filtered.top_p = 0.85;
  constexpr int64_t kLength = 4;
  for (SamplingParams params : {plain, penalised, filtered}) {
    std::vector<int32_t> prefix;
    std::vector<double> expected;
    Enumerate(m, params, kLength, prefix, 1, expected);
    for (int64_t k : {1, 3}) {
      std::vector<int64_t> counts(expected.size());
      for (uint64_t seed = 0; seed < 12000; ++seed) {
        params.seed = seed;
        size_t index = 0;
        for (int32_t id : Speculate(m, params, kLength, k, Verification::kRejection)) {
          index = index * m.vocab() + static_cast<size_t>(id);
        }
        ++counts[index];
      }
      ExpectFollows(counts, expected, "drafts " + std::to_string(k));
    }
  }
}

TEST(Verify, CoupledAnswersAreThePlainOnes) {
  const Markov m(30, 0.5);
  for (const Case& c : Cases()) {
    int64_t kept = 0;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      SamplingParams params = c.target;
      params.seed = seed;
      const auto plain = Speculate(m, params, 40, 0, Verification::kCoupled);
      EXPECT_EQ(Speculate(m, params, 40, 3, Verification::kCoupled, &kept), plain) << c.name;
    }
    EXPECT_GT(kept, 50) << c.name;
  }
}

TEST(Verify, GreedyKeepsTheLikeliest) {
  const Markov m(30, 0.5);
  SamplingParams params;
  params.temperature = 0;
  const auto plain = Speculate(m, params, 40, 0, Verification::kRejection);
  for (Verification how : {Verification::kRejection, Verification::kCoupled}) {
    int64_t kept = 0;
    EXPECT_EQ(Speculate(m, params, 40, 2, how, &kept), plain);
    EXPECT_GT(kept, 0);
  }
  Sampler s(params, {}, 3);
  Draft right{.id = 1, .q = {}}, wrong{.id = 2, .q = {}};
  Logits l = {0, 3, 3};
  EXPECT_TRUE(Verify(s, l, &right, Verification::kRejection).kept);
  const Verified v = Verify(s, l, &wrong, Verification::kRejection);
  EXPECT_FALSE(v.kept);
  EXPECT_EQ(v.id, 1);
}

TEST(SpeculationGain, TimesFollowAndInterpolate) {
  SpeculationGain gain;
  EXPECT_EQ(gain.StepSeconds(3), 0);
  EXPECT_EQ(gain.Best(1, 3), 3);  // nothing is known
  gain.AddStep(2, 1.0);
  gain.AddStep(8, 4.0);
  EXPECT_DOUBLE_EQ(gain.StepSeconds(1), 1.0);
  EXPECT_DOUBLE_EQ(gain.StepSeconds(2), 1.0);
  EXPECT_DOUBLE_EQ(gain.StepSeconds(4), 2.0);
  EXPECT_DOUBLE_EQ(gain.StepSeconds(16), 8.0);
  for (int i = 0; i < 100; ++i) gain.AddStep(8, 2.0);
  EXPECT_NEAR(gain.StepSeconds(8), 2.0, 1e-5);
}

TEST(SpeculationGain, CountsDraftsUpToTheFirstRejectedOne) {
  SpeculationGain gain;
  for (int i = 0; i < 1000; ++i) {
    gain.AddOutcome(3, 0);  // one tried
    gain.AddOutcome(3, 3);  // three tried
  }
  EXPECT_NEAR(gain.Acceptance(), 0.75, 0.01);
}

TEST(SpeculationGain, TokensPerSecondIsTheFormula) {
  SpeculationGain gain;
  for (int64_t rows : {1, 2, 3, 4, 8, 12, 16}) gain.AddStep(rows, 1 + 0.1 * static_cast<double>(rows));
  gain.AddDraft(1, 0.1);
  gain.AddDraft(4, 0.3);
  for (int i = 0; i < 5000; ++i) gain.AddOutcome(1, i % 10 < 6);
  const double a = gain.Acceptance();
  EXPECT_NEAR(a, 0.6, 0.02);
  EXPECT_NEAR(gain.TokensPerSecond(1, 0), 1 / 1.1, 1e-12);
  EXPECT_NEAR(gain.TokensPerSecond(1, 2), (1 + a + a * a) / (1.3 + 0.2), 1e-12);
  EXPECT_NEAR(gain.TokensPerSecond(4, 3), 4 * (1 + a + a * a + a * a * a) / (2.6 + 0.9), 1e-12);
  for (int64_t n : {1, 4}) {
    const int64_t best = gain.Best(n, 3);
    for (int64_t k = 0; k <= 3; ++k) EXPECT_LE(gain.TokensPerSecond(n, k), gain.TokensPerSecond(n, best));
  }
}

// Steps that cost the same for few rows and grow with many, as where weights are read for all rows at once: drafts pay
// for few sequences and not for many.
TEST(SpeculationGain, SwitchesOffForLargeBatches) {
  SpeculationGain gain;
  for (int64_t rows = 1; rows <= 256; rows *= 2) {
    gain.AddStep(rows, std::max(1.0, static_cast<double>(rows) / 16));
    gain.AddDraft(rows, 0.05);
  }
  for (int i = 0; i < 1000; ++i) gain.AddOutcome(1, i % 10 < 7);
  EXPECT_GE(gain.Best(1, 3), 2);
  EXPECT_EQ(gain.Best(64, 3), 0);
}

// Nothing is kept: drafts stop; after hundreds of steps they are tried again.
TEST(SpeculationGain, TriesAgain) {
  SpeculationGain gain;
  for (int64_t rows : {1, 2, 4}) gain.AddStep(rows, 1.0);
  gain.AddDraft(1, 0.2);
  for (int i = 0; i < 200; ++i) gain.AddOutcome(1, 0);
  EXPECT_EQ(gain.Best(1, 3), 0);
  int steps = 0;
  while (gain.Best(1, 3) == 0 && steps < 100000) {
    gain.AddStep(1, 1.0);
    ++steps;
  }
  EXPECT_GT(steps, 100);
  EXPECT_LT(steps, 3000);
}

}  // namespace
}  // namespace fathom::engine
