// Vectors shared by the AVX512-BF16 and AMX files. Everything has internal linkage: each file compiles its own copy
// under its own instruction-set flags.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/tiles.h"

namespace fathom::kernels::avx512 {
namespace {

constexpr int64_t kScaleBlock = 128;  // kFp8Block of core/dtype.h

inline __m512 DotPairs(__m512 acc, __m512i a, __m512i b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }

inline __m512i BroadcastPair(const uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm512_set1_epi32(pair);
}

// The sums of the lanes of four vectors, in the first four lanes.
inline __m512 SumLanes4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  __m512 quarters = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  quarters = _mm512_add_ps(quarters, _mm512_permute_ps(quarters, 0xb1));
  quarters = _mm512_add_ps(quarters, _mm512_permute_ps(quarters, 0x4e));
  return _mm512_maskz_compress_ps(0x1111, quarters);
}

constexpr int64_t kAheadBytes = 2048;             // along a stream, some 30 lines
constexpr int64_t kFarAheadBytes = 4096;          // the same, into the second cache
constexpr int64_t kNeighboursAheadBytes = 12288;  // along the memory

inline void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
// Into the second cache: the first has 32 KB on some machines, which x alone fills, and few requests to wait with.
inline void PrefetchFar(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// Where to fetch ahead of what is read: where that ends it goes on with what is read next.
struct Walk {
  const uint8_t* end;
  int64_t jump;

  const uint8_t* Ahead(const uint8_t* p, int64_t bytes) const { return p + bytes + (p + bytes >= end ? jump : 0); }
};
// `read`: what has just been read and is in the cache, so that nothing is fetched where `next` is null.
inline Walk WalkTo(const uint8_t* end, const void* next, const void* read) {
  return {end, static_cast<const uint8_t*>(next ? next : read) - end};
}

// What a pass over values that are in a cache asks for meanwhile: `lines` a step, from `from` on.
struct Asked {
  const uint8_t* from;
  int lines;

  void Step() {
    for (int line = 0; line < lines; ++line, from += 64) PrefetchFar(from);
  }
};

// Whether rows of a result (tiles.h: kFarRows), of which `out` is one, are written around the caches, a line at a time.
// Such stores are not ordered: StoresDone() before another thread may read them.
inline bool StoredAround(const void* out, int64_t ld) {
  return ld >= kFarRows && ld % kLanes == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}
inline void StoreLine(void* out, __m512i v, bool around) {
  if (around) {
    _mm512_stream_si512(static_cast<__m512i*>(out), v);
  } else {
    _mm512_storeu_si512(out, v);
  }
}
inline void StoresDone() { _mm_sfence(); }

inline __mmask16 FirstLanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1); }

// E4M3 to bf16 for 64 codes: both bytes of the result by look-up of the 7 magnitude bits, the sign or-ed in.
struct E4m3Table {
  __m512i low[2], high[2], order, sign;

  static inline E4m3Table Make();

  // Elements 0..31 and 32..63.
  inline void Widen(__m512i codes, __m512i* first, __m512i* second) const {
    // Unpacking works within quarters: bring the eight bytes that it takes to where it takes them.
    WidenInOrder(_mm512_permutexvar_epi64(order, codes), first, second);
  }
  // The first and the last eight elements of each quarter.
  inline void WidenInOrder(__m512i codes, __m512i* first, __m512i* second) const {
    const __m512i l = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    const __m512i h = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    const __m512i s = _mm512_ternarylogic_epi64(h, codes, sign, 0xf8);  // h | (codes & sign)
    *first = _mm512_unpacklo_epi8(l, s);
    *second = _mm512_unpackhi_epi8(l, s);
  }
};

struct E4m3Bytes {
  alignas(64) uint8_t low[128], high[128];
};

constexpr E4m3Bytes MakeE4m3Bytes() {
  E4m3Bytes t{};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    int bits = 0;
    if (code == 127) {
      bits = 0x7fc0;
    } else if (exponent > 0) {
      bits = ((exponent + 120) << 7) | (mantissa << 4);
    } else if (mantissa > 0) {  // mantissa * 2^-9, normal in bf16
      const int top = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;
      bits = ((127 - 9 + top) << 7) | (((mantissa << (7 - top)) & 0x7f));
    }
    t.low[code] = static_cast<uint8_t>(bits & 0xff);
    t.high[code] = static_cast<uint8_t>(bits >> 8);
  }
  return t;
}
constexpr E4m3Bytes kE4m3Bytes = MakeE4m3Bytes();

inline E4m3Table E4m3Table::Make() {
  E4m3Table t;
  for (int i = 0; i < 2; ++i) {
    t.low[i] = _mm512_load_si512(kE4m3Bytes.low + 64 * i);
    t.high[i] = _mm512_load_si512(kE4m3Bytes.high + 64 * i);
  }
  t.order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  t.sign = _mm512_set1_epi8(static_cast<char>(0x80));
  return t;
}

// e^x for x <= 0, or a little above, or NaN, at most 2 ulp off; the scheme of simd/vec-inl.h.
inline __m512 ExpNonPositive(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);  // of two operands of which one is NaN the second is returned
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.63p-1f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.bd0106p-13f), r);
  __m512 p = _mm512_set1_ps(0x1.6d10fep-10f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.120b64p-7f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55551ap-5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5554dep-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// 16 x 16 values of 32 bits.
inline void Transpose16(__m512i v[16]) {
  __m512i t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {  // v[4q + j]: column 4l + j of rows 4q .. 4q + 3 in quarter l
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {  // quarters gathered: a 4 x 4 transposition of 128-bit pieces
    const __m512i a = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x44), b = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x44);
    const __m512i c = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xee), d = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xee);
    t[j] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

}  // namespace
}  // namespace fathom::kernels::avx512
