// Primitives of tiles.h for AVX512-BF16 with VBMI: bf16 products by vdpbf16ps, E4M3 codes widened to bf16 by table
// look-up in registers. vdpbf16ps takes subnormal bf16 for zero and rounds to nearest even.
#include <immintrin.h>

#include "kernels/tiles.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

// ---- C = A B ----

template <int kR, int kP>
inline void MulBlock(const MulBf16& m, int64_t row, int64_t panel) {
  const uint16_t* a = m.a + row * m.lda;
  const uint16_t* b = m.b + panel * m.ldb;
  __m512 acc[kR][kP];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < m.kpairs; ++k) {
    __m512i bv[kP];
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) bv[p] = _mm512_loadu_si512(b + p * m.ldb + k * 2 * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
      const __m512i av = BroadcastPair(a + r * m.lda + 2 * k);
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) acc[r][p] = DotPairs(acc[r][p], av, bv[p]);
    }
  }
#pragma GCC unroll 32
  for (int p = 0; p < kP; ++p) {
    const int64_t lane = (panel + p) * kLanes;
    __m512 s = _mm512_set1_ps(m.scale);
    if (m.lane_scale) s = _mm512_mul_ps(s, _mm512_loadu_ps(m.lane_scale + lane));
    float* c = m.c + row * m.ldc + lane;
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r, c += m.ldc) {
      _mm512_storeu_ps(c,
                       m.accumulate ? _mm512_fmadd_ps(acc[r][p], s, _mm512_loadu_ps(c)) : _mm512_mul_ps(acc[r][p], s));
    }
  }
}

template <int kR, int kP>
inline void MulRows(const MulBf16& m, int64_t row, int64_t panel) {
  for (; row + kR <= m.rows; row += kR) MulBlock<kR, kP>(m, row, panel);
  if constexpr (kR > 1) MulRows<kR / 2, kP>(m, row, panel);
}

// Registers hold the C block: 24 of 32. Four panels go as two and two, with more rows each.
void Mul(const MulBf16& m) {
  int64_t panel = 0;
  for (; panel + 3 <= m.panels && m.panels - panel != 4; panel += 3) MulRows<8, 3>(m, 0, panel);
  for (; panel + 2 <= m.panels; panel += 2) MulRows<12, 2>(m, 0, panel);
  for (; panel < m.panels; ++panel) MulRows<16, 1>(m, 0, panel);
}

// ---- y = x w^T, few rows of x ----

template <int kR, int kM>
inline void DotBf16Block(const Dot& d, int64_t row, int64_t m) {
  const uint16_t* w = static_cast<const uint16_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + m * d.ldx;
  __m512 acc[kR][kM];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) acc[r][i] = _mm512_setzero_ps();
  }
  int64_t k = 0;
  for (; k + 32 <= d.k; k += 32) {
    __m512i xv[kM];
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) xv[i] = _mm512_loadu_si512(x + i * d.ldx + k);
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
      const uint16_t* p = w + r * d.k + k;
      Prefetch(p + kR * d.k);
      const __m512i wv = _mm512_loadu_si512(p);
#pragma GCC unroll 32
      for (int i = 0; i < kM; ++i) acc[r][i] = DotPairs(acc[r][i], wv, xv[i]);
    }
  }
  if (k < d.k) {
    const __mmask32 tail = (uint32_t{1} << (d.k - k)) - 1;
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
      const __m512i wv = _mm512_maskz_loadu_epi16(tail, w + r * d.k + k);
#pragma GCC unroll 32
      for (int i = 0; i < kM; ++i) acc[r][i] = DotPairs(acc[r][i], wv, _mm512_loadu_si512(x + i * d.ldx + k));
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int i = 0; i < kM; ++i) d.y[(m + i) * d.ldy + row + r] = _mm512_reduce_add_ps(acc[r][i]);
  }
}

// E4M3 rows: 64 codes become two vectors of bf16; float32 sums of 128 are scaled into a second set of sums.
template <int kR, int kM>
inline void DotE4m3Block(const Dot& d, int64_t row, int64_t m) {
  const E4m3Table table = E4m3Table::Make();
  const uint8_t* w = static_cast<const uint8_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + m * d.ldx;
  __m512 total[kR][kM];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) total[r][i] = _mm512_setzero_ps();
  }
  for (int64_t begin = 0; begin < d.k; begin += kScaleBlock) {
    __m512 acc[kR][kM];
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
      for (int i = 0; i < kM; ++i) acc[r][i] = _mm512_setzero_ps();
    }
    const int64_t end = begin + kScaleBlock < d.k ? begin + kScaleBlock : d.k;
    for (int64_t k = begin; k < end; k += 64) {
      const __mmask64 valid = end - k >= 64 ? ~uint64_t{0} : (uint64_t{1} << (end - k)) - 1;
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) {
        const uint8_t* p = w + r * d.k + k;
        Prefetch(p + kR * d.k);
        __m512i low, high;
        table.Widen(_mm512_maskz_loadu_epi8(valid, p), &low, &high);
#pragma GCC unroll 32
        for (int i = 0; i < kM; ++i) {
          acc[r][i] = DotPairs(acc[r][i], low, _mm512_loadu_si512(x + i * d.ldx + k));
          acc[r][i] = DotPairs(acc[r][i], high, _mm512_loadu_si512(x + i * d.ldx + k + 32));
        }
      }
    }
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) {
      float s = d.w_scale[begin / kScaleBlock];
      if (d.x_scale) s *= d.x_scale[(m + i) * d.ldxs + begin / kScaleBlock];
      const __m512 sv = _mm512_set1_ps(s);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) total[r][i] = _mm512_fmadd_ps(acc[r][i], sv, total[r][i]);
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int i = 0; i < kM; ++i) d.y[(m + i) * d.ldy + row + r] = _mm512_reduce_add_ps(total[r][i]);
  }
}

template <int kR, int kM>
inline void DotBf16Rows(const Dot& d, int64_t row) {
  for (; row + kR <= d.rows; row += kR) {
    int64_t m = 0;
    for (; m + kM <= d.m; m += kM) DotBf16Block<kR, kM>(d, row, m);
    if constexpr (kM > 4) {
      for (; m + 4 <= d.m; m += 4) DotBf16Block<kR, 4>(d, row, m);
    }
    if constexpr (kM > 2) {
      for (; m + 2 <= d.m; m += 2) DotBf16Block<kR, 2>(d, row, m);
    }
    for (; m < d.m; ++m) DotBf16Block<kR, 1>(d, row, m);
  }
  if constexpr (kR > 1) DotBf16Rows<kR / 2, kM>(d, row);
}

void DotBf16(const Dot& d) {
  if (d.m == 1) {
    DotBf16Rows<8, 1>(d, 0);
  } else if (d.m <= 4) {
    DotBf16Rows<4, 4>(d, 0);
  } else {
    DotBf16Rows<3, 8>(d, 0);
  }
}

template <int kR, int kM>
inline void DotE4m3Rows(const Dot& d, int64_t row) {
  for (; row + kR <= d.rows; row += kR) {
    int64_t m = 0;
    for (; m + kM <= d.m; m += kM) DotE4m3Block<kR, kM>(d, row, m);
    if constexpr (kM > 2) {
      for (; m + 2 <= d.m; m += 2) DotE4m3Block<kR, 2>(d, row, m);
    }
    for (; m < d.m; ++m) DotE4m3Block<kR, 1>(d, row, m);
  }
  if constexpr (kR > 1) DotE4m3Rows<kR / 2, kM>(d, row);
}

void DotE4m3(const Dot& d) {
  if (d.m == 1) {
    DotE4m3Rows<4, 1>(d, 0);
  } else {
    DotE4m3Rows<2, 4>(d, 0);
  }
}

// ---- Rows ----

void WidenE4m3(uint16_t* out, const void* in, int64_t n) {
  const E4m3Table table = E4m3Table::Make();
  const uint8_t* codes = static_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < n; i += 64) {
    const int64_t left = n - i;
    const __mmask64 valid = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    __m512i low, high;
    table.Widen(_mm512_maskz_loadu_epi8(valid, codes + i), &low, &high);
    _mm512_mask_storeu_epi16(out + i, static_cast<__mmask32>(valid), low);
    _mm512_mask_storeu_epi16(out + i + 32, static_cast<__mmask32>(valid >> 32), high);
  }
}

void RoundBf16(uint16_t* out, const float* in, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = FirstLanes(n - i);
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(valid, in + i));
    _mm256_mask_storeu_epi16(out + i, valid, rounded);
  }
}

// Blocks of 16 x 16, their unused rows and columns masked.
void Transpose32(void* out_bytes, int64_t ldo, const void* in_bytes, int64_t ldi, int64_t rows, int64_t cols) {
  uint32_t* out = static_cast<uint32_t*>(out_bytes);
  const uint32_t* in = static_cast<const uint32_t*>(in_bytes);
  for (int64_t r = 0; r < rows; r += 16) {
    const int64_t height = rows - r < 16 ? rows - r : 16;
    const __mmask16 row_mask = FirstLanes(height);
    for (int64_t c = 0; c < cols; c += 16) {
      const int64_t width = cols - c < 16 ? cols - c : 16;
      const __mmask16 col_mask = FirstLanes(width);
      __m512i v[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        v[i] = i < height ? _mm512_maskz_loadu_epi32(col_mask, in + (r + i) * ldi + c) : _mm512_setzero_si512();
      }
      Transpose16(v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (i < width) _mm512_mask_storeu_epi32(out + (c + i) * ldo + r, row_mask, v[i]);
      }
    }
  }
}

void PairRows(uint16_t* b, int64_t ldb, const uint16_t* w, int64_t ldw, int64_t k, int64_t n) {
  for (int64_t r = 0; r < k; r += 2, b += 2 * kLanes) {
    const uint16_t* even = w + r * ldw;
    const uint16_t* odd = even + ldw;
    for (int64_t c = 0; c < n; c += kLanes) {
      const __mmask16 valid = FirstLanes(n - c);
      const __m512i e = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, even + c));
      const __m512i o =
          r + 1 < k ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, odd + c)) : _mm512_setzero_si512();
      _mm512_storeu_si512(b + c / kLanes * ldb, _mm512_or_si512(e, _mm512_slli_epi32(o, 16)));
    }
  }
}

}  // namespace

bool AddAvx512Bf16(Tiles* tiles) {
  tiles->mul_bf16 = Mul;
  tiles->dot_bf16_bf16 = DotBf16;
  tiles->dot_bf16_e4m3 = DotE4m3;
  tiles->widen_e4m3_bf16 = WidenE4m3;
  tiles->round_bf16 = RoundBf16;
  tiles->transpose32 = Transpose32;
  tiles->pair_rows = PairRows;
  return true;
}

}  // namespace fathom::kernels
