// Choice of the experts: cases worked out by hand, on the reference and on the fast code; then both on random logits.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/rng.h"
#include "kernels/ops.h"

namespace fathom::kernels {
namespace {

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Choice RunGate(Isa isa, GateArgs args, const std::vector<float>& logits, const std::vector<float>& bias = {},
               int threads = 2) {
  args.tokens = static_cast<int64_t>(logits.size()) / args.experts;
  Choice c;
  c.ids.assign(static_cast<size_t>(args.tokens * args.top_k), -5);
  c.weights.assign(c.ids.size(), -5.0f);
  args.ids = c.ids.data();
  args.weights = c.weights.data();
  args.logits = logits.data();
  args.bias = bias.empty() ? nullptr : bias.data();
  ThreadPool pool(threads);
  Context ctx{pool, isa, {}};
  Gate(ctx, args);
  return c;
}

GateArgs Noaux(int64_t experts, int64_t top_k, int64_t n_group, int64_t topk_group) {
  GateArgs a;
  a.experts = experts;
  a.top_k = top_k;
  a.n_group = n_group;
  a.topk_group = topk_group;
  return a;
}
GateArgs Softmax(TopkMethod method, int64_t experts, int64_t top_k, int64_t n_group, int64_t topk_group) {
  GateArgs a = Noaux(experts, top_k, n_group, topk_group);
  a.method = method;
  a.sigmoid = false;
  a.norm_topk_prob = false;
  return a;
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class GateTest : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, GateTest, testing::Values(Isa::kReference, BestIsa()),
                         [](const auto& isa) { return isa.param == Isa::kReference ? "reference" : "fast"; });

TEST_P(GateTest, EqualScoresTakeTheLowerIndexFirst) {
  EXPECT_EQ(RunGate(GetParam(), Noaux(6, 3, 1, 1), {1, 2, 1, 2, 1, 1}).ids, (std::vector<int32_t>{1, 3, 0}));
  EXPECT_EQ(RunGate(GetParam(), Noaux(6, 6, 1, 1), {0, 0, 0, 0, 0, 0}).ids, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  // Equal groups too: the first two of three, whose sums of two are equal.
  EXPECT_EQ(RunGate(GetParam(), Noaux(6, 4, 3, 2), {1, 2, 2, 1, 2, 1}).ids, (std::vector<int32_t>{1, 2, 0, 3}));
}

// Group scores by the two best of four: -1 + -1.1 < 0 + 0 < 2 + -9; by the best alone the last would still win.
TEST_P(GateTest, GroupsAreJudgedByTheirTwoBest) {
  const std::vector<float> logits = {-1, -1.1f, -3, -3, 0, 0, -3, -3, 2, -9, -9, -9};
  const GateArgs args = Noaux(12, 2, 3, 1);  // sigmoid sums: 0.52, 1.0, 0.88
  EXPECT_EQ(RunGate(GetParam(), args, logits).ids, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(RunGate(GetParam(), Softmax(TopkMethod::kGroupLimitedGreedy, 12, 2, 3, 1), logits).ids,
            (std::vector<int32_t>{8, 9}));
  EXPECT_EQ(RunGate(GetParam(), Softmax(TopkMethod::kGreedy, 12, 3, 3, 1), logits).ids,
            (std::vector<int32_t>{8, 4, 5}));
}

TEST_P(GateTest, TheBiasSelectsAndDoesNotWeigh) {
  GateArgs args = Noaux(4, 2, 1, 1);
  args.routed_scaling_factor = 2.5f;
  const Choice c = RunGate(GetParam(), args, {0.5f, 2, -1, 1}, {0, -10, 10, 0});
  EXPECT_EQ(c.ids, (std::vector<int32_t>{2, 3}));
  const double sum = Sigmoid(-1) + Sigmoid(1);
  EXPECT_FLOAT_EQ(c.weights[0], static_cast<float>(2.5 * Sigmoid(-1) / sum));
  EXPECT_FLOAT_EQ(c.weights[1], static_cast<float>(2.5 * Sigmoid(1) / sum));
  args.norm_topk_prob = false;
  EXPECT_FLOAT_EQ(RunGate(GetParam(), args, {0.5f, 2, -1, 1}, {0, -10, 10, 0}).weights[1],
                  static_cast<float>(2.5 * Sigmoid(1)));
}

// Negative selection scores: a masked group must not come in at zero before them.
TEST_P(GateTest, MaskedGroupsStayOutUnderNegativeScores) {
  const std::vector<float> bias(8, -3.0f);
  EXPECT_EQ(RunGate(GetParam(), Noaux(8, 3, 2, 1), {-5, -6, -7, -8, 1, 1, 1, 0}, bias).ids,
            (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(RunGate(GetParam(), Noaux(8, 4, 2, 1), {3, -6, -7, 3, 1, 1, 1, 0}, bias).ids,
            (std::vector<int32_t>{0, 3, 1, 2}));
}

TEST_P(GateTest, SoftmaxWeights) {
  const Choice c = RunGate(GetParam(), Softmax(TopkMethod::kGreedy, 3, 2, 1, 1), {1, 3, 2});
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  EXPECT_EQ(c.ids, (std::vector<int32_t>{1, 2}));
  EXPECT_FLOAT_EQ(c.weights[0], static_cast<float>(std::exp(3.0) / sum));
  EXPECT_FLOAT_EQ(c.weights[1], static_cast<float>(std::exp(2.0) / sum));
}

TEST_P(GateTest, ExtremeLogitsAndNaNGiveValidIds) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  Choice c = RunGate(GetParam(), Noaux(4, 2, 1, 1), {-3e38f, 3e38f, -kInf, kInf});
  EXPECT_EQ(c.ids, (std::vector<int32_t>{1, 3}));
  EXPECT_FLOAT_EQ(c.weights[0], 0.5f);
  c = RunGate(GetParam(), Noaux(4, 3, 1, 1), {kNaN, 0, kNaN, 1});
  EXPECT_EQ(c.ids, (std::vector<int32_t>{3, 1, 0}));
  EXPECT_TRUE(std::isnan(c.weights[2]));
  c = RunGate(GetParam(), Noaux(4, 2, 2, 1), {kNaN, kNaN, kNaN, kNaN});
  EXPECT_EQ(c.ids, (std::vector<int32_t>{0, 1}));
}

// Scores are rounded once from double on both sides, so choices are equal and weights at most an ulp apart; the sums of
// two group scores and biases are float32 sums on both. Between instruction sets not a bit differs.
TEST(Gate, FastAgreesWithTheReference) {
  struct Dims {
    int64_t experts, top_k, n_group, topk_group;
  };
  for (const Dims& d : {Dims{24, 6, 1, 1}, Dims{24, 6, 4, 2}, Dims{256, 8, 8, 4}, Dims{160, 6, 8, 3}, Dims{64, 6, 1, 1},
                        Dims{5, 5, 5, 5}, Dims{2000, 8, 8, 4}}) {
    constexpr int64_t kTokens = 60;
    Rng rng(5, static_cast<uint64_t>(d.experts));
    std::vector<float> logits(static_cast<size_t>(kTokens * d.experts)), bias(static_cast<size_t>(d.experts));
    for (size_t i = 0; i < logits.size(); ++i) {
      logits[i] = static_cast<float>(rng.NextNormal() * 3);
      if (i % 7 == 0) logits[i] = std::round(logits[i]);  // equal ones
    }
    for (float& b : bias) b = static_cast<float>(rng.NextNormal() * 0.1);
    for (TopkMethod method : {TopkMethod::kNoauxTc, TopkMethod::kGreedy, TopkMethod::kGroupLimitedGreedy}) {
      for (bool sigmoid : {true, false}) {
        GateArgs args = Noaux(d.experts, d.top_k, d.n_group, d.topk_group);
        args.method = method;
        args.sigmoid = sigmoid;
        const Choice expected = RunGate(Isa::kReference, args, logits, bias);
        std::vector<float> first;
        for (int i = 1; i < kIsaCount; ++i) {
          if (!MachineHas(static_cast<Isa>(i))) continue;
          const Choice got = RunGate(static_cast<Isa>(i), args, logits, bias, 3);
          ASSERT_EQ(got.ids, expected.ids) << d.experts;
          for (size_t k = 0; k < got.ids.size(); ++k) ASSERT_FLOAT_EQ(got.weights[k], expected.weights[k]);
          if (first.empty()) first = got.weights;
          ASSERT_EQ(got.weights, first) << Name(static_cast<Isa>(i));
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
