#include <arm_neon.h>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {

double FmaNeon(int64_t rounds, float* sink) {
  constexpr int kAcc = 16;
  const volatile float half = 0.5f;
  const float32x4_t a = vdupq_n_f32(half);
  float32x4_t acc[kAcc];
  for (float32x4_t& v : acc) v = vdupq_n_f32(0);
  for (int64_t i = 0; i < rounds; ++i) {
    for (float32x4_t& v : acc) v = vfmaq_f32(a, v, a);
  }
  float32x4_t sum = acc[0];
  for (int i = 1; i < kAcc; ++i) sum = vaddq_f32(sum, acc[i]);
  *sink = vgetq_lane_f32(sum, 0);
  return static_cast<double>(rounds) * kAcc * 4 * 2;
}

}  // namespace fathom::kernels::peak
