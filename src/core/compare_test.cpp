#include "core/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace fathom {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Compare, FindsTheWorst) {
  const std::vector<float> a = {1, 2, 3.5f, -4}, b = {1, 2, 3, -4};
  const Comparison c = Compare(a, b);
  EXPECT_EQ(c.max_abs, 0.5);
  EXPECT_EQ(c.worst, 2);
  EXPECT_NEAR(c.rel_l2, 0.5 / std::sqrt(30.0), 1e-12);
  EXPECT_FALSE(c.Same());
}

TEST(Compare, SpecialValuesMustMatch) {
  const std::vector<float> a = {kNan, kInf, -kInf, kInf, 0, kNan}, b = {kNan, kInf, kInf, 1, kNan, 0};
  EXPECT_EQ(Compare(a, b).special_mismatch, 4);
  const std::vector<float> same = {kNan, -kInf, 2};
  EXPECT_TRUE(Compare(same, same).Same());
}

TEST(Compare, Cosine) {
  const std::vector<float> a = {1, 0}, b = {0, 1}, z = {0, 0};
  EXPECT_EQ(Compare(a, b).cosine, 0);
  EXPECT_EQ(Compare(a, a).cosine, 1);
  EXPECT_EQ(Compare(z, a).cosine, 0);
  EXPECT_EQ(Compare(z, z).cosine, 1);
}

}  // namespace
}  // namespace fathom
