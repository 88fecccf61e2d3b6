#include "core/rng.h"

#include <gtest/gtest.h>

#include <cmath>

#include <vector>

namespace fathom {
namespace {

// Known answers published with Random123 (philox4x32-10).
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(Philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(Philox(~0ull, ~0ull, ~0ull), (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
}

TEST(Rng, Moments) {
  Rng rng(5);
  double sum = 0, square = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = rng.NextNormal();
    sum += x;
    square += x * x;
  }
  EXPECT_NEAR(sum / n, 0.0, 5.0 / std::sqrt(n));           // five standard errors
  EXPECT_NEAR(square / n, 1.0, 5.0 * std::sqrt(2.0 / n));  // likewise for the variance
}

TEST(Rng, BelowCoversItsRange) {
  Rng rng(1);
  std::vector<int> seen(7);
  for (int i = 0; i < 1000; ++i) ++seen[static_cast<size_t>(rng.NextBelow(7))];
  for (int s : seen) EXPECT_GT(s, 80);
}

}  // namespace
}  // namespace fathom
