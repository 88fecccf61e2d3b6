#include "core/normal.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/rng.h"

namespace fathom {
namespace {

// The same Philox words through the mathematics library, in double.
std::vector<double> Expected(uint64_t seed, uint64_t stream, uint64_t counter, int64_t n) {
  std::vector<double> z;
  while (static_cast<int64_t>(z.size()) < n) {
    const auto w = Philox(seed, stream, counter++);
    for (size_t half = 0; half < 2; ++half) {
      const double x = (static_cast<double>(w[2 * half] >> 8) + 1) * 0x1p-24;
      const double r = std::sqrt(-2 * std::log(x)), t = 2 * std::numbers::pi * w[2 * half + 1] * 0x1p-32;
      z.push_back(r * std::cos(t));
      z.push_back(r * std::sin(t));
    }
  }
  z.resize(static_cast<size_t>(n));
  return z;
}

TEST(FillNormal, IsBoxMullerOverPhilox) {
  constexpr int64_t kCount = 100'001;
  std::vector<float> z(kCount);
  FillNormal(7, 0x123456789abcdef0u, 1u << 31, 1.0f, z.data(), kCount);
  const std::vector<double> expected = Expected(7, 0x123456789abcdef0u, 1u << 31, kCount);
  // Each of radius (below 5.8), cosine and sine is within a few units of float32's last place.
  for (size_t i = 0; i < z.size(); ++i) ASSERT_NEAR(z[i], expected[i], 5.8 * 8 * 0x1p-24) << i;
}

TEST(FillNormal, DoesNotDependOnThePartition) {
  std::vector<float> whole(1000), part(1000);
  FillNormal(1, 2, 0, 0.02f, whole.data(), 1000);
  for (int64_t at = 0; at < 1000; at += 40)
    FillNormal(1, 2, static_cast<uint64_t>(at / 4), 0.02f, part.data() + at, 40);
  EXPECT_EQ(whole, part);
}

TEST(FillNormal, HasTheMomentsOfANormal) {
  constexpr int64_t kCount = 4'000'000;
  std::vector<float> z(kCount);
  FillNormal(3, 4, 0, 1.0f, z.data(), kCount);
  double sum[5] = {};
  for (float x : z) {
    double p = 1;
    for (double& s : sum) s += p, p *= x;
  }
  // Five standard errors of the k-th sample moment, sqrt((E z^2k - (E z^k)^2) / n).
  const double variance[5] = {0, 1, 2, 15, 96}, moment[5] = {1, 0, 1, 0, 3};
  for (size_t k = 1; k < 5; ++k) EXPECT_NEAR(sum[k] / kCount, moment[k], 5 * std::sqrt(variance[k] / kCount)) << k;
}

// The bits are part of what `fathom init --seed` promises: the same on every machine and in every version.
TEST(FillNormal, GivesTheSameBitsEverywhere) {
  std::vector<float> z(4096);
  FillNormal(42, 43, 0, 1.0f, z.data(), 4096);
  uint64_t hash = 0xcbf29ce484222325u;
  for (float x : z) hash = (hash ^ std::bit_cast<uint32_t>(x)) * 0x100000001b3u;
  EXPECT_EQ(hash, 3440266975851191532u);
}

}  // namespace
}  // namespace fathom
