// Rows of a latent cache of F8_E4M3 (LatentCache in ops.h) on given primitives. Private to kernels/.
#pragma once

#include "kernels/ops.h"
#include "kernels/tiles.h"

namespace fathom::kernels {

// x (width,) as a row.
void WriteLatentRow(const Tiles& tiles, const LatentCache& cache, std::byte* row, const float* x);
// Columns [column, column + n) of a row in float32.
void ReadLatentRow(const Tiles& tiles, const LatentCache& cache, const std::byte* row, int64_t column, int64_t n,
                   float* out);
// A whole row, rounded to bf16.
void ReadLatentRow(const Tiles& tiles, const LatentCache& cache, const std::byte* row, uint16_t* out);

}  // namespace fathom::kernels
