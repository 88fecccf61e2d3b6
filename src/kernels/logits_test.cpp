// Operations on a row of logits, of every instruction set of this machine, against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "kernels/logit_ops.h"
#include "kernels/reference/logits.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kSizes[] = {1, 3, 15, 16, 17, 63, 64, 65, 128, 1000, 1023, 1024, 1025, 1087, 3001, 9000};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (int i = 0; i < kIsaCount; ++i) {
    if (MachineHas(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

class Logits : public testing::TestWithParam<Isa> {
 protected:
  // One value before the row, so that it is not aligned.
  static std::vector<float> Random(int64_t n, double spread) {
    Rng rng(3, static_cast<uint64_t>(n));
    std::vector<float> v(static_cast<size_t>(n + 1));
    for (float& x : v) x = static_cast<float>(spread * rng.NextNormal());
    return v;
  }
};
INSTANTIATE_TEST_SUITE_P(Isa, Logits, testing::ValuesIn(Isas()),
                         [](const auto& isa) { return std::string(Name(isa.param)); });

TEST_P(Logits, Maxima) {
  for (int64_t n : kSizes) {
    std::vector<float> x = Random(n, 3);
    if (n > 70) x[70] = -kInfinity;
    const auto blocks = static_cast<size_t>(MaximaCount(n));
    std::vector<float> expected(blocks), got(blocks);
    reference::Maxima(expected.data(), x.data() + 1, n);
    Maxima(GetParam(), got.data(), x.data() + 1, n);
    EXPECT_EQ(got, expected) << n;
  }
}

TEST_P(Logits, AtLeast) {
  for (int64_t n : kSizes) {
    const std::vector<float> x = Random(n, 1);
    for (float floor : {-kInfinity, -0.5f, 2.0f, x[1], kInfinity}) {
      // Exactly n ids of room: what lies behind must stay.
      std::vector<int32_t> expected(static_cast<size_t>(n + 1), -7), got = expected;
      const int64_t count = reference::AtLeast(expected.data(), x.data() + 1, n, floor);
      ASSERT_EQ(AtLeast(GetParam(), got.data(), x.data() + 1, n, floor), count) << n;
      EXPECT_TRUE(std::equal(got.begin(), got.begin() + count, expected.begin())) << n;
      EXPECT_EQ(got.back(), -7);
    }
  }
}

// A weight: 2 ulp of exp and half an ulp of the reference's rounding, or steps of the subnormals. A sum: besides the
// weights' errors two roundings of sums of four, 2^-24 each, and those in double.
TEST_P(Logits, ExpSums) {
  for (int64_t n : kSizes) {
    for (double spread : {1.0, 40.0}) {
      std::vector<float> x = Random(n, spread);
      x[static_cast<size_t>(n / 2 + 1)] = -kInfinity;
      const float top = *std::max_element(x.begin() + 1, x.end());
      if (!std::isfinite(top)) continue;
      for (float scale : {1.0f, 2.5f}) {
        const auto blocks = static_cast<size_t>((n + kExpSumOf - 1) / kExpSumOf);
        std::vector<double> expected(blocks), got(blocks), alone(blocks);
        std::vector<float> w(x.size()), v(x.size());
        reference::ExpSums(w.data() + 1, expected.data(), x.data() + 1, n, top, scale);
        ExpSums(GetParam(), v.data() + 1, got.data(), x.data() + 1, n, top, scale);
        for (size_t i = 1; i < w.size(); ++i) {
          ASSERT_LE(std::fabs(v[i] - w[i]), 2.5 * 0x1p-23 * w[i] + 2 * 0x1p-149) << i;
        }
        for (size_t b = 0; b < blocks; ++b) {
          EXPECT_LE(std::fabs(got[b] - expected[b]), (2.5 * 0x1p-23 + 2 * 0x1p-24 + 1e-12) * expected[b] + 1e-40);
        }
        EXPECT_EQ(v[static_cast<size_t>(n / 2 + 1)], 0);
        ExpSums(GetParam(), nullptr, alone.data(), x.data() + 1, n, top, scale);
        EXPECT_EQ(alone, got);
        ExpSums(GetParam(), x.data() + 1, alone.data(), x.data() + 1, n, top, scale);  // in place
        EXPECT_TRUE(std::equal(x.begin() + 1, x.end(), v.begin() + 1));
        EXPECT_EQ(alone, got);
        x = Random(n, spread);
        x[static_cast<size_t>(n / 2 + 1)] = -kInfinity;
      }
    }
  }
}

// The product and the difference are rounded once each, or together.
TEST_P(Logits, ExcessSums) {
  for (int64_t n : kSizes) {
    std::vector<float> y = Random(n, 1), x = Random(n, 1);
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] = std::fabs(y[i]);
      x[i] = std::fabs(x[i] + (i % 3 ? 0.5f : 0));
    }
    const auto blocks = static_cast<size_t>((n + kExpSumOf - 1) / kExpSumOf);
    std::vector<double> expected(blocks), got(blocks);
    std::vector<float> a = y, b = y;
    reference::ExcessSums(a.data() + 1, expected.data(), x.data() + 1, n, 0.75f);
    ExcessSums(GetParam(), b.data() + 1, got.data(), x.data() + 1, n, 0.75f);
    EXPECT_EQ(b[0], y[0]);
    std::vector<double> off(blocks);
    for (int64_t i = 0; i < n; ++i) {
      const size_t at = static_cast<size_t>(i + 1);
      const double bound = 2 * 0x1p-24 * (y[at] + 0.75 * x[at]);
      ASSERT_LE(std::fabs(a[at] - b[at]), bound) << i;
      off[static_cast<size_t>(i / kExpSumOf)] += bound + 3 * 0x1p-24 * b[at];
    }
    for (size_t i = 0; i < blocks; ++i) EXPECT_LE(std::fabs(got[i] - expected[i]), off[i]);
  }
}

}  // namespace
}  // namespace fathom::kernels
