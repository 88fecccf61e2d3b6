// What tiled attention needs besides tiles.h, in portable vector code, one copy per instruction set.
#pragma once

#include "kernels/attention_tiles.h"
#include "kernels/simd/targets.h"

namespace fathom::kernels {

FATHOM_SIMD_DECLARE(                                    //
    void Softmax(const SoftmaxTile& tile); /* float */  //
    /* float32 panels [k][16] whose lanes are the columns of w (k, n), ldw apart; lanes from n on are zero. Panel p at
     */
    /* b + p * ldb. */                                                                          //
    void PackPanels(float* b, int64_t ldb, const float* w, int64_t ldw, int64_t k, int64_t n);  //
    /* rows of bf16 or float32, q float32 */                                                    //
    void LatentStepBf16Rows(const LatentTile& tile);                                            //
    void LatentStepF32Rows(const LatentTile& tile);                                             //
    /* y = y * a + x * b over n values; fresh: y = x * b. */                                    //
    void ScaleAdd(float* y, float a, const float* x, float b, int64_t n, bool fresh);)

}  // namespace fathom::kernels
