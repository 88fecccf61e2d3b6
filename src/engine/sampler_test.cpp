#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

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

TEST(Sampler, RefusesByName) {
  SamplingParams p;
  p.top_p = 0;
  try {
    Validate(p);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.summary().find("top_p"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom::engine
