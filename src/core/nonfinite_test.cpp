#include "core/nonfinite.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

namespace fathom {
namespace {

TEST(NonFinite, AgreesWithTheValuesOfEveryCode) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto bits = static_cast<uint16_t>(code);
    EXPECT_EQ(CountNonFinite(&bits, DType::kBF16, 1), !std::isfinite(Bf16ToF32(bits))) << code;
    EXPECT_EQ(CountNonFinite(&bits, DType::kF16, 1), !std::isfinite(F16ToF32(bits))) << code;
    if (code < 0x100) {
      const auto byte = static_cast<uint8_t>(code);
      EXPECT_EQ(CountNonFinite(&byte, DType::kF8E4M3, 1), !std::isfinite(E4M3ToF32(byte))) << code;
    }
  }
}

TEST(NonFinite, CountsAndFindsTheFirst) {
  std::vector<float> x(10000, 3.4e38f);
  EXPECT_EQ(CountNonFinite(x.data(), DType::kF32, 10000), 0);
  EXPECT_EQ(FirstNonFiniteOf(x.data(), DType::kF32, 10000), -1);
  x[9999] = INFINITY;
  x[5000] = -INFINITY;
  x[4999] = NAN;
  EXPECT_EQ(CountNonFinite(x.data(), DType::kF32, 10000), 3);
  EXPECT_EQ(FirstNonFiniteOf(x.data(), DType::kF32, 10000), 4999);
  EXPECT_EQ(FirstNonFiniteOf(x.data(), DType::kF32, 0), -1);
}

TEST(NonFinite, ReadsAnyAddress) {
  std::vector<std::byte> bytes(4 * 5 + 1);
  const float values[5] = {1, 2, NAN, 4, 5};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  EXPECT_EQ(FirstNonFiniteOf(bytes.data() + 1, DType::kF32, 5), 2);
}

}  // namespace
}  // namespace fathom
