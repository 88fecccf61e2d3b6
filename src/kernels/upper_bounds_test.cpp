// Upper bounds of products: every implementation against the reference, and bounds against the products.
#include "kernels/upper_bounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"

namespace fathom::kernels {
namespace {

struct Problem {
  int64_t rows, cols, m;
  DType dtype;
  float outlier = 1;  // factor of one value in 64 of x and of one in 96 of w
};

class UpperBound : public testing::TestWithParam<Problem> {
 protected:
  UpperBound() : pool_(2), arena_(int64_t{64} << 20) {
    const Problem& p = GetParam();
    Rng rng(7, static_cast<uint64_t>(p.rows * p.cols + p.m));
    const auto n = static_cast<size_t>(p.rows * p.cols);
    bits_.resize(n);
    w_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const float v = static_cast<float>(0.02 * rng.NextNormal()) * (i % 96 == 5 ? p.outlier : 1.0f);
      bits_[i] = F32ToBf16(v);
      w_[i] = p.dtype == DType::kBF16 ? Bf16ToF32(bits_[i]) : v;
    }
    x_.resize(static_cast<size_t>(p.m * p.cols));
    for (size_t i = 0; i < x_.size(); ++i)
      x_[i] = static_cast<float>(rng.NextNormal()) * (i % 64 == 3 ? p.outlier : 1.0f);
    weight_ = {.data = p.dtype == DType::kBF16 ? static_cast<const void*>(bits_.data()) : w_.data(),
               .dtype = p.dtype,
               .rows = p.rows,
               .cols = p.cols};
  }

  // Exactly as many rows of y as there are, behind which nothing may be written.
  std::vector<float> Bounds(Isa isa, bool round) {
    const Problem& p = GetParam();
    Context ctx{pool_, isa, {}};
    Code(ctx);
    const auto y = static_cast<size_t>(p.m * p.rows);
    std::vector<float> out(y + 1, -7.0f);
    const int64_t blocks = MaximaCount(p.rows);
    std::vector<float> maxima(static_cast<size_t>(p.m * blocks) + 1, -7.0f);
    UpperBounds(ctx, arena_,
                {.y = out.data(),
                 .ldy = p.rows,
                 .x = x_.data(),
                 .ldx = p.cols,
                 .m = p.m,
                 .w = coded_,
                 .round = round,
                 .maxima = maxima.data()});
    EXPECT_EQ(out.back(), -7.0f);
    EXPECT_EQ(maxima.back(), -7.0f);
    out.pop_back();
    for (int64_t i = 0; i < p.m * blocks; ++i) {
      const float* row = out.data() + i / blocks * p.rows;
      const int64_t begin = i % blocks * kMaximaOf, end = std::min(begin + kMaximaOf, p.rows);
      EXPECT_EQ(maxima[static_cast<size_t>(i)], *std::max_element(row + begin, row + end)) << i;
    }
    return out;
  }
  void Code(Context& ctx) {
    const Problem& p = GetParam();
    memory_ = Buffer(CodedBytes(p.rows, p.cols));
    coded_ = CodedMatrixIn(memory_.data(), p.rows, p.cols);
    CodeMatrix(ctx, weight_, coded_);
  }

  ThreadPool pool_;
  Arena arena_;
  std::vector<uint16_t> bits_;
  std::vector<float> w_, x_;
  Weight weight_;
  Buffer memory_;
  CodedMatrix coded_;
};
INSTANTIATE_TEST_SUITE_P(Sizes, UpperBound,
                         testing::Values(Problem{16, 64, 1, DType::kBF16}, Problem{300, 320, 3, DType::kBF16, 30},
                                         Problem{513, 256, 5, DType::kF32}, Problem{1000, 192, 24, DType::kBF16},
                                         Problem{777, 128, 31, DType::kBF16, 8}, Problem{65536, 64, 2, DType::kBF16},
                                         Problem{129, 1024, 70, DType::kF32, 100}, Problem{50, 96, 4, DType::kBF16},
                                         Problem{70, 37, 13, DType::kF32}),
                         [](const auto& test) {
                           const Problem& p = test.param;
                           return std::to_string(p.m) + "x" + std::to_string(p.cols) + "x" + std::to_string(p.rows);
                         });

TEST_P(UpperBound, EveryInstructionSetGivesTheReferencesBits) {
  for (bool round : {false, true}) {
    const std::vector<float> expected = Bounds(Isa::kReference, round);
    for (int i = 0; i < kIsaCount; ++i) {
      const Isa isa = static_cast<Isa>(i);
      if (!MachineHas(isa)) continue;
      EXPECT_EQ(Bounds(isa, round), expected) << Name(isa);
    }
  }
}

// Not below the product in exact arithmetic plus what float32 sums may be off, nor below what Linear gives; and not so
// far above that they would be of no use.
TEST_P(UpperBound, BoundsHold) {
  const Problem& p = GetParam();
  const bool round = p.dtype == DType::kBF16;
  const std::vector<float> bounds = Bounds(BestIsa(), round);
  std::vector<float> products(bounds.size());
  Context ctx{pool_, BestIsa(), {}};
  const LinearJob job{.y = products.data(), .ldy = p.rows, .x = x_.data(), .ldx = p.cols, .m = p.m, .w = weight_};
  Linear(ctx, arena_, {.jobs = std::span(&job, 1), .compute = round ? Compute::kBf16 : Compute::kF32});
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t n = 0; n < p.rows; ++n) {
      double exact = 0, xx = 0, ww = 0;
      for (int64_t k = 0; k < p.cols; ++k) {
        const float x = x_[static_cast<size_t>(i * p.cols + k)], w = w_[static_cast<size_t>(n * p.cols + k)];
        const double taken = round ? RoundToBf16(x) : x;
        exact += taken * w;
        xx += taken * taken;
        ww += static_cast<double>(w) * w;
      }
      const auto at = static_cast<size_t>(i * p.rows + n);
      const double sums_off = std::ldexp(static_cast<double>(p.cols), -24) * std::sqrt(xx * ww);
      ASSERT_GE(bounds[at], exact + sums_off) << i << " " << n;
      ASSERT_GE(bounds[at], products[at]) << i << " " << n;
      if (p.outlier == 1) {
        ASSERT_LE(bounds[at], exact + 0.05 * std::sqrt(xx * ww)) << i << " " << n;
      }
    }
  }
}

TEST_P(UpperBound, ValuesThatAreNotFiniteShow) {
  const Problem& p = GetParam();
  x_[static_cast<size_t>(p.cols - 1)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> bounds = Bounds(BestIsa(), false);
  for (int64_t n = 0; n < p.rows; ++n) EXPECT_FALSE(std::isfinite(bounds[static_cast<size_t>(n)]));
  w_[0] = std::numeric_limits<float>::infinity();
  bits_[0] = F32ToBf16(w_[0]);
  Context ctx{pool_, BestIsa(), {}};
  Code(ctx);
  EXPECT_EQ(coded_.norms[0], std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isfinite(coded_.norms[1]));
}

}  // namespace
}  // namespace fathom::kernels
