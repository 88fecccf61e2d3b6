#include "core/dtype.h"

#include <array>
#include <cmath>
#include <limits>

namespace fathom {
namespace {

struct DTypeInfo {
  DType dtype;
  std::string_view name;
  int64_t size;
};
constexpr std::array<DTypeInfo, 15> kDTypes = {{{DType::kF32, "F32", 4},
                                                {DType::kF16, "F16", 2},
                                                {DType::kBF16, "BF16", 2},
                                                {DType::kF8E4M3, "F8_E4M3", 1},
                                                {DType::kF8E5M2, "F8_E5M2", 1},
                                                {DType::kI32, "I32", 4},
                                                {DType::kI64, "I64", 8},
                                                {DType::kU8, "U8", 1},
                                                {DType::kF64, "F64", 8},
                                                {DType::kBool, "BOOL", 1},
                                                {DType::kI8, "I8", 1},
                                                {DType::kI16, "I16", 2},
                                                {DType::kU16, "U16", 2},
                                                {DType::kU32, "U32", 4},
                                                {DType::kU64, "U64", 8}}};

// A small float: `mantissa` bits of fraction, exponent bias `bias`, every exponent code finite if !ieee (but for the
// one NaN).
struct Format {
  int exponent_bits, mantissa_bits, bias;
  bool ieee;
};
constexpr Format kF16Format{5, 10, 15, true}, kE4M3Format{4, 3, 7, false}, kE5M2Format{5, 2, 15, true},
    kE5M6Format{5, 6, 15, true};

float Decode(uint32_t code, Format f) {
  const int total = f.exponent_bits + f.mantissa_bits;
  const float sign = (code >> total) & 1 ? -1.0f : 1.0f;
  const int exponent = static_cast<int>(code >> f.mantissa_bits) & ((1 << f.exponent_bits) - 1);
  const int mantissa = static_cast<int>(code) & ((1 << f.mantissa_bits) - 1);
  const int top = (1 << f.exponent_bits) - 1;
  if (f.ieee && exponent == top) {
    return mantissa ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  }
  if (!f.ieee && exponent == top && mantissa == (1 << f.mantissa_bits) - 1)
    return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - f.bias - f.mantissa_bits);
  return sign * std::ldexp(static_cast<float>(mantissa + (1 << f.mantissa_bits)), exponent - f.bias - f.mantissa_bits);
}

uint32_t Encode(float x, Format f) {
  const int total = f.exponent_bits + f.mantissa_bits;
  const uint32_t sign = (std::bit_cast<uint32_t>(x) >> 31) << total;
  const uint32_t top = (1u << f.exponent_bits) - 1, full = (1u << f.mantissa_bits) - 1;
  const uint32_t nan =
      f.ieee ? (top << f.mantissa_bits) | (1u << (f.mantissa_bits - 1)) : (top << f.mantissa_bits) | full;
  if (std::isnan(x)) return sign | nan;
  const uint32_t beyond = f.ieee ? top << f.mantissa_bits : nan;
  const float a = std::fabs(x);
  if (std::isinf(a)) return sign | beyond;
  if (a == 0) return sign;
  int e = std::ilogb(a);
  if (e < 1 - f.bias) e = 1 - f.bias;  // subnormal: the smallest exponent's spacing
  // a in units of the spacing: exact in float (a power-of-two scaling of at most 24 significant bits), then ties to
  // even.
  const double units = std::nearbyint(std::ldexp(static_cast<double>(a), f.mantissa_bits - e));
  uint32_t n = static_cast<uint32_t>(units);  // < 2^(mantissa_bits + 1) + 1
  uint32_t code;
  if (n < (1u << f.mantissa_bits)) {
    code = n;  // subnormal
  } else {
    code = (static_cast<uint32_t>(e + f.bias) << f.mantissa_bits) +
           (n - (1u << f.mantissa_bits));  // a carry moves the exponent on
  }
  const uint32_t largest = f.ieee ? (top << f.mantissa_bits) - 1 : (top << f.mantissa_bits) + full - 1;
  return sign | (code > largest ? beyond : code);
}

template <int kCount>
std::array<float, kCount> Table(Format f) {
  std::array<float, kCount> t;
  for (int i = 0; i < kCount; ++i) t[i] = Decode(static_cast<uint32_t>(i), f);
  return t;
}

}  // namespace

int64_t SizeOf(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }
std::string_view Name(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }
std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& d : kDTypes) {
    if (d.name == name) return d.dtype;
  }
  return std::nullopt;
}

float F16ToF32(uint16_t bits) { return Decode(bits, kF16Format); }
uint16_t F32ToF16(float x) { return static_cast<uint16_t>(Encode(x, kF16Format)); }
float E4M3ToF32(uint8_t code) {
  static const std::array<float, 256> table = Table<256>(kE4M3Format);
  return table[code];
}
uint8_t F32ToE4M3(float x) { return static_cast<uint8_t>(Encode(x, kE4M3Format)); }
float E5M2ToF32(uint8_t code) { return Decode(code, kE5M2Format); }
uint8_t F32ToE5M2(float x) { return static_cast<uint8_t>(Encode(x, kE5M2Format)); }
float E5M6ToF32(uint16_t code) { return Decode(code & 0xfffu, kE5M6Format); }
uint16_t F32ToE5M6(float x) { return static_cast<uint16_t>(Encode(x, kE5M6Format)); }
float UE8M0ToF32(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, int{code} - 127);
}

float Fp8Scale(float amax, bool ue8m0, float floor, float largest) {
  const float s = std::fmax(amax, floor) / largest;
  if (!ue8m0) return s;
  const uint32_t u = std::bit_cast<uint32_t>(s);
  const int exponent = static_cast<int>(u >> 23) - 127 + ((u & 0x7fffffu) != 0);
  return std::ldexp(1.0f, exponent);
}

}  // namespace fathom
