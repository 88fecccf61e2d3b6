// The step between the products of attention's gradient, for AVX512-BF16.
#include <immintrin.h>

#include "kernels/attention_tiles.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

// Both results of one key for 16 queries, of which `seen` see it.
struct Pair {
  __m256i weights, dscores;
};

inline Pair StepOf(const BackwardTile& t, int64_t j, int64_t panel, __m512 lse, __m512 delta, int64_t visible) {
  const int64_t hidden = j - visible + 1;  // of the first lanes
  const auto seen = static_cast<__mmask16>(hidden <= 0 ? 0xffff : hidden >= 16 ? 0 : 0xffff << hidden);
  const __m512 score = _mm512_loadu_ps(t.scores + j * t.lds + 16 * panel);
  const __m512 dweight = _mm512_loadu_ps(t.dweights + j * t.lds + 16 * panel);
  const __m512 p = _mm512_maskz_mov_ps(seen, ExpNonPositive(_mm512_sub_ps(score, lse)));
  const __m512 ds = _mm512_maskz_mul_ps(seen, p, _mm512_sub_ps(dweight, delta));
  return {(__m256i)_mm512_cvtneps_pbh(p), (__m256i)_mm512_cvtneps_pbh(ds)};
}

inline void StoreRow(void* rows, int64_t at, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(static_cast<uint16_t*>(rows) + at), v);
}

}  // namespace

void BackwardStepBf16(const BackwardTile& t) {
  for (int64_t panel = 0; panel < t.panels; ++panel) {
    const __m512 lse = _mm512_loadu_ps(t.lse + 16 * panel), delta = _mm512_loadu_ps(t.delta + 16 * panel);
    const int64_t visible = t.visible + 16 * panel;
    auto* pairs = static_cast<uint16_t*>(t.dscore_panels) + panel * t.ldp;
    for (int64_t j = 0; j < t.keys; j += 2) {
      const Pair even = StepOf(t, j, panel, lse, delta, visible);
      StoreRow(t.weights, j * t.ldr + 16 * panel, even.weights);
      StoreRow(t.dscores, j * t.ldr + 16 * panel, even.dscores);
      __m512i both = _mm512_cvtepu16_epi32(even.dscores);
      if (j + 1 < t.keys) {
        const Pair odd = StepOf(t, j + 1, panel, lse, delta, visible);
        StoreRow(t.weights, (j + 1) * t.ldr + 16 * panel, odd.weights);
        StoreRow(t.dscores, (j + 1) * t.ldr + 16 * panel, odd.dscores);
        both = _mm512_or_si512(both, _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd.dscores), 16));
      }
      _mm512_storeu_si512(pairs + j * 16, both);
    }
  }
}

}  // namespace fathom::kernels
