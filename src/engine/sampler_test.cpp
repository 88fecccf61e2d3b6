#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/rng.h"
#include "engine/draws_test.h"

namespace fathom::engine {
namespace {

std::map<int32_t, double> Frequencies(const SamplingParams& base, const std::vector<float>& logits, int draws) {
  std::map<int32_t, double> seen;
  for (int i = 0; i < draws; ++i) {
    SamplingParams p = base;
    p.seed = static_cast<uint64_t>(i);
    Sampler sampler(p, {}, static_cast<int64_t>(logits.size()));
    std::vector<float> l = logits;
    seen[sampler.Sample(l)] += 1.0 / draws;
  }
  return seen;
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  std::vector<float> l = {1, 3, 2, 3};
  EXPECT_EQ(ArgMax(l), 1);
  SamplingParams p;
  p.temperature = 0;
  EXPECT_EQ(Sampler(p, {}, 4).Sample(l), 1);
}

TEST(Sampler, ArgMaxOverManyBlocks) {
  std::vector<float> l(5000, -1.0f);
  l[4321] = 2.0f;
  l[4999] = 2.0f;
  EXPECT_EQ(ArgMax(l), 4321);
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<float> logits = {0.0f, 1.0f, -2.0f, 0.5f};
  const int n = 40000;
  for (double t : {1.0, 0.5}) {
    SamplingParams p;
    p.temperature = t;
    double sum = 0;
    for (float l : logits) sum += std::exp(l / t);
    auto seen = Frequencies(p, logits, n);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double q = std::exp(logits[i] / t) / sum;
      EXPECT_NEAR(seen[static_cast<int32_t>(i)], q, 5 * std::sqrt(q * (1 - q) / n)) << i;  // five standard errors
    }
  }
}

TEST(Sampler, Filters) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  SamplingParams p;
  p.top_k = 2;
  EXPECT_EQ(Frequencies(p, logits, 500).size(), 2u);
  p = {};
  p.top_p = 0.75;  // 0.5 is not enough, 0.8 is
  EXPECT_EQ(Frequencies(p, logits, 500).size(), 2u);
  p = {};
  p.min_p = 0.2;  // of 0.5: 0.1
  EXPECT_EQ(Frequencies(p, logits, 500).size(), 3u);
}

TEST(Sampler, Penalties) {
  SamplingParams p;
  p.temperature = 0;
  p.repetition_penalty = 2.0;
  const std::vector<int32_t> prompt = {0};
  std::vector<float> l = {3, 2, -1};
  EXPECT_EQ(Sampler(p, prompt, 3).Sample(l), 1);
  EXPECT_EQ(l[0], 1.5f);
  p = {};
  p.temperature = 0;
  p.presence_penalty = 0.5;
  p.frequency_penalty = 0.25;
  Sampler s(p, {}, 3);
  s.Accept(0);
  s.Accept(0);
  l = {3, 2.5f, -1};
  EXPECT_EQ(s.Sample(l), 1);
  EXPECT_EQ(l[0], 2.0f);
}

TEST(Sampler, SameSeedSameTokens) {
  SamplingParams p;
  p.seed = 9;
  Sampler a(p, {}, 50), b(p, {}, 50);
  for (int i = 0; i < 20; ++i) {
    std::vector<float> l(50), m;
    for (size_t j = 0; j < 50; ++j) l[j] = static_cast<float>((j * 7 + static_cast<size_t>(i)) % 11) * 0.3f;
    m = l;
    const int32_t x = a.Sample(l);
    EXPECT_EQ(x, b.Sample(m));
    a.Accept(x);
    b.Accept(x);
  }
}

std::vector<float> RandomLogits(size_t n, uint64_t seed, double spread) {
  Rng rng(seed, 5);
  std::vector<float> l(n);
  for (float& x : l) x = static_cast<float>(spread * rng.NextNormal());
  return l;
}

// What may be drawn and with which probability: everything sorted, step by step.
std::vector<double> NaiveDistribution(const SamplingParams& p, std::vector<float> logits) {
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<size_t>(id)] += bias;
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  const double top = logits[order[0]];
  std::vector<double> w(logits.size(), 0);
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const double weight = std::exp((logits[order[i]] - top) / p.temperature);
    if (p.top_k > 0 && i >= static_cast<size_t>(p.top_k)) break;
    if (weight < p.min_p) break;
    w[order[i]] = weight;
    sum += weight;
  }
  double kept = 0;
  for (size_t i : order) {
    if (kept >= p.top_p * sum) w[i] = 0;
    kept += w[i];
  }
  const double all = std::accumulate(w.begin(), w.end(), 0.0);
  for (double& x : w) x /= all;
  return w;
}

// Filters of random settings, over rows shorter and longer than a block of sums or maxima. Weights have 2.5 ulp of exp,
// one of the quotient and the rounding of their argument, which is up to 30: 2^-23 (2 * 30 + 4) relative.
TEST(Sampler, DistributionsAsTheNaiveOnes) {
  Rng rng(11);
  for (int i = 0; i < 300; ++i) {
    const size_t n = std::vector<size_t>{3, 64, 200, 1030, 5000}[static_cast<size_t>(i % 5)];
    const std::vector<float> logits = RandomLogits(n, static_cast<uint64_t>(i), i % 3 ? 2.0 : 0.1);
    SamplingParams p;
    p.temperature = 0.5 + rng.NextDouble();
    if (rng.NextBelow(2)) p.top_k = 1 + rng.NextBelow(static_cast<int64_t>(n));
    if (rng.NextBelow(2)) p.top_p = 0.05 + 0.94 * rng.NextDouble();
    if (rng.NextBelow(3) == 0) p.min_p = 0.2 * rng.NextDouble();
    if (rng.NextBelow(2)) p.logit_bias = {{1, -100.0f}, {2, 3.0f}};
    std::vector<float> scratch = logits;
    const Sampler sampler(p, {}, static_cast<int64_t>(n));
    const Distribution d = sampler.Distribute(scratch);
    EXPECT_TRUE(std::is_sorted(d.ids.begin(), d.ids.end()));
    const std::vector<double> expected = NaiveDistribution(p, logits);
    for (size_t id = 0; id < n; ++id) {
      ASSERT_NEAR(d.Probability(static_cast<int32_t>(id)), expected[id], 64 * 0x1p-23 * expected[id] + 1e-30)
          << "row " << i << " of " << n << ", token " << id << ", top_k " << p.top_k << ", top_p " << p.top_p
          << ", min_p " << p.min_p;
    }
    scratch = logits;
    EXPECT_EQ(sampler.Sample(scratch), sampler.Draw(d, 0)) << i;
  }
}

// Rows where the unlikely run as one, and rows with more racers than there may be: by groups of tokens.
TEST(Sampler, DrawsOverManyTokens) {
  constexpr size_t kVocab = 3000, kGroup = 100;
  constexpr int kDraws = 6000;
  for (bool filtered : {false, true}) {
    for (double spread : {0.05, 3.0}) {
      std::vector<float> logits = RandomLogits(kVocab, 3, spread);
      for (size_t i = 2000; i < 2400; ++i) logits[i] = *std::max_element(logits.begin(), logits.end()) - 8.0f;
      SamplingParams p;
      if (filtered) p.top_k = 2900;
      std::vector<float> scratch = logits;
      const Distribution d = Sampler(p, {}, kVocab).Distribute(scratch);
      std::vector<double> expected(kVocab / kGroup, 0);
      for (size_t i = 0; i < kVocab; ++i) expected[i / kGroup] += d.Probability(static_cast<int32_t>(i));
      std::vector<int64_t> counts(expected.size(), 0);
      for (int i = 0; i < kDraws; ++i) {
        p.seed = static_cast<uint64_t>(i);
        ++counts[static_cast<size_t>(Sampler(p, {}, kVocab).Draw(d, 0)) / kGroup];
      }
      ExpectFollows(counts, expected, "spread " + std::to_string(spread));
    }
  }
}

// Two races with the same times: both are won by i with probability 1 / sum_j max(p_j / p_i, q_j / q_i).
TEST(Sampler, SimilarDistributionsDrawTheSame) {
  constexpr size_t kVocab = 40;
  constexpr int kDraws = 20000;
  const std::vector<float> a = RandomLogits(kVocab, 1, 1);
  std::vector<float> b = RandomLogits(kVocab, 2, 0.5);
  for (size_t i = 0; i < kVocab; ++i) b[i] += a[i];
  SamplingParams params;
  const Sampler one(params, {}, kVocab);
  std::vector<float> l = a, m = b;
  const Distribution p = one.Distribute(l), q = one.Distribute(m);
  double expected = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(kVocab); ++i) {
    double sum = 0;
    for (int32_t j = 0; j < static_cast<int32_t>(kVocab); ++j) {
      sum += std::max(p.Probability(j) / p.Probability(i), q.Probability(j) / q.Probability(i));
    }
    expected += 1 / sum;
  }
  int same = 0;
  for (int i = 0; i < kDraws; ++i) same += one.Draw(p, i) == one.Draw(q, i);
  EXPECT_NEAR(static_cast<double>(same) / kDraws, expected, 5 * std::sqrt(expected * (1 - expected) / kDraws));
  EXPECT_GT(expected, 0.5);
}

TEST(Sampler, BiasForbidsAndForces) {
  SamplingParams p;
  p.logit_bias = {{0, 100.0f}, {1, -100.0f}};
  const std::vector<float> logits = {0, 5, 1};
  EXPECT_EQ(Frequencies(p, logits, 200).begin()->first, 0);
  EXPECT_EQ(Frequencies(p, logits, 200).size(), 1u);
  p.temperature = 0;
  p.logit_bias = {{1, -100.0f}};
  std::vector<float> l = logits;
  EXPECT_EQ(Sampler(p, {}, 3).Sample(l), 2);
}

TEST(Sampler, InfiniteLogits) {
  const float infinity = std::numeric_limits<float>::infinity();
  SamplingParams p;
  EXPECT_EQ(Frequencies(p, {-infinity, 1, -infinity}, 100).size(), 1u);
  EXPECT_EQ(Frequencies(p, {-infinity, -infinity}, 10).size(), 1u);
  EXPECT_EQ(Frequencies(p, {0, infinity, 0}, 10).begin()->first, 1);
}

TEST(Sampler, LogProbabilities) {
  for (size_t n : {5u, 64u, 3000u}) {
    const std::vector<float> logits = RandomLogits(n, n, 4);
    double sum = 0;
    for (float l : logits) sum += std::exp(static_cast<double>(l));
    const double log_sum = LogSumExp(logits);
    EXPECT_NEAR(log_sum, std::log(sum), 1e-6 * (1 + std::fabs(log_sum)));
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    const auto top = TopLogprobs(logits, log_sum, 20);
    ASSERT_EQ(top.size(), std::min<size_t>(n, 20));
    for (size_t i = 0; i < top.size(); ++i) {
      EXPECT_EQ(top[i].first, order[i]);
      EXPECT_FLOAT_EQ(top[i].second, static_cast<float>(logits[static_cast<size_t>(order[i])] - log_sum));
    }
    EXPECT_TRUE(TopLogprobs(logits, log_sum, 0).empty());
  }
}

TEST(Sampler, RefusesByName) {
  SamplingParams p;
  p.top_p = 0;
  try {
    Validate(p);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.summary().find("top_p"), std::string::npos);
  }
  p = {};
  p.logit_bias = {{5, 1.0f}};
  EXPECT_THROW(Sampler(p, {}, 5), Error);  // no such token
  p.logit_bias = {{4, 100.5f}};
  EXPECT_THROW(Validate(p), Error);
  p.logit_bias = {{4, std::numeric_limits<float>::quiet_NaN()}};
  EXPECT_THROW(Validate(p), Error);
}

}  // namespace
}  // namespace fathom::engine
