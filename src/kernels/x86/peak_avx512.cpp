#include <immintrin.h>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {
namespace {

using Vec = __m512i;
constexpr int64_t kVecBytes = 64;
inline Vec Load(const char* p) { return _mm512_loadu_si512(p); }
inline Vec Xor(Vec a, Vec b) { return _mm512_xor_si512(a, b); }
inline uint64_t Fold(Vec v) {
  const __m256i h = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  return static_cast<uint64_t>(_mm256_extract_epi64(h, 0) ^ _mm256_extract_epi64(h, 1) ^ _mm256_extract_epi64(h, 2) ^
                               _mm256_extract_epi64(h, 3));
}
inline void Prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T0); }

}  // namespace
}  // namespace fathom::kernels::peak

#include "kernels/peak_read-inl.h"

namespace fathom::kernels::peak {

uint64_t ReadAvx512(const void* data, int64_t bytes, int streams, bool prefetch) {
  return Read(data, bytes, streams, prefetch);
}

double FmaAvx512(int64_t rounds, float* sink) {
  constexpr int kAcc = 16;
  const volatile float half = 0.5f;
  const __m512 a = _mm512_set1_ps(half);
  __m512 acc[kAcc];
  for (__m512& v : acc) v = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512& v : acc) v = _mm512_fmadd_ps(v, a, a);
  }
  __m512 sum = acc[0];
  for (int i = 1; i < kAcc; ++i) sum = _mm512_add_ps(sum, acc[i]);
  *sink = _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * kAcc * 16 * 2;
}

}  // namespace fathom::kernels::peak
