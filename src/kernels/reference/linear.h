// Matrix products in scalar code with double sums: what Linear, LinearTransposed and QuantizeTiles must compute
// (contracts in ops.h). The arithmetic is modelled where it is part of the recipe (rounding of activations, 1x128
// tiles), and otherwise as exact as double is.
#pragma once

#include "kernels/ops.h"

namespace fathom::kernels::reference {

void Linear(Context& ctx, Arena& scratch, const LinearArgs& args);
void LinearTransposed(Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs, Compute compute);
void QuantizeTiles(Context& ctx, const QuantizeTilesArgs& args);

// One row of n values: codes (n,), scales (ceil(n/128),) of an amax of at least `floor`.
void QuantizeRow(uint8_t* codes, float* scales, const float* x, int64_t n, bool ue8m0, float floor);

// A stored value as float32, without its FP8 scale.
float Decode(const std::byte* row, int64_t col, DType dtype);

}  // namespace fathom::kernels::reference
