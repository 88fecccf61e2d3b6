#include <immintrin.h>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {

double DotBf16Avx512(int64_t rounds, float* sink) {
  constexpr int kAcc = 16;
  const volatile int pair = 0x3f003f00;  // two times 0.5
  const __m512i ones = _mm512_set1_epi32(pair);
  __m512 acc[kAcc];
  for (__m512& v : acc) v = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512& v : acc) v = _mm512_dpbf16_ps(v, (__m512bh)ones, (__m512bh)ones);
  }
  __m512 sum = acc[0];
  for (int i = 1; i < kAcc; ++i) sum = _mm512_add_ps(sum, acc[i]);
  *sink = _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * kAcc * 16 * 4;
}

double DotInt8Avx512(int64_t rounds, float* sink) {
  constexpr int kAcc = 16;
  const volatile int four = 0x01010101;
  const __m512i ones = _mm512_set1_epi32(four);
  __m512i acc[kAcc];
  for (__m512i& v : acc) v = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512i& v : acc) v = _mm512_dpbusd_epi32(v, ones, ones);
  }
  __m512i sum = acc[0];
  for (int i = 1; i < kAcc; ++i) sum = _mm512_add_epi32(sum, acc[i]);
  *sink = static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(sum)));
  return static_cast<double>(rounds) * kAcc * 16 * 8;
}

}  // namespace fathom::kernels::peak
