// Normal random numbers in bulk, counter-based (rng.h): the same bits on every machine, for any partition of the work.
#pragma once

#include <cstdint>

namespace fathom {

// out[i] = deviation * z(seed, stream, counter * 4 + i), z of mean 0 and variance 1, for i in [0, n). Box-Muller over
// Philox4x32-10: each counter gives four values. Only IEEE additions, multiplications and square roots, so that the
// compiler may vectorise and no mathematics library has a say. |z| < 5.8 (uniforms of 24 bits).
void FillNormal(uint64_t seed, uint64_t stream, uint64_t counter, float deviation, float* out, int64_t n);

}  // namespace fathom
