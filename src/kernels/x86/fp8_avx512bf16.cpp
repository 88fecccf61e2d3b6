// FP8 primitives of tiles.h for AVX512-BF16: values of codes as bf16, which holds them exactly, and their products.
//
// Quantising rounds x / scale to float32 and that to E4M3. The division costs more than all the rest, so it is done
// twice as a product instead, with a reciprocal that is surely too small and one that is surely too large: where both
// round to the same value of E4M3, so does the quotient, whose place is between them. Where they do not, some once in
// 2^16 values, the tile is divided.
#include "kernels/x86/fp8_avx512bf16.h"

#include <immintrin.h>

#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int64_t kVectors = kScaleBlock / kLanes;  // of a tile's row

// ---- Quantising ----

struct Reciprocal {
  __m512 low, high;
};

// 1 / scale is off by 2^-24 of itself at most, so is the product and so is the quotient as float32: 2^-22 covers them.
// Powers of two divide exactly.
inline Reciprocal ReciprocalOf(__m512 scale, bool ue8m0) {
  const __m512 r = _mm512_div_ps(_mm512_set1_ps(1.0f), scale);
  if (ue8m0) return {r, r};
  return {_mm512_mul_ps(r, _mm512_set1_ps(1 - 0x1p-22f)), _mm512_mul_ps(r, _mm512_set1_ps(1 + 0x1p-22f))};
}

// 1.5 * 2^20 times the power of two below |q|, at least that of E4M3's subnormals: floats of that size lie as far
// apart as the values of E4M3 around q. The sign of NaN and infinity overflows, they come out as NaN anyway.
inline __m512 RoundingTerm(__m512 q) {
  const __m512i exponent = _mm512_and_si512(_mm512_castps_si512(q), _mm512_set1_epi32(0x7f800000));
  const __m512i least = _mm512_max_epi32(exponent, _mm512_set1_epi32(121 << 23));
  return _mm512_castsi512_ps(_mm512_add_epi32(least, _mm512_set1_epi32((20 << 23) | 0x400000)));
}

// x / scale rounded to a value of E4M3, for |x| <= 448 scale. Lanes that have to be divided are set in *doubt.
inline __m512 Encode(__m512 x, const Reciprocal& r, __mmask16* doubt) {
  const __m512 term = RoundingTerm(_mm512_mul_ps(x, r.low));
  const __m512 low = _mm512_fmadd_ps(x, r.low, term), high = _mm512_fmadd_ps(x, r.high, term);
  *doubt = static_cast<__mmask16>(*doubt | _mm512_cmp_ps_mask(low, high, _CMP_NEQ_OQ));
  return _mm512_sub_ps(low, term);
}
inline __m512 EncodeDivided(__m512 x, __m512 scale) {
  const __m512 q = _mm512_div_ps(x, scale), term = RoundingTerm(q);
  return _mm512_sub_ps(_mm512_add_ps(q, term), term);
}

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
  // Codes' values in place of the values, and the scale in all lanes.
  inline __m512 Quantize(bool ue8m0, float floor) {
    const __m512 scale = ScaleOf(_mm512_set1_ps(_mm512_reduce_max_ps(Largest())), floor, ue8m0);
    const Reciprocal r = ReciprocalOf(scale, ue8m0);
    __mmask16 doubt = 0;
    __m512 coded[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) coded[i] = Encode(v[i], r, &doubt);
    if (__builtin_expect(doubt != 0, 0)) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) coded[i] = EncodeDivided(v[i], scale);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) v[i] = coded[i];
    return scale;
  }
};

}  // namespace

void QuantizeBf16(uint16_t* values, float* scales, const float* x, int64_t n, bool ue8m0, float floor) {
  for (int64_t begin = 0; begin < n; begin += kScaleBlock) {
    const int64_t count = n - begin < kScaleBlock ? n - begin : kScaleBlock;
    Row row = Row::Load(x + begin, count);
    scales[begin / kScaleBlock] = _mm512_cvtss_f32(row.Quantize(ue8m0, floor));
    uint16_t* out = values + begin;
    if (count == kScaleBlock) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; i += 2) _mm512_storeu_si512(out + i * kLanes, Pack(row.v[i], row.v[i + 1]));
      continue;
    }
    for (int i = 0; i < kVectors && i * kLanes < count; i += 2) {
      const int64_t left = count - i * kLanes;
      const __mmask32 valid = left >= 32 ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
      _mm512_mask_storeu_epi16(out + i * kLanes, valid, Pack(row.v[i], row.v[i + 1]));
    }
  }
}

// ---- Tiles 128x1 ----

namespace {

// 16 values of bf16 as float32.
inline __m512 Widened(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// Pairs of rows [r, end) of 16 columns: value(row) gives a row's.
template <class Value>
inline void PairColumns(uint16_t* out, int64_t r, int64_t end, __m512 scale, const Reciprocal& recip, __m512i order,
                        const Value& value) {
  constexpr int64_t kStep = 16;  // rows that are divided together
  for (; r < end; r += kStep) {
    const int64_t stop = r + kStep < end ? r + kStep : end;
    __mmask16 doubt = 0;
    for (int64_t i = r; i < stop; i += 2) {
      const __m512 even = Encode(value(i), recip, &doubt);
      const __m512 odd = i + 1 < stop ? Encode(value(i + 1), recip, &doubt) : _mm512_setzero_ps();
      _mm512_storeu_si512(out + i * kLanes, _mm512_permutexvar_epi16(order, Pack(even, odd)));
    }
    if (__builtin_expect(doubt == 0, 1)) continue;
    for (int64_t i = r; i < stop; i += 2) {
      const __m512 even = EncodeDivided(value(i), scale);
      const __m512 odd = i + 1 < stop ? EncodeDivided(value(i + 1), scale) : _mm512_setzero_ps();
      _mm512_storeu_si512(out + i * kLanes, _mm512_permutexvar_epi16(order, Pack(even, odd)));
    }
  }
}

}  // namespace

void ColumnTileBf16(const ColumnTile& t) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  uint16_t* codes = static_cast<uint16_t*>(t.scratch);  // (count, 128), the two halves of each 32 columns apart
  float* row_scales = reinterpret_cast<float*>(codes + kScaleBlock * kScaleBlock);
  uint16_t* panels = static_cast<uint16_t*>(t.panels);
  __m512 largest[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) largest[i] = _mm512_setzero_ps();
  constexpr int64_t kAhead = 4;
  for (int64_t r = 0; r < t.count; ++r) {
    if (r + kAhead < t.count) {
      for (int64_t c = 0; c < t.n; c += kLanes) Prefetch(t.rows[r + kAhead] + c);
    }
    Row row = Row::Load(t.rows[r], t.n);
    if (t.block) {
      largest[0] = _mm512_max_ps(row.Largest(), largest[0]);
      continue;
    }
    const __m512 scale = row.Quantize(t.ue8m0, t.floor);
    row_scales[r] = _mm512_cvtss_f32(scale);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) largest[i] = LargerOf(largest[i], _mm512_mul_ps(row.v[i], scale));
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; i += 2) {
      _mm512_store_si512(codes + r * kScaleBlock + i * kLanes, Pack(row.v[i], row.v[i + 1]));
    }
  }
  if (t.block) {
    const __m512 all = _mm512_set1_ps(_mm512_reduce_max_ps(largest[0]));
    for (auto& v : largest) v = all;
  }
  for (int i = 0; i < kVectors && i * kLanes < t.n; ++i) {
    const __m512 scale = ScaleOf(largest[i], t.floor, t.ue8m0);
    const __mmask16 valid = FirstLanes(t.n - i * kLanes);
    _mm512_mask_storeu_ps(t.scales + i * kLanes, valid, scale);
    const Reciprocal recip = ReciprocalOf(scale, t.ue8m0);
    uint16_t* out = panels + i * t.ld;
    if (t.block) {
      PairColumns(out, 0, t.count, scale, recip, order,
                  [&](int64_t r) { return _mm512_maskz_loadu_ps(valid, t.rows[r] + i * kLanes); });
    } else {
      PairColumns(out, 0, t.count, scale, recip, order, [&](int64_t r) {
        return _mm512_maskz_mul_ps(valid, Widened(codes + r * kScaleBlock + i * kLanes), _mm512_set1_ps(row_scales[r]));
      });
    }
  }
}

void PairCodes(uint16_t* b, int64_t ldb, const uint8_t* even, const uint8_t* odd, int64_t n) {
  const E4m3Table table = E4m3Table::Make();
  __m512i first, second;
  for (int64_t c = 0; c < n; c += 2 * kLanes) {
    const __mmask32 valid = n - c >= 32 ? ~uint32_t{0} : (uint32_t{1} << (n - c)) - 1;
    const __m256i e = _mm256_maskz_loadu_epi8(valid, even + c);
    const __m256i o = odd ? _mm256_maskz_loadu_epi8(valid, odd + c) : _mm256_setzero_si256();
    const __m512i low = _mm512_cvtepu8_epi16(e), high = _mm512_slli_epi16(_mm512_cvtepu8_epi16(o), 8);
    table.Widen(_mm512_or_si512(low, high), &first, &second);
    _mm512_storeu_si512(b, first);
    if (n - c > kLanes) _mm512_storeu_si512(b + ldb, second);
    b += 2 * ldb;
  }
}

// ---- Products of codes ----

namespace {

// Value k of row r of A, a pair, is at a + r * step + k * pair.
template <bool panels, int kR, int kP>
inline void ScaledBlock(const MulScaled& m, int64_t row, int64_t panel) {
  const int64_t a_step = panels ? 2 : m.lda, pair = panels ? 2 * kLanes : 2;
  const int64_t kpairs = (m.k + 1) / 2;
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
