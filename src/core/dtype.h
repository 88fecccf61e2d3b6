// Number formats of the published checkpoints and of the paper's recipe, with scalar conversions that are their
// specification.
//
//   bf16   1-8-7   BFloat16
//   f16    1-5-10  IEEE binary16
//   e4m3   1-4-3   bias 7, no infinity, S.1111.111 is NaN, largest 448 (OCP FP8 E4M3FN)
//   e5m2   1-5-2   bias 15, IEEE-like, largest 57344
//   e5m6   1-5-6   bias 15, IEEE-like, largest 65024; 12 bits, kept in the low bits of 16 (V3 report 3.3.1: cached
//   o_proj input;
//                  the report does not give the encoding)
//   ue8m0  0-8-0   2^(code - 127), code 255 is NaN: power-of-two scales (scale_fmt: ue8m0)
//
// Every encoder rounds to nearest, ties to even. EncodeE4M3 and EncodeE5M2 take what lies beyond the largest finite
// value to NaN (E4M3) or infinity (E5M2), as PyTorch's casts do.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fathom {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI32,
  kI64,
  kU8,
  kF64,
  kBool,
  kI8,
  kI16,
  kU16,
  kU32,
  kU64
};

int64_t SizeOf(DType dtype);                           // bytes of an element
std::string_view Name(DType dtype);                    // the safetensors spelling: F32 F16 BF16 F8_E4M3 ...
std::optional<DType> DTypeFromName(std::string_view);  // of the same spelling

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
struct e4m3 {
  uint8_t bits;
};

inline float Bf16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
inline uint16_t F32ToBf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline float RoundToBf16(float x) { return Bf16ToF32(F32ToBf16(x)); }

float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float x);
float E4M3ToF32(uint8_t code);
uint8_t F32ToE4M3(float x);
float E5M2ToF32(uint8_t code);
uint8_t F32ToE5M2(float x);
float E5M6ToF32(uint16_t code);
uint16_t F32ToE5M6(float x);
float UE8M0ToF32(uint8_t code);

inline constexpr float kE4M3Max = 448.0f, kE5M6Max = 65024.0f;
inline constexpr int64_t kFp8Block = 128;  // scale granularity: activations 1x128, weights 128x128 (V3 report 3.3.2)

// Scale of an FP8 tile from its largest magnitude: max(amax, floor) / largest, rounded up to a power of two if `ue8m0`
// (from the exponent bits; ceil(log2) in floating point is off by one within a few ulp of a power of two). Published
// inference kernel.
inline constexpr float kFp8AmaxFloor = 1e-4f;
inline constexpr float kFp8TrainingFloor = 0x1p-100f;  // never reached by what training quantises but zeros
float Fp8Scale(float amax, bool ue8m0, float floor = kFp8AmaxFloor, float largest = kE4M3Max);

}  // namespace fathom
