// The few tile operations that amx.cpp needs: instructions, or with FATHOM_AMX_EMULATED their definition in plain C++
// (Intel SDM, TDPBF16PS: even and odd products of a row summed apart in float32 with fused multiply-adds, subnormal
// inputs and results zero), so that the logic above them is tested on every machine.
// Tile numbers are template arguments, because the instructions take them as immediates.
#pragma once

#include <cstdint>

namespace fathom::kernels::amx {
namespace {

constexpr int kTileRows = 16, kTileBytes = 64;

// All eight tiles 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t colsb[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

#ifndef FATHOM_AMX_EMULATED

inline void Configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
inline void Release() { asm volatile("tilerelease"); }
template <int kT>
inline void Zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kT));
}
template <int kT>
inline void Load(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kT) : "memory");
}
template <int kT>
inline void Store(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kT) : "memory");
}
template <int kC, int kA, int kB>
inline void DotBf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

#else

struct EmulatedTile {
  uint8_t bytes[kTileRows][kTileBytes];
};
thread_local EmulatedTile tiles[8];
thread_local bool configured = false;

inline void Configure(const TileConfig&) { configured = true; }
inline void Release() { configured = false; }
template <int kT>
inline void Zero() {
  tiles[kT] = configured ? EmulatedTile{} : tiles[kT];
}
template <int kT>
inline void Load(const void* p, int64_t stride) {
  for (int r = 0; r < kTileRows && configured; ++r) {
    __builtin_memcpy(tiles[kT].bytes[r], static_cast<const uint8_t*>(p) + r * stride, kTileBytes);
  }
}
template <int kT>
inline void Store(void* p, int64_t stride) {
  for (int r = 0; r < kTileRows && configured; ++r) {
    __builtin_memcpy(static_cast<uint8_t*>(p) + r * stride, tiles[kT].bytes[r], kTileBytes);
  }
}
inline float Flushed(float x) {
  return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x;  // false for NaN
}
inline float Bf16At(const EmulatedTile& t, int row, int i) {
  uint16_t half;
  __builtin_memcpy(&half, t.bytes[row] + 2 * i, sizeof half);
  const uint32_t bits = uint32_t{half} << 16;
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return Flushed(x);
}
template <int kC, int kA, int kB>
inline void DotBf16() {
  for (int r = 0; r < kTileRows && configured; ++r) {
    float even[16] = {}, odd[16] = {};
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 16; ++n) {
        even[n] = Flushed(__builtin_fmaf(Bf16At(tiles[kA], r, 2 * k), Bf16At(tiles[kB], k, 2 * n), even[n]));
        odd[n] = Flushed(__builtin_fmaf(Bf16At(tiles[kA], r, 2 * k + 1), Bf16At(tiles[kB], k, 2 * n + 1), odd[n]));
      }
    }
    float c[16];
    __builtin_memcpy(c, tiles[kC].bytes[r], sizeof c);
    for (int n = 0; n < 16; ++n) c[n] = Flushed(c[n] + Flushed(even[n] + odd[n]));
    __builtin_memcpy(tiles[kC].bytes[r], c, sizeof c);
  }
}

#endif

}  // namespace
}  // namespace fathom::kernels::amx
