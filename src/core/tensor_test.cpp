#include "core/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace fathom {
namespace {

TEST(Tensor, ShapeText) {
  EXPECT_EQ(ToString({61, 7168}), "(61, 7168)");
  EXPECT_EQ(NumElements({}), 1);
  EXPECT_EQ(NumElements({3, 0}), 0);
}

// Which bytes are given does not matter: they stay zero, and what was written stays.
TEST(Buffer, ProvidedBytesKeepWhatTheyHold) {
  for (const int64_t bytes : {int64_t{1000}, int64_t{3} << 20}) {
    const Buffer buffer(bytes);
    auto* p = buffer.data<uint8_t>();
    p[bytes - 1] = 7;
    buffer.Provide(bytes / 3, bytes);
    EXPECT_EQ(p[bytes - 1], 7);
    EXPECT_EQ(std::count(p, p + bytes, 0), bytes - 1);
  }
  EXPECT_DEATH(Buffer(1000).Provide(0, 1001), "");
}

TEST(Arena, PlansWhatItTakes) {
  Arena plan = Arena::Planner();
  const auto use = [](Arena& a) {
    ArenaScope scope(a);
    a.Take<float>(100);
    {
      ArenaScope inner(a);
      a.Take<float>(1000);
    }
    return a.Take<float>(3);
  };
  EXPECT_EQ(use(plan), nullptr);
  EXPECT_EQ(plan.HighWater(), 448 + 4032);
  Arena real(plan.HighWater());
  float* p = use(real);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  EXPECT_EQ(real.Mark(), 0);
  EXPECT_EQ(real.Overflows(), 0);
  {
    ArenaScope scope(real);
    std::byte* beyond = real.Take<std::byte>(plan.HighWater() + 1);
    ASSERT_NE(beyond, nullptr);
    beyond[plan.HighWater()] = std::byte{1};
  }
  EXPECT_EQ(real.Overflows(), 1);
  EXPECT_EQ(use(real), p);
}

}  // namespace
}  // namespace fathom
