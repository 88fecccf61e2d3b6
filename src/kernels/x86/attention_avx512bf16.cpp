// Softmax of a tile of scores and decode attention over the latent cache, for AVX512-BF16. vdpbf16ps takes subnormal
// bf16 for zero and rounds to nearest even.
#include <immintrin.h>

#include "kernels/attention_tiles.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

// What is subtracted from scores whose largest is `max`: where there is none (-inf) zero, so that e^-inf remains.
inline __m512 Base(__m512 max) {
  const __mmask16 none = _mm512_cmp_ps_mask(max, _mm512_set1_ps(-__builtin_inff()), _CMP_EQ_OQ);
  return _mm512_mask_mov_ps(max, none, _mm512_setzero_ps());
}

inline void SoftmaxPanel(const SoftmaxTile& t, int64_t panel) {
  const __m512 none = _mm512_set1_ps(-__builtin_inff());
  float* s = t.scores + 16 * panel;
  const int64_t visible = t.visible + 16 * panel;
  const int64_t clear = visible < t.keys ? (visible > 0 ? visible : 0) : t.keys;
  const __m512 old_max = _mm512_loadu_ps(t.max + 16 * panel);
  __m512 m0 = old_max, m1 = old_max;
  int64_t j = 0;
  for (; j + 2 <= clear; j += 2) {
    m0 = _mm512_max_ps(m0, _mm512_loadu_ps(s + j * t.lds));
    m1 = _mm512_max_ps(m1, _mm512_loadu_ps(s + (j + 1) * t.lds));
  }
  for (; j < t.keys; ++j) {
    const int64_t hidden = j - visible + 1;  // of the first lanes
    const auto mask = static_cast<__mmask16>(hidden <= 0 ? 0xffff : hidden >= 16 ? 0 : 0xffff << hidden);
    const __m512 v = _mm512_mask_mov_ps(none, mask, _mm512_loadu_ps(s + j * t.lds));
    _mm512_storeu_ps(s + j * t.lds, v);
    m0 = _mm512_max_ps(m0, v);
  }
  const __m512 max = _mm512_max_ps(m0, m1);
  const __m512 base = Base(max);
  const __m512 alpha = ExpNonPositive(_mm512_sub_ps(old_max, base));
  __m512 s0 = _mm512_mul_ps(_mm512_loadu_ps(t.sum + 16 * panel), alpha), s1 = _mm512_setzero_ps();
  auto* w = static_cast<uint16_t*>(t.weights) + panel * t.ldw;
  for (j = 0; j < t.keys; j += 2) {
    const __m512 even = ExpNonPositive(_mm512_sub_ps(_mm512_loadu_ps(s + j * t.lds), base));
    const __m512 odd = j + 1 < t.keys ? ExpNonPositive(_mm512_sub_ps(_mm512_loadu_ps(s + (j + 1) * t.lds), base))
                                      : _mm512_setzero_ps();
    s0 = _mm512_add_ps(s0, even);
    s1 = _mm512_add_ps(s1, odd);
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    _mm512_storeu_si512(w + j * 16, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
  _mm512_storeu_ps(t.max + 16 * panel, max);
  _mm512_storeu_ps(t.sum + 16 * panel, _mm512_add_ps(s0, s1));
  _mm512_storeu_ps(t.alpha + 16 * panel, alpha);
}

// ---- Latent cache ----

// Into the second cache: rows are asked for a tile ahead, one line a step of the loops, so that memory works all along.
inline void Prefetch2(const uint16_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

// Sums of the lanes of 16 vectors: lane i of the result is that of v[i].
inline __m512 SumEach(__m512 v[16]) {
  __m512 t[8], u[4], w[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // halves of v[i], v[i + 8]
    t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xee));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // quarters: i, i + 8, i + 4, i + 12
    u[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    w[i] = _mm512_add_ps(_mm512_unpacklo_ps(u[i], u[i + 2]), _mm512_unpackhi_ps(u[i], u[i + 2]));
  const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(w[0], w[1], 0x44), _mm512_shuffle_ps(w[0], w[1], 0xee));
  // Quarters hold 0 2 1 3, 8 10 9 11, 4 6 5 7, 12 14 13 15.
  const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
  return _mm512_permutexvar_ps(order, sums);
}

// Scores of two rows: lanes 0..7 are the heads' of the first, 8..15 of the second.
// `ahead`: a row to be asked for.
inline __m512 TwoRows(const LatentTile& t, const void* row_a, const void* row_b, const void* row_ahead) {
  const auto* a = static_cast<const uint16_t*>(row_a);
  const auto* b = static_cast<const uint16_t*>(row_b);
  const auto* ahead = static_cast<const uint16_t*>(row_ahead);
  const auto* q = static_cast<const uint16_t*>(t.q);
  __m512 acc[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) acc[i] = _mm512_setzero_ps();
  int64_t k = 0;
  for (; k + 32 <= t.width; k += 32) {
    Prefetch2(ahead + k);
    const __m512i av = _mm512_loadu_si512(a + k), bv = _mm512_loadu_si512(b + k);
#pragma GCC unroll 8
    for (int h = 0; h < 8; ++h) {
      const __m512i qv = _mm512_load_si512(q + h * t.ldq + k);
      acc[h] = DotPairs(acc[h], av, qv);
      acc[8 + h] = DotPairs(acc[8 + h], bv, qv);
    }
  }
  if (k < t.width) {
    const __mmask32 tail = (uint32_t{1} << (t.width - k)) - 1;
    const __m512i av = _mm512_maskz_loadu_epi16(tail, a + k), bv = _mm512_maskz_loadu_epi16(tail, b + k);
#pragma GCC unroll 8
    for (int h = 0; h < 8; ++h) {
      const __m512i qv = _mm512_load_si512(q + h * t.ldq + k);
      acc[h] = DotPairs(acc[h], av, qv);
      acc[8 + h] = DotPairs(acc[8 + h], bv, qv);
    }
  }
  return SumEach(acc);
}

inline __m512 BothHalves(__m256 v) { return _mm512_insertf32x8(_mm512_castps256_ps512(v), v, 1); }
inline __m512 SwapHalves(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0x4e); }

// out = out * alpha + weights x rows over columns [col, col + 32), those of `valid`.
template <bool kWhole>
inline void SumColumns(const LatentTile& t, const uint32_t* weights, const float* alpha, int64_t col) {
  const auto valid = static_cast<__mmask32>(kWhole ? ~uint32_t{0} : (uint32_t{1} << (t.r - col)) - 1);
  __m512 acc[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) acc[i] = _mm512_setzero_ps();
  for (int64_t j = 0; j < t.count; j += 2) {
    const auto* a = static_cast<const uint16_t*>(t.rows[j]) + col;
    const auto* b = static_cast<const uint16_t*>(t.rows[j + 1]) + col;
    if (j + 1 < t.next_count) Prefetch2(static_cast<const uint16_t*>(t.next[j + 1]) + col);
    const __m512i av = kWhole ? _mm512_loadu_si512(a) : _mm512_maskz_loadu_epi16(valid, a);
    const __m512i bv = kWhole ? _mm512_loadu_si512(b) : _mm512_maskz_loadu_epi16(valid, b);
    const __m512i low = _mm512_unpacklo_epi16(av, bv), high = _mm512_unpackhi_epi16(av, bv);
#pragma GCC unroll 8
    for (int h = 0; h < 8; ++h) {
      const __m512i w = _mm512_set1_epi32(static_cast<int>(weights[j * 4 + h]));
      acc[h] = DotPairs(acc[h], low, w);
      acc[8 + h] = DotPairs(acc[8 + h], high, w);
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < 8; ++h) {
    float* out = t.out + h * t.ldo + col;
    const __m512 scale = _mm512_set1_ps(alpha[h]);
    _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_load_ps(out), scale, acc[h]));
    _mm512_store_ps(out + 16, _mm512_fmadd_ps(_mm512_load_ps(out + 16), scale, acc[8 + h]));
  }
}

}  // namespace

void SoftmaxBf16(const SoftmaxTile& tile) {
  for (int64_t panel = 0; panel < tile.panels; ++panel) SoftmaxPanel(tile, panel);
}

void LatentStepBf16(const LatentTile& t) {
  alignas(64) float scores[kLatentRows / 2][16];
  alignas(64) uint32_t weights[kLatentRows / 2 * 8];
  alignas(64) float alphas[16];
  const __m512 scale = _mm512_set1_ps(t.scale);
  const int64_t pairs = (t.count + 1) / 2;
  __m512 top = BothHalves(_mm256_loadu_ps(t.max));
  const __m512 old_max = top;
  for (int64_t i = 0; i < pairs; ++i) {
    __m512 s = _mm512_mul_ps(
        TwoRows(t, t.rows[2 * i], t.rows[2 * i + 1], 2 * i < t.next_count ? t.next[2 * i] : t.rows[2 * i]), scale);
    if (2 * i + 1 == t.count) s = _mm512_mask_mov_ps(s, 0xff00, _mm512_set1_ps(-__builtin_inff()));
    _mm512_store_ps(scores[i], s);
    top = _mm512_max_ps(top, s);
  }
  top = _mm512_max_ps(top, SwapHalves(top));
  const __m512 base = Base(top);
  const __m512 alpha = ExpNonPositive(_mm512_sub_ps(old_max, base));
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < pairs; ++i) {
    const __m512 p = ExpNonPositive(_mm512_sub_ps(_mm512_load_ps(scores[i]), base));
    sum = _mm512_add_ps(sum, p);
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(p);
    const __m128i first = _mm256_castsi256_si128(rounded), second = _mm256_extracti128_si256(rounded, 1);
    _mm_store_si128(reinterpret_cast<__m128i*>(weights + 8 * i), _mm_unpacklo_epi16(first, second));
    _mm_store_si128(reinterpret_cast<__m128i*>(weights + 8 * i + 4), _mm_unpackhi_epi16(first, second));
  }
  sum = _mm512_add_ps(sum, SwapHalves(sum));
  const __m256 old_sum = _mm256_mul_ps(_mm256_loadu_ps(t.sum), _mm512_castps512_ps256(alpha));
  _mm256_storeu_ps(t.sum, _mm256_add_ps(old_sum, _mm512_castps512_ps256(sum)));
  _mm256_storeu_ps(t.max, _mm512_castps512_ps256(top));
  _mm512_store_ps(alphas, alpha);
  int64_t col = 0;
  for (; col + 32 <= t.r; col += 32) SumColumns<true>(t, weights, alphas, col);
  if (col < t.r) SumColumns<false>(t, weights, alphas, col);
  for (; col < t.width; col += 32) {  // what the sums did not pass by
    for (int64_t j = 1; j < t.next_count; j += 2) Prefetch2(static_cast<const uint16_t*>(t.next[j]) + col);
  }
}

void LatentStoreBf16(float* to, const float* out, int64_t n) {
  // A vector pair holds columns 0..3 8..11 16..19 24..27 and 4..7 12..15 20..23 28..31.
  for (int64_t col = 0; col < n; col += 32) {
    const __m512 low = _mm512_load_ps(out + col), high = _mm512_load_ps(out + col + 16);
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    _mm512_mask_storeu_ps(to + col, FirstLanes(n - col), _mm512_permutex2var_ps(low, first, high));
    if (n - col > 16) {
      _mm512_mask_storeu_ps(to + col + 16, FirstLanes(n - col - 16), _mm512_permutex2var_ps(low, second, high));
    }
  }
}

}  // namespace fathom::kernels
