#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace fathom {
namespace {

// Every code of a format: decoded, encoded again, the same code; and halfway between neighbours, ties to even.
template <class DecodeFn, class EncodeFn>
void RoundTrip(int codes, int sign_bit, DecodeFn decode, EncodeFn encode) {
  std::vector<std::pair<float, int>> positive;
  for (int c = 0; c < codes; ++c) {
    const float v = decode(c);
    if (std::isnan(v)) {
      EXPECT_TRUE(std::isnan(decode(encode(v))));
      continue;
    }
    EXPECT_EQ(encode(v), c) << c;
    if (!(c & sign_bit) && std::isfinite(v)) positive.push_back({v, c});
  }
  for (size_t i = 0; i + 1 < positive.size(); ++i) {
    const auto [a, ca] = positive[i];
    const auto [b, cb] = positive[i + 1];
    ASSERT_LT(a, b);
    const float mid = a + (b - a) / 2;  // exact: one more bit than the format has
    const int even = ca % 2 == 0 ? ca : cb;
    EXPECT_EQ(encode(mid), even);
    EXPECT_EQ(encode(std::nextafter(mid, 0.0f)), ca);
    EXPECT_EQ(encode(std::nextafter(mid, INFINITY)), cb);
    EXPECT_EQ(encode(-mid), even | sign_bit);
  }
}

TEST(DType, EveryE4M3) {
  RoundTrip(
      256, 128, [](int c) { return E4M3ToF32(static_cast<uint8_t>(c)); }, [](float x) { return int{F32ToE4M3(x)}; });
}
TEST(DType, EveryE5M2) {
  RoundTrip(
      256, 128, [](int c) { return E5M2ToF32(static_cast<uint8_t>(c)); }, [](float x) { return int{F32ToE5M2(x)}; });
}
TEST(DType, EveryE5M6) {
  RoundTrip(
      4096, 2048, [](int c) { return E5M6ToF32(static_cast<uint16_t>(c)); }, [](float x) { return int{F32ToE5M6(x)}; });
}
TEST(DType, EveryF16) {
  RoundTrip(
      65536, 32768, [](int c) { return F16ToF32(static_cast<uint16_t>(c)); }, [](float x) { return int{F32ToF16(x)}; });
}
TEST(DType, EveryBf16) {
  RoundTrip(
      65536, 32768, [](int c) { return Bf16ToF32(static_cast<uint16_t>(c)); },
      [](float x) { return int{F32ToBf16(x)}; });
}

TEST(DType, Limits) {
  EXPECT_EQ(E4M3ToF32(0x7e), 448.0f);
  EXPECT_TRUE(std::isnan(E4M3ToF32(0x7f)));
  EXPECT_EQ(E4M3ToF32(0x01), std::ldexp(1.0f, -9));
  EXPECT_EQ(E5M2ToF32(0x7b), 57344.0f);
  EXPECT_EQ(E5M6ToF32(0x7bf), 65024.0f);
  EXPECT_EQ(UE8M0ToF32(127), 1.0f);
  EXPECT_TRUE(std::isnan(UE8M0ToF32(255)));
  EXPECT_EQ(F32ToE4M3(464.0f), 0x7e);  // the tie above the largest goes to the even code, which is 448
  EXPECT_TRUE(std::isnan(E4M3ToF32(F32ToE4M3(465.0f))));
}

TEST(DType, Fp8Scale) {
  EXPECT_EQ(Fp8Scale(448.0f, false), 1.0f);
  EXPECT_EQ(Fp8Scale(448.0f, true), 1.0f);
  EXPECT_EQ(Fp8Scale(std::nextafter(448.0f, 1e9f), true), 2.0f);
  EXPECT_EQ(Fp8Scale(0.0f, false), 1e-4f / 448.0f);
}

TEST(DType, GoldenNumerics) {
  std::ifstream in(FATHOM_SOURCE_DIR "/tests/golden/numerics.json");
  ASSERT_TRUE(in) << "tests/golden/numerics.json is missing";
  const nlohmann::json j = nlohmann::json::parse(in);
  const auto number = [](const nlohmann::json& s) { return std::strtof(s.get<std::string>().c_str(), nullptr); };
  for (int c = 0; c < 256; ++c) {
    const float e4 = number(j["e4m3fn_decode"][static_cast<size_t>(c)]),
                e5 = number(j["e5m2_decode"][static_cast<size_t>(c)]);
    if (std::isnan(e4)) {
      EXPECT_TRUE(std::isnan(E4M3ToF32(static_cast<uint8_t>(c))));
    } else {
      EXPECT_EQ(E4M3ToF32(static_cast<uint8_t>(c)), e4);
    }
    if (std::isnan(e5)) {
      EXPECT_TRUE(std::isnan(E5M2ToF32(static_cast<uint8_t>(c))));
    } else {
      EXPECT_EQ(E5M2ToF32(static_cast<uint8_t>(c)), e5);
    }
  }
  for (const auto& row : j["e4m3fn_encode"]) EXPECT_EQ(int{F32ToE4M3(number(row[0]))}, row[1].get<int>()) << row;
  for (const auto& row : j["e5m2_encode"]) EXPECT_EQ(int{F32ToE5M2(number(row[0]))}, row[1].get<int>()) << row;
}

}  // namespace
}  // namespace fathom
