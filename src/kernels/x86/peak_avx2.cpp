#include <immintrin.h>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {
namespace {

using Vec = __m256i;
constexpr int64_t kVecBytes = 32;
inline Vec Load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const Vec*>(p)); }
inline Vec Xor(Vec a, Vec b) { return _mm256_xor_si256(a, b); }
inline uint64_t Fold(Vec v) {
  return static_cast<uint64_t>(_mm256_extract_epi64(v, 0) ^ _mm256_extract_epi64(v, 1) ^ _mm256_extract_epi64(v, 2) ^
                               _mm256_extract_epi64(v, 3));
}
inline void Prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T0); }

}  // namespace
}  // namespace fathom::kernels::peak

#include "kernels/peak_read-inl.h"

namespace fathom::kernels::peak {

uint64_t ReadAvx2(const void* data, int64_t bytes, int streams, bool prefetch) {
  return Read(data, bytes, streams, prefetch);
}

double FmaAvx2(int64_t rounds, float* sink) {
  constexpr int kAcc = 12;
  const volatile float half = 0.5f;
  const __m256 a = _mm256_set1_ps(half);
  __m256 acc[kAcc];
  for (__m256& v : acc) v = _mm256_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m256& v : acc) v = _mm256_fmadd_ps(v, a, a);
  }
  __m256 sum = acc[0];
  for (int i = 1; i < kAcc; ++i) sum = _mm256_add_ps(sum, acc[i]);
  *sink = _mm_cvtss_f32(_mm256_castps256_ps128(sum));
  return static_cast<double>(rounds) * kAcc * 8 * 2;
}

}  // namespace fathom::kernels::peak
