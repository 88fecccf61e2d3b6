// FP8 primitives of tiles.h for AVX512-BF16: values of codes as bf16, which holds them exactly, and their products.
//
// Quantising rounds x / scale to float32 and that to E4M3. The division costs more than all the rest, so it is done
// as a product instead, with a reciprocal that is surely too small, and again with that product surely too large: where
// both round to the same value of E4M3, so does the quotient between them. Where they do not, some once in 2^16 values,
// a row or a piece of a tile is divided.
#include "kernels/x86/fp8_avx512bf16.h"

#include <immintrin.h>

#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int64_t kVectors = kScaleBlock / kLanes;  // of a tile's row

// ---- Quantising ----

// A reciprocal that is too small and what brings a product with it above the quotient. 1 / scale is off by 2^-24 of
// itself at most, so are its product with 1 - 2^-21, the product with x and the quotient in float32: together less than
// 2^-21, and 1 + 2^-20 is more than that above. Powers of two divide exactly.
struct Reciprocal {
  __m512 low, raise;
};
inline __m512 LowReciprocal(__m512 scale, bool ue8m0) {
  const __m512 r = _mm512_div_ps(_mm512_set1_ps(1.0f), scale);
  return ue8m0 ? r : _mm512_mul_ps(r, _mm512_set1_ps(1 - 0x1p-21f));
}
inline __m512 Raise(bool ue8m0) { return _mm512_set1_ps(ue8m0 ? 1.0f : 1 + 0x1p-20f); }

// 1.5 * 2^20 times the power of two below |q|, at least that of E4M3's subnormals: floats of that size lie as far
// apart as the values of E4M3 around q. For NaN and infinity it is no number, and they come out as NaN anyway.
inline __m512 RoundingTerm(__m512 q) {
  const __m512i exponent = _mm512_and_si512(_mm512_castps_si512(q), _mm512_set1_epi32(0x7f800000));
  const __m512i least = _mm512_max_epi32(exponent, _mm512_set1_epi32(121 << 23));
  return _mm512_castsi512_ps(_mm512_add_epi32(least, _mm512_set1_epi32((20 << 23) | 0x400000)));
}

// x / scale rounded to a value of E4M3, for |x| <= 448 scale. Lanes of *doubt that have to be divided become non-zero.
inline __m512 Encode(__m512 x, const Reciprocal& r, __m512i* doubt) {
  const __m512 q = _mm512_mul_ps(x, r.low), term = RoundingTerm(q);
  const __m512 low = _mm512_add_ps(q, term), high = _mm512_fmadd_ps(q, r.raise, term);
  *doubt = _mm512_ternarylogic_epi32(*doubt, _mm512_castps_si512(low), _mm512_castps_si512(high), 0xf6);  // | (^)
  return _mm512_sub_ps(low, term);
}
inline __m512 EncodeDivided(__m512 x, __m512 scale) {
  const __m512 q = _mm512_div_ps(x, scale), term = RoundingTerm(q);
  return _mm512_sub_ps(_mm512_add_ps(q, term), term);
}
inline bool Any(__m512i doubt) { return __builtin_expect(_mm512_test_epi32_mask(doubt, doubt) != 0, 0); }

inline __m512 LargerOf(__m512 largest, __m512 x) {
  return _mm512_max_ps(_mm512_abs_ps(x), largest);  // of two operands of which one is NaN the second is returned
}

// max(amax, floor) / 448, or the next power of two.
inline __m512 ScaleOf(__m512 amax, float floor, bool ue8m0) {
  const __m512 s = _mm512_div_ps(_mm512_max_ps(amax, _mm512_set1_ps(floor)), _mm512_set1_ps(448.0f));
  if (!ue8m0) return s;
  const __m512i u = _mm512_castps_si512(s), power = _mm512_and_si512(u, _mm512_set1_epi32(0x7f800000));
  const __mmask16 between = _mm512_cmpneq_epi32_mask(u, power);
  return _mm512_castsi512_ps(_mm512_mask_add_epi32(power, between, power, _mm512_set1_epi32(1 << 23)));
}

inline __m512i Pack(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

// A row of up to 128 values in vectors; those beyond n are zero.
struct Row {
  __m512 v[kVectors];

  static inline Row Load(const float* x, int64_t n) {
    Row row;
    if (n == kScaleBlock) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) row.v[i] = _mm512_loadu_ps(x + i * kLanes);
      return row;
    }
    for (int i = 0; i < kVectors; ++i) {
      const int64_t left = n - i * kLanes;
      row.v[i] = left > 0 ? _mm512_maskz_loadu_ps(FirstLanes(left), x + i * kLanes) : _mm512_setzero_ps();
    }
    return row;
  }
  inline __m512 Largest() const {
    __m512 a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) a[i] = LargerOf(LargerOf(_mm512_setzero_ps(), v[i]), v[i + 4]);
    return _mm512_max_ps(_mm512_max_ps(a[0], a[1]), _mm512_max_ps(a[2], a[3]));
  }
  // Codes' values in place of the values.
  inline void Quantize(float scale, float low, __m512 raise) {
    const Reciprocal r{_mm512_set1_ps(low), raise};
    __m512i doubt = _mm512_setzero_si512();
    __m512 coded[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) coded[i] = Encode(v[i], r, &doubt);
    if (Any(doubt)) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) coded[i] = EncodeDivided(v[i], _mm512_set1_ps(scale));
    }
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) v[i] = coded[i];
  }
};

// The largest lane of each of four vectors, in all lanes of its quarter.
inline __m512 LargestLanes4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd = _mm512_max_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  __m512 quarters = _mm512_max_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  quarters = _mm512_max_ps(quarters, _mm512_permute_ps(quarters, 0xb1));
  return _mm512_max_ps(quarters, _mm512_permute_ps(quarters, 0x4e));
}

inline void FetchRow(const float* x, int64_t n) {
  asm volatile("" : : "r"(x));  // GCC leaves out calls of a function that only prefetches
  for (int64_t i = 0; i < n; i += kLanes) Prefetch(x + i);
}

// Scales and reciprocals of 16 rows at once: a single row's would wait for its own divisions.
constexpr int64_t kRows = 16;
struct RowScales {
  alignas(64) float scale[kRows], low[kRows];

  // Of `count` rows from column `begin`, n values each.
  static inline RowScales Of(const float* const* rows, int64_t count, int64_t begin, int64_t n, bool ue8m0,
                             float floor) {
    __m512 largest[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      largest[r] = r < count ? Row::Load(rows[r] + begin, n).Largest() : _mm512_setzero_ps();
    }
    __m512 amax = LargestLanes4(largest[0], largest[1], largest[2], largest[3]);
#pragma GCC unroll 4
    for (int g = 1; g < 4; ++g) {
      const __m512* four = largest + 4 * g;
      amax = _mm512_mask_mov_ps(amax, static_cast<__mmask16>(0x1111 << g),
                                LargestLanes4(four[0], four[1], four[2], four[3]));
    }
    // Lane 4 q + g is of row 4 g + q.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512 scales = ScaleOf(_mm512_permutexvar_ps(order, amax), floor, ue8m0);
    RowScales s;
    _mm512_store_ps(s.scale, scales);
    _mm512_store_ps(s.low, LowReciprocal(scales, ue8m0));
    return s;
  }
};

}  // namespace

void QuantizeRowsBf16(const QuantizedRowsBf16& q) {
  const __m512 raise = Raise(q.ue8m0);
  for (int64_t first = 0; first < q.count; first += kRows) {
    const int64_t count = q.count - first < kRows ? q.count - first : kRows;
    for (int64_t begin = 0; begin < q.n; begin += kScaleBlock) {
      const int64_t n = q.n - begin < kScaleBlock ? q.n - begin : kScaleBlock;
      const RowScales s = RowScales::Of(q.rows + first, count, begin, n, q.ue8m0, q.floor);
      _mm512_mask_storeu_ps(q.scales + begin / kScaleBlock * q.ld_scales + first, FirstLanes(count),
                            _mm512_load_ps(s.scale));
      for (int64_t r = 0; r < count; ++r) {
        if (first + kRows + r < q.count) FetchRow(q.rows[first + kRows + r] + begin, n);
        Row row = Row::Load(q.rows[first + r] + begin, n);
        row.Quantize(s.scale[r], s.low[r], raise);
        uint16_t* out = q.values + (first + r) * q.ld + begin;
        if (n == kScaleBlock) {
#pragma GCC unroll 4
          for (int i = 0; i < kVectors; i += 2) _mm512_storeu_si512(out + i * kLanes, Pack(row.v[i], row.v[i + 1]));
          continue;
        }
        for (int i = 0; i < kVectors && i * kLanes < n; i += 2) {
          const int64_t left = n - i * kLanes;
          const __mmask32 valid = left >= 32 ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
          _mm512_mask_storeu_epi16(out + i * kLanes, valid, Pack(row.v[i], row.v[i + 1]));
        }
      }
    }
  }
}

// ---- Tiles 128x1 ----

namespace {

inline __m512i HighHalves() { return _mm512_set1_epi32(static_cast<int>(0xffff0000u)); }

// Lanes of two values of bf16, which first and second hold exactly; NaN may have low bits.
inline __m512i PairLanes(__m512 first, __m512 second) {
  return _mm512_ternarylogic_epi32(_mm512_srli_epi32(_mm512_castps_si512(first), 16), _mm512_castps_si512(second),
                                   HighHalves(), 0xf8);  // first | (second & high)
}
inline __m512 First(__m512i pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
inline __m512 Second(__m512i pair) { return _mm512_castsi512_ps(_mm512_and_si512(pair, HighHalves())); }

// Two panels of a tile's columns, their pairs of rows: values(row, &a, &b) gives a row's of both.
template <class Values>
inline void PairColumns(uint16_t* const panels[2], int64_t count, const __m512 scale[2], const Reciprocal recip[2],
                        const Values& values) {
  constexpr int64_t kStep = 16;  // rows that are divided together
  for (int64_t r = 0; r < count; r += kStep) {
    const int64_t stop = r + kStep < count ? r + kStep : count;
    __m512i doubt = _mm512_setzero_si512();
    for (int64_t i = r; i < stop; i += 2) {
      __m512 even[2], odd[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      values(i, even);
      if (i + 1 < stop) values(i + 1, odd);
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        const __m512 e = Encode(even[p], recip[p], &doubt), o = Encode(odd[p], recip[p], &doubt);
        if (panels[p]) _mm512_storeu_si512(panels[p] + i * kLanes, PairLanes(e, o));
      }
    }
    if (!Any(doubt)) continue;
    for (int64_t i = r; i < stop; i += 2) {
      __m512 even[2], odd[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      values(i, even);
      if (i + 1 < stop) values(i + 1, odd);
      for (int p = 0; p < 2; ++p) {
        if (!panels[p]) continue;
        _mm512_storeu_si512(panels[p] + i * kLanes,
                            PairLanes(EncodeDivided(even[p], scale[p]), EncodeDivided(odd[p], scale[p])));
      }
    }
  }
}

}  // namespace

void ColumnTileBf16(const ColumnTile& t) {
  // (count, 4, 16): lanes of a row's columns 32 i + lane and 32 i + 16 + lane.
  uint32_t* codes = static_cast<uint32_t*>(t.scratch);
  float* row_scales = reinterpret_cast<float*>(codes + kScaleBlock * kScaleBlock / 2);
  const __m512 raise = Raise(t.ue8m0);
  __m512 largest[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) largest[i] = _mm512_setzero_ps();
  for (int64_t first = 0; first < t.count; first += kRows) {
    const int64_t count = t.count - first < kRows ? t.count - first : kRows;
    if (t.block) {
      for (int64_t r = 0; r < count; ++r) {
        largest[0] = _mm512_max_ps(Row::Load(t.rows[first + r], t.n).Largest(), largest[0]);
      }
      continue;
    }
    const RowScales s = RowScales::Of(t.rows + first, count, 0, t.n, t.ue8m0, t.floor);
    for (int64_t r = 0; r < count; ++r) {
      if (first + kRows + r < t.count) FetchRow(t.rows[first + kRows + r], t.n);
      Row row = Row::Load(t.rows[first + r], t.n);
      row.Quantize(s.scale[r], s.low[r], raise);
      row_scales[first + r] = s.scale[r];
      const __m512 scale = _mm512_set1_ps(s.scale[r]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) largest[i] = LargerOf(largest[i], _mm512_mul_ps(row.v[i], scale));
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; i += 2) {
        _mm512_store_si512(codes + ((first + r) * kVectors + i) / 2 * kLanes, PairLanes(row.v[i], row.v[i + 1]));
      }
    }
  }
  if (t.block) {
    const __m512 all = _mm512_set1_ps(_mm512_reduce_max_ps(largest[0]));
    for (auto& v : largest) v = all;
  }
  for (int i = 0; i < kVectors && i * kLanes < t.n; i += 2) {
    __m512 scale[2];
    Reciprocal recip[2];
    __mmask16 valid[2];
    uint16_t* panels[2];
    for (int p = 0; p < 2; ++p) {
      const int64_t column = (i + p) * kLanes;
      valid[p] = column < t.n ? FirstLanes(t.n - column) : __mmask16{0};
      scale[p] = ScaleOf(largest[i + p], t.floor, t.ue8m0);
      recip[p] = {LowReciprocal(scale[p], t.ue8m0), raise};
      panels[p] = column < t.n ? static_cast<uint16_t*>(t.panels) + (i + p) * t.ld : nullptr;
      if (panels[p]) _mm512_mask_storeu_ps(t.scales + column, valid[p], scale[p]);
    }
    if (t.block) {
      PairColumns(panels, t.count, scale, recip, [&](int64_t r, __m512* out) {
        for (int p = 0; p < 2; ++p) out[p] = _mm512_maskz_loadu_ps(valid[p], t.rows[r] + (i + p) * kLanes);
      });
    } else {
      PairColumns(panels, t.count, scale, recip, [&](int64_t r, __m512* out) {
        const __m512i pair = _mm512_load_si512(codes + (r * kVectors + i) / 2 * kLanes);
        const __m512 row_scale = _mm512_set1_ps(row_scales[r]);
        out[0] = _mm512_maskz_mul_ps(valid[0], First(pair), row_scale);
        out[1] = _mm512_maskz_mul_ps(valid[1], Second(pair), row_scale);
      });
    }
  }
}

void PairCodes(uint16_t* b, int64_t ldb, const uint8_t* w, int64_t ldw, int64_t k, int64_t n) {
  const E4m3Table table = E4m3Table::Make();
  constexpr int64_t kAhead = 16;  // rows are short pieces of memory, which no hardware fetches ahead
  __m512i first, second;
  for (int64_t r = 0; r < k; r += 2, b += 2 * kLanes) {
    const uint8_t* even = w + r * ldw;
    const uint8_t* odd = even + ldw;
    const bool paired = r + 1 < k;
    for (int64_t c = 0; c < n && r + kAhead + 1 < k; c += 4 * kLanes) {
      Prefetch(even + kAhead * ldw + c);
      Prefetch(odd + kAhead * ldw + c);
    }
    for (int64_t c = 0; c < n; c += 2 * kLanes) {
      const __mmask32 valid = n - c >= 32 ? ~uint32_t{0} : (uint32_t{1} << (n - c)) - 1;
      const __m256i e = _mm256_maskz_loadu_epi8(valid, even + c);
      const __m256i o = paired ? _mm256_maskz_loadu_epi8(valid, odd + c) : _mm256_setzero_si256();
      const __m512i low = _mm512_cvtepu8_epi16(e), high = _mm512_slli_epi16(_mm512_cvtepu8_epi16(o), 8);
      table.Widen(_mm512_or_si512(low, high), &first, &second);
      uint16_t* to = b + c / kLanes * ldb;
      _mm512_storeu_si512(to, first);
      if (n - c > kLanes) _mm512_storeu_si512(to + ldb, second);
    }
  }
}

// ---- Products of codes ----

namespace {

// Value k of row r of A, a pair, is at a + r * step + k * pair.
template <bool panels, int kR, int kP>
inline void ScaledBlock(const MulScaled& m, int64_t row, int64_t panel) {
  const int64_t a_step = panels ? 2 : m.lda, pair = panels ? 2 * kLanes : 2;
  const int64_t kpairs = (m.k + 1) / 2;
  for (int r = 0; r < kR; ++r) {  // C mostly comes from far
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) __builtin_prefetch(m.c + (row + r) * m.ldc + (panel + p) * kLanes, 1, 3);
  }
  constexpr int64_t kPiece = kSumCutCodes / 2;
  for (int64_t first = 0, piece = 0; first < kpairs; first += kPiece, ++piece) {
    const uint16_t* a = static_cast<const uint16_t*>(m.a) + first * pair +
                        (panels ? row / kLanes * m.lda + row % kLanes * 2 : row * m.lda);
    const uint16_t* b = static_cast<const uint16_t*>(m.b) + panel * m.ldb + first * 2 * kLanes;
    const int64_t count = kpairs - first < kPiece ? kpairs - first : kPiece;
    const bool accumulate = m.accumulate || first > 0;
    __m512 acc[kR][kP];
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) acc[r][p] = _mm512_setzero_ps();
    }
    const uint16_t* quad[(kR + 3) / 4];
#pragma GCC unroll 4
    for (int q = 0; q < (kR + 3) / 4; ++q) quad[q] = a + 4 * q * a_step;
    const int64_t step3 = 3 * a_step;
    for (int64_t k = 0; k < count; ++k) {
      __m512i bv[kP];
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) bv[p] = _mm512_loadu_si512(b + p * m.ldb + k * 2 * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) {
        const uint16_t* base = quad[r / 4] + k * pair;
        const __m512i av = BroadcastPair(r % 4 == 3 ? base + step3 : base + r % 4 * a_step);
#pragma GCC unroll 32
        for (int p = 0; p < kP; ++p) acc[r][p] = DotPairs(acc[r][p], av, bv[p]);
      }
    }
    const float* row_scale = m.row_scale + piece * m.ld_row_scale + row;
    const float* lane_scale = m.lane_scale + piece * m.ld_lane_scale + panel * kLanes;
    float* c = m.c + row * m.ldc + panel * kLanes;
    __m512 lanes[kP];
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) lanes[p] = _mm512_loadu_ps(lane_scale + p * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r, c += m.ldc) {
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) {
        const __m512 s = _mm512_mul_ps(lanes[p], _mm512_set1_ps(row_scale[r]));
        float* to = c + p * kLanes;
        _mm512_storeu_ps(to,
                         accumulate ? _mm512_fmadd_ps(acc[r][p], s, _mm512_loadu_ps(to)) : _mm512_mul_ps(acc[r][p], s));
      }
    }
  }
}

template <bool panels, int kR, int kP>
inline void ScaledRows(const MulScaled& m, int64_t row, int64_t panel) {
  for (; row + kR <= m.rows; row += kR) ScaledBlock<panels, kR, kP>(m, row, panel);
  if constexpr (kR > 1) ScaledRows<panels, kR / 2, kP>(m, row, panel);
}

template <bool panels>
void MulScaledPanels(const MulScaled& m) {
  int64_t panel = 0;
  for (; panel + 3 <= m.panels && m.panels - panel != 4; panel += 3) ScaledRows<panels, 8, 3>(m, 0, panel);
  for (; panel + 2 <= m.panels; panel += 2) ScaledRows<panels, 8, 2>(m, 0, panel);
  for (; panel < m.panels; ++panel) ScaledRows<panels, 16, 1>(m, 0, panel);
}

}  // namespace

void MulScaledBf16(const MulScaled& m) {
  if (m.a_panels) {
    MulScaledPanels<true>(m);
  } else {
    MulScaledPanels<false>(m);
  }
}

}  // namespace fathom::kernels
