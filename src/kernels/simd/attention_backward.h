// What the tiled gradient of attention needs besides tiles.h, in portable vector code, one copy per instruction set.
#pragma once

#include "kernels/attention_tiles.h"
#include "kernels/simd/targets.h"

namespace fathom::kernels {

FATHOM_SIMD_DECLARE(                                          //
    void BackwardStep(const BackwardTile& tile); /* float */  //
    /* to[i] = the sum of a[i, j] b[i, j], rows ld apart. */  //
    void RowDots(float* to, const float* a, const float* b, int64_t ld, int64_t rows, int64_t n);)

}  // namespace fathom::kernels
