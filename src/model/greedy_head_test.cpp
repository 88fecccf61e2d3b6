// The greedy head against all logits: the same likeliest token, the same bits of its logit.
#include "model/greedy_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"

namespace fathom::model {
namespace {

class GreedyHeads : public testing::Test {
 protected:
  static constexpr int64_t kVocab = 5000, kWidth = 256, kRows = 19;

  GreedyHeads()
      : pool_(2), ctx_{pool_, BestIsa(), {}}, arena_(int64_t{64} << 20), w_(kVocab * kWidth), x_(kRows * kWidth) {
    Rng rng(11, 0);
    for (uint16_t& w : w_) w = F32ToBf16(static_cast<float>(0.02 * rng.NextNormal()));
    for (float& x : x_) x = static_cast<float>(rng.NextNormal());
  }
  kernels::Weight Head() const { return {.data = w_.data(), .dtype = DType::kBF16, .rows = kVocab, .cols = kWidth}; }
  std::unique_ptr<GreedyHead> Make() {
    auto head = GreedyHead::Make(ctx_, Head());
    if (head) head->Prepare(ctx_);
    return head;
  }
  Env InEnv(Compute compute, bool fixed_form) {
    return {.ctx = ctx_, .arena = arena_, .compute = compute, .fixed_form = fixed_form};
  }

  // Each row's likeliest token, the first of equals, and the bits of its logit.
  void ExpectLargest(GreedyHead& head, Compute compute, bool fixed_form) {
    const Env env = InEnv(compute, fixed_form);
    std::vector<float> got(kRows * kVocab), all(kVocab);
    head.Logits(env, x_.data(), kRows, got.data());
    for (int64_t row = 0; row < kRows; ++row) {
      env.Linear(all.data(), x_.data() + row * kWidth, 1, Head());
      const auto begin = got.begin() + row * kVocab;
      const auto expected = std::max_element(all.begin(), all.end()), found = std::max_element(begin, begin + kVocab);
      EXPECT_EQ(found - begin, expected - all.begin()) << row;
      EXPECT_EQ(*found, *expected) << row;
      for (int64_t n = 0; n < kVocab; ++n) ASSERT_GE(begin[n], all[static_cast<size_t>(n)]) << row << " " << n;
    }
  }

  ThreadPool pool_;
  Context ctx_;
  Arena arena_;
  std::vector<uint16_t> w_;
  std::vector<float> x_;
};

TEST_F(GreedyHeads, GivesTheLargestOfAllLogits) {
  const auto head = Make();
  if (!head) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  for (const Compute compute : {Compute::kBf16, Compute::kF32}) {
    for (const bool fixed_form : {false, true}) ExpectLargest(*head, compute, fixed_form);
  }
  EXPECT_EQ(head->loose_rows(), 0);
  EXPECT_EQ(head->bytes(), kernels::CodedBytes(kVocab, kWidth));
}

// Several tokens with the same row of lm_head, the largest of all: the first of them is the likeliest.
TEST_F(GreedyHeads, OfEqualsTheFirst) {
  for (int64_t k = 0; k < kWidth; ++k) {
    for (int64_t n : {4711, 17, 2500})
      w_[static_cast<size_t>(n * kWidth + k)] = F32ToBf16(0.1f * x_[static_cast<size_t>(k)]);
  }
  const auto head = Make();
  if (!head) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  std::vector<float> logits(kVocab);
  head->Logits(InEnv(Compute::kBf16, false), x_.data(), 1, logits.data());
  EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), 17);
  EXPECT_EQ(logits[17], logits[4711]);
}

// One value of x, which no logit depends on, is so much larger than the others that codes say nothing of them; and a
// row of zeros.
TEST_F(GreedyHeads, LooseBoundsCostTimeOnly) {
  for (int64_t row = 0; row < kRows; ++row) x_[static_cast<size_t>(row * kWidth + row)] = 3000;
  for (int64_t n = 0; n < kVocab; ++n) std::fill_n(w_.begin() + n * kWidth, kRows, uint16_t{0});
  std::fill_n(x_.begin(), kWidth, 0.0f);
  const auto head = Make();
  if (!head) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  for (int i = 0; i < 6; ++i) ExpectLargest(*head, Compute::kBf16, true);  // given up, rows are computed together
  EXPECT_GT(head->loose_rows(), kRows);
  EXPECT_LT(head->loose_rows(), 5 * kRows) << "bounds are still asked";
}

TEST_F(GreedyHeads, ALogitThatIsNotFiniteIsSeen) {
  const auto head = Make();
  if (!head) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  x_[5] = std::numeric_limits<float>::infinity();
  std::vector<float> logits(kVocab), all(kVocab);
  const Env env = InEnv(Compute::kBf16, false);
  head->Logits(env, x_.data(), 1, logits.data());
  env.Linear(all.data(), x_.data(), 1, Head());
  for (int64_t n = 0; n < kVocab; ++n) {
    const float a = all[static_cast<size_t>(n)], b = logits[static_cast<size_t>(n)];
    EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << n;
  }
}

TEST_F(GreedyHeads, IsNotMadeWhereItIsOfNoUse) {
  w_[77] = F32ToBf16(std::numeric_limits<float>::quiet_NaN());
  if (const auto head = Make()) {
    std::vector<float> logits(kRows * kVocab);
    head->Logits(InEnv(Compute::kBf16, false), x_.data(), kRows, logits.data());
    EXPECT_TRUE(std::isnan(logits[0])) << "all logits, that of the weight too";
    EXPECT_EQ(head->bytes(), 0);
  }
  Context reference{pool_, Isa::kReference, {}};
  EXPECT_EQ(GreedyHead::Make(reference, Head()), nullptr) << "bounds are not faster there";
  const kernels::Weight codes{.data = w_.data(), .dtype = DType::kF8E4M3, .rows = 100, .cols = 200};
  EXPECT_EQ(GreedyHead::Make(ctx_, codes), nullptr) << "they are of 8 bits already";
}

TEST_F(GreedyHeads, FitsItsPlan) {
  const auto head = GreedyHead::Make(ctx_, Head());
  if (!head) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  Arena planner = Arena::Planner();
  head->Logits({.ctx = ctx_, .arena = planner, .compute = Compute::kBf16}, nullptr, kRows, nullptr);
  head->Prepare(ctx_);
  Arena planned(planner.HighWater());
  std::vector<float> logits(kRows * kVocab);
  head->Logits({.ctx = ctx_, .arena = planned, .compute = Compute::kBf16}, x_.data(), kRows, logits.data());
  std::fill_n(x_.begin(), kWidth, 0.0f);  // with a loose row
  head->Logits({.ctx = ctx_, .arena = planned, .compute = Compute::kBf16}, x_.data(), kRows, logits.data());
  EXPECT_EQ(planned.Overflows(), 0);
}

}  // namespace
}  // namespace fathom::model
