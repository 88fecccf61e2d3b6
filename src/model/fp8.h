// What FP8 training (Compute::kFp8, V3 report 3.3) adds to the model: activations that wait on the tape in tiles, and
// how far the tiles of activation gradients lie from their values.
#pragma once

#include "model/env.h"

namespace fathom::model {

// Rows (rows, n) on the tape as kernels::PackTiles leaves them.
struct PackedRows {
  std::byte* codes = nullptr;
  float* scales = nullptr;
  int64_t rows = 0, n = 0;
  kernels::TileFormat format = kernels::TileFormat::kE4M3;
};

// Keeps x (rows, n), contiguous; the tape's or, outside of training, the caller's.
PackedRows PackRows(const Env& env, const float* x, int64_t rows, int64_t n, kernels::TileFormat format, bool ue8m0);
// x (rows, n) = what was kept.
void UnpackRows(const Env& env, const PackedRows& packed, float* x);

// Adds to env.training->gradient_errors what quantising dy (m, N) for `w` loses. At most its first 512 rows.
void MeasureGradient(const Env& env, const kernels::LinearBackwardTerm& term, int64_t m);

// The gradient dy (m, N) of the product with `w`, looked at under `name` and measured where the step asks for it.
kernels::LinearBackwardTerm GradientTerm(const Env& env, const TensorName& name, const float* dy, int64_t m,
                                         const Weight& w, const int32_t* dy_rows = nullptr);

// dw += dy^T x for rows of dy (., N) and x (., K), contiguous: the first m, or those of the numbers given.
kernels::LinearBackwardWeightJob WeightGradient(const Env& env, const Weight& grad, const float* dy, const float* x,
                                                int64_t m, const int32_t* dy_rows = nullptr,
                                                const int32_t* x_rows = nullptr);

// E4M3ToF32(F32ToE4M3(x)) of |x| <= 448 in a form that compilers vectorise: added to a number whose last bit is worth
// what E4M3's is at x (3 bits of mantissa, exponents from -6 on), x is rounded.
inline float RoundToE4M3(float x) {
  constexpr uint32_t kExponent = 0x7f800000u, kLeast = (127u - 6u) << 23, kTwenty = 20u << 23, kHalf = 1u << 22;
  const uint32_t exponent = std::bit_cast<uint32_t>(x) & kExponent;
  const auto coarse = std::bit_cast<float>(((exponent > kLeast ? exponent : kLeast) + kTwenty) | kHalf);
  return (x + coarse) - coarse;
}

}  // namespace fathom::model
