#include "core/machine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace fathom {
namespace {

TEST(Machine, FactsArePlausible) {
  EXPECT_FALSE(CpuName().empty());
  EXPECT_FALSE(BuildCommit().empty());
  EXPECT_GT(AvailableMemory(), int64_t{1} << 20);
  EXPECT_GE(LastLevelCacheBytes(), int64_t{128} << 10);
}

TEST(Machine, ResidentBytesFollowWhatIsTouched) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t before = ResidentBytes();
  ASSERT_GT(before, 0);
  EXPECT_GE(PeakResidentBytes(), before);
  std::vector<char> touched(kBytes, 1);
  EXPECT_GE(ResidentBytes(), before + kBytes * 9 / 10) << static_cast<int>(touched[kBytes / 2]);
  EXPECT_GE(PeakResidentBytes(), before + kBytes * 9 / 10);
}

}  // namespace
}  // namespace fathom
