// y = x w^T for 5 rows of x and more, which come in quads (tiles.h): a vector holds 8 values of four rows, a quarter
// each. It is multiplied by 8 values of a row of w, the same in all quarters, so that a lane sums a quarter of k and a
// load of either serves four products. Sums along k wait for as many loads of x as there are products, and need adding
// up of 16 lanes; sums of one lane (mul_bf16) wait for a load of w each.
//
// The order of a sum: of each 8 values the pairs 0 to 3 in four sums, then (0 + 2) + (1 + 3).
#include "kernels/x86/quads_avx512bf16.h"

#include <immintrin.h>

#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int kRows = 4;  // of w at a time, neighbours: w is read along the memory
constexpr int64_t kQuadValues = 32;
constexpr int64_t kQuadsAheadBytes = 16384;

inline Walk WalkOf(const Dot& d, int64_t row_bytes) {
  return WalkTo(static_cast<const uint8_t*>(d.w) + d.rows * row_bytes, d.next, d.w);
}

// For line `line` of kR rows that begin at w.
template <int kR>
inline void PrefetchRows(const uint8_t* w, int64_t line, const Walk& walk) {
  const uint8_t* ahead = walk.Ahead(w + line * kR * 64, kQuadsAheadBytes);
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) PrefetchFar(ahead + r * 64);
}

// The four sums of each row of x in acc[r][q], added up, to y[(4 q + i) * ldy + r] for `rows` rows of x.
template <int kR, int kQ>
inline void StoreQuads(const __m512 (&acc)[kR][kQ], float* y, int64_t ldy, int64_t rows) {
#pragma GCC unroll 6
  for (int q = 0; q < kQ; ++q) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 a = acc[0][q], b = kR > 1 ? acc[kR > 1 ? 1 : 0][q] : zero, c = kR > 2 ? acc[kR > 2 ? 2 : 0][q] : zero,
                 e = kR > 3 ? acc[kR > 3 ? 3 : 0][q] : zero;
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    const __m512d ce = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, e), _mm512_unpackhi_ps(c, e)));
    const __m512 sums =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, ce)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, ce)));
    const __m128 of_row[4] = {_mm512_castps512_ps128(sums), _mm512_extractf32x4_ps(sums, 1),
                              _mm512_extractf32x4_ps(sums, 2), _mm512_extractf32x4_ps(sums, 3)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, y += ldy) {
      if (4 * q + i >= rows) return;
      if constexpr (kR == 4) {
        _mm_storeu_ps(y, of_row[i]);
      } else {
        // Not a masked store: GCC 12 makes a masked vextractf32x4 of it, which may touch what the mask leaves out.
        alignas(16) float four[4];
        _mm_store_ps(four, of_row[i]);
        for (int r = 0; r < kR; ++r) y[r] = four[r];
      }
    }
  }
}

// acc += 8 values of kR rows of w, in all quarters of w8, times kQ quads.
template <int kR, int kQ>
inline void AddEight(const __m512i (&w8)[kR], const uint16_t* x, __m512 (&acc)[kR][kQ]) {
#pragma GCC unroll 6
  for (int q = 0; q < kQ; ++q) {
    const __m512i xv = _mm512_loadu_si512(x + q * kQuadValues);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) acc[r][q] = DotPairs(acc[r][q], w8[r], xv);
  }
}

template <int kR, int kQ>
inline void Zero(__m512 (&acc)[kR][kQ]) {
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 6
    for (int q = 0; q < kQ; ++q) acc[r][q] = _mm512_setzero_ps();
  }
}

// ---- bf16 ----

template <int kR, int kQ>
inline void AddBf16(const uint16_t* w, int64_t k, const uint16_t* x, __mmask8 valid, __m512 (&acc)[kR][kQ]) {
  __m512i w8[kR];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) {
    const uint16_t* p = w + r * k;
    w8[r] = _mm512_broadcast_i32x4(valid == 0xff ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                                                 : _mm_maskz_loadu_epi16(valid, p));
  }
  AddEight<kR, kQ>(w8, x, acc);
}

template <int kR, int kQ>
inline void BlockBf16(const Dot& d, int64_t row, int64_t first, float* y, int64_t ldy, int64_t rows) {
  const uint16_t* w = static_cast<const uint16_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + first * d.ldx;
  const Walk walk = WalkOf(d, 2 * d.k);
  __m512 acc[kR][kQ];
  Zero(acc);
  int64_t k = 0;
  for (; k + 32 <= d.k; k += 32) {
    PrefetchRows<kR>(reinterpret_cast<const uint8_t*>(w), k / 32, walk);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, x += kQ * kQuadValues) AddBf16<kR, kQ>(w + k + 8 * i, d.k, x, 0xff, acc);
  }
  for (; k < d.k; k += 8, x += kQ * kQuadValues) {
    const __mmask8 valid = static_cast<__mmask8>(d.k - k >= 8 ? 0xff : (1 << (d.k - k)) - 1);
    AddBf16<kR, kQ>(w + k, d.k, x, valid, acc);
  }
  StoreQuads<kR, kQ>(acc, y, ldy, rows);
}

// ---- E4M3 ----

// acc += 64 codes of each of kR rows times kQ quads.
template <int kR, int kQ>
inline void AddCodes(const E4m3Table& table, const uint8_t* w, int64_t k, const uint16_t* x, __mmask64 valid,
                     __m512 (&acc)[kR][kQ]) {
  constexpr int64_t kStep = kQ * kQuadValues;
  __m512i wide[2][kR];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) {
    const uint8_t* p = w + r * k;
    table.Widen(valid == ~__mmask64{0} ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(valid, p), &wide[0][r],
                &wide[1][r]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m512i w8[kR];
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) w8[r] = _mm512_shuffle_i32x4(wide[half][r], wide[half][r], 0x00);
    AddEight<kR, kQ>(w8, x, acc);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) w8[r] = _mm512_shuffle_i32x4(wide[half][r], wide[half][r], 0x55);
    AddEight<kR, kQ>(w8, x + kStep, acc);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) w8[r] = _mm512_shuffle_i32x4(wide[half][r], wide[half][r], 0xaa);
    AddEight<kR, kQ>(w8, x + 2 * kStep, acc);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) w8[r] = _mm512_shuffle_i32x4(wide[half][r], wide[half][r], 0xff);
    AddEight<kR, kQ>(w8, x + 3 * kStep, acc);
    x += 4 * kStep;
  }
}

// Scales of a piece of k for quad q: w's, times those of its four rows of x.
inline __m512 ScalesOf(const Dot& d, int64_t piece, int64_t first) {
  const float s = d.w_scale[piece];
  if (!d.x_scale) return _mm512_set1_ps(s);
  float of_row[4] = {};
  for (int i = 0; i < 4 && first + i < d.m; ++i) of_row[i] = s * d.x_scale[(first + i) * d.ldxs + piece];
  const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_permutexvar_ps(lanes, _mm512_broadcast_f32x4(_mm_loadu_ps(of_row)));
}

template <int kR, int kQ>
inline void BlockE4m3(const Dot& d, int64_t row, int64_t first, float* y, int64_t ldy, int64_t rows) {
  constexpr __mmask64 kAll = ~__mmask64{0};
  const E4m3Table table = E4m3Table::Make();
  const uint8_t* w = static_cast<const uint8_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + first * d.ldx;
  const Walk walk = WalkOf(d, d.k);
  __m512 total[kR][kQ];
  Zero(total);
  for (int64_t begin = 0; begin < d.k; begin += kScaleBlock) {
    __m512 acc[kR][kQ];
    Zero(acc);
    for (int64_t k = begin; k < begin + kScaleBlock && k < d.k; k += 64, x += 8 * kQ * kQuadValues) {
      PrefetchRows<kR>(w, k / 64, walk);
      AddCodes<kR, kQ>(table, w + k, d.k, x, d.k - k >= 64 ? kAll : (uint64_t{1} << (d.k - k)) - 1, acc);
    }
#pragma GCC unroll 6
    for (int q = 0; q < kQ; ++q) {
      const __m512 scale = ScalesOf(d, begin / kScaleBlock, first + 4 * q);
#pragma GCC unroll 4
      for (int r = 0; r < kR; ++r) total[r][q] = _mm512_fmadd_ps(acc[r][q], scale, total[r][q]);
    }
  }
  StoreQuads<kR, kQ>(total, y, ldy, rows);
}

// ---- All rows ----

template <bool kCodes, int kR, int kQ>
inline void Block(const Dot& d, int64_t row, int64_t first, float* y, int64_t ldy, int64_t rows) {
  if constexpr (kCodes) {
    BlockE4m3<kR, kQ>(d, row, first, y, ldy, rows);
  } else {
    BlockBf16<kR, kQ>(d, row, first, y, ldy, rows);
  }
}

template <bool kCodes, int kR, int kQ>
inline void LastRows(const Dot& d, int64_t row, int64_t first) {
  for (; row + kR <= d.rows; row += kR) {
    Block<kCodes, kR, kQ>(d, row, first, d.y + first * d.ldy + row, d.ldy, d.m - first);
  }
  if constexpr (kR > 1) LastRows<kCodes, kR / 2, kQ>(d, row, first);
}

// Rows of y lie far apart, often in the same set of the first cache: they are written a line at a time.
template <bool kCodes, int kQ>
void Rows(const Dot& d, int64_t first) {
  alignas(64) float sums[4 * kQ][kLanes];
  const bool around = StoredAround(d.y, d.ldy);
  int64_t row = 0;
  for (; row + kLanes <= d.rows; row += kLanes) {
    for (int64_t r = 0; r < kLanes; r += kRows)
      Block<kCodes, kRows, kQ>(d, row + r, first, &sums[0][r], kLanes, 4 * kQ);
    float* y = d.y + first * d.ldy + row;
    for (int64_t i = 0; i < 4 * kQ && first + i < d.m; ++i, y += d.ldy) {
      StoreLine(y, _mm512_load_si512(sums[i]), around);
    }
  }
  if (around) StoresDone();
  LastRows<kCodes, kRows, kQ>(d, row, first);
}

template <bool kCodes>
void Run(const Dot& d) {
  constexpr void (*kRowsOf[])(const Dot&, int64_t) = {Rows<kCodes, 1>, Rows<kCodes, 2>, Rows<kCodes, 3>,
                                                      Rows<kCodes, 4>, Rows<kCodes, 5>, Rows<kCodes, 6>};
  const int64_t group = QuadGroup(d.m);
  for (int64_t first = 0; first < d.m; first += group) {
    const int64_t rows = d.m - first < group ? d.m - first : group;
    kRowsOf[(rows + 3) / 4 - 1](d, first);
  }
}

}  // namespace

void QuadsBf16(const Dot& d) { Run<false>(d); }
void QuadsE4m3(const Dot& d) { Run<true>(d); }

}  // namespace fathom::kernels
