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

}  // namespace fathom::model
