// UpperBounds for AVX512-VNNI, which every processor with AVX512-BF16 has: quads of rows of x as in
// quads_avx512bf16.cpp, with 16 codes of each row in a vector. vpdpbusd takes unsigned codes on one side: those of x
// plus 128, so that 128 times the sum of w's codes is taken off again.
#include <immintrin.h>

#include "kernels/tiles.h"
#include "kernels/upper_bounds.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int kRows = 4;  // of w at a time, neighbours
constexpr int64_t kVector = 64;
constexpr int64_t kAheadBytes = 8192;

// Sums of kRows rows of w and kQ quads to sums[row of x][column + row of w].
template <int kQ>
inline void Block(const int8_t* w, int64_t cols, const uint8_t* x, int32_t (*sums)[kCodedRows], int64_t column) {
  __m512i acc[kRows][kQ];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 6
    for (int q = 0; q < kQ; ++q) acc[r][q] = _mm512_setzero_si512();
  }
  const int8_t* ahead = w + kAheadBytes;  // may lie behind the last row: asking is allowed anywhere
  for (int64_t k = 0; k < cols; k += kVector, ahead += kRows * kVector) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) PrefetchFar(ahead + r * kVector);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, x += kQ * kVector) {
      __m512i w16[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        w16[r] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + r * cols + k + 16 * i)));
      }
#pragma GCC unroll 6
      for (int q = 0; q < kQ; ++q) {
        const __m512i xv = _mm512_loadu_si512(x + q * kVector);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) acc[r][q] = _mm512_dpbusd_epi32(acc[r][q], xv, w16[r]);
      }
    }
  }
#pragma GCC unroll 6
  for (int q = 0; q < kQ; ++q) {
    const __m512i a = acc[0][q], b = acc[1][q], c = acc[2][q], d = acc[3][q];
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    int32_t* to = sums[4 * q] + column;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(all));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + kCodedRows), _mm512_extracti32x4_epi32(all, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * kCodedRows), _mm512_extracti32x4_epi32(all, 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * kCodedRows), _mm512_extracti32x4_epi32(all, 3));
  }
}

// Rows [first, first + 4 kQ) of x, as far as there are so many.
template <int kQ>
void Rows(const BoundsTask& t, int64_t first) {
  const CodedMatrix& w = *t.w;
  alignas(64) int32_t sums[4 * kQ][kCodedRows];
  alignas(64) float tops[4 * kQ][kCodedRows];
  const int64_t blocks = MaximaCount(w.rows);
  const bool around = StoredAround(t.y + first * t.ldy + t.begin, t.ldy);
  for (int64_t n = t.begin; n < t.end; n += kCodedRows) {
    for (int64_t r = 0; r < kCodedRows; r += kRows) {
      Block<kQ>(w.codes + (n + r) * w.cols, w.cols, t.x->quads + first * w.cols, sums, r);
    }
    const __m512i offset = _mm512_slli_epi32(_mm512_loadu_si512(w.sums + n), 7);
    const __m512 scale = _mm512_loadu_ps(w.scales + n), norm = _mm512_loadu_ps(w.norms + n);
    const __m512 rest = _mm512_loadu_ps(w.rests + n);
    for (int64_t i = 0; i < 4 * kQ && first + i < t.x->m; ++i) {
      const int64_t row = first + i;
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums[i]), offset));
      const __m512 coded = _mm512_mul_ps(sum, _mm512_mul_ps(scale, _mm512_set1_ps(t.x->scales[row])));
      const __m512 y = _mm512_fmadd_ps(norm, _mm512_set1_ps(t.x->rests[row]),
                                       _mm512_fmadd_ps(rest, _mm512_set1_ps(t.x->norms[row]), coded));
      float* to = t.y + row * t.ldy + n;
      const __mmask16 lanes = FirstLanes(t.end - n);
      if (t.end - n >= kCodedRows) {
        StoreLine(to, _mm512_castps_si512(y), around);
      } else {
        _mm512_mask_storeu_ps(to, lanes, y);
      }
      if (!t.maxima) continue;
      const __m512 before = n % kMaximaOf == 0 ? _mm512_set1_ps(-__builtin_inff()) : _mm512_load_ps(tops[i]);
      const __m512 top = _mm512_mask_max_ps(before, lanes, before, y);
      _mm512_store_ps(tops[i], top);
      if ((n + kCodedRows) % kMaximaOf == 0 || n + kCodedRows >= t.end) {
        t.maxima[row * blocks + n / kMaximaOf] = _mm512_reduce_max_ps(top);
      }
    }
  }
  if (around) StoresDone();
}

}  // namespace

void BoundsAvx512Bf16(const BoundsTask& task) {
  constexpr void (*kRowsOf[])(const BoundsTask&, int64_t) = {Rows<1>, Rows<2>, Rows<3>, Rows<4>, Rows<5>, Rows<6>};
  const int64_t m = task.x->m, group = QuadGroup(m);
  for (int64_t first = 0; first < m; first += group) {
    const int64_t rows = m - first < group ? m - first : group;
    kRowsOf[(rows + 3) / 4 - 1](task, first);
  }
}

}  // namespace fathom::kernels
