// Operations on a row of logits in portable vector code, one copy per instruction set. Contracts in logit_ops.h.
#pragma once

#include "kernels/logit_ops.h"
#include "kernels/simd/targets.h"

namespace fathom::kernels {

FATHOM_SIMD_DECLARE(                                                                          //
    void Maxima(float* maxima, const float* x, int64_t n);                                    //
    void ExpSums(float* y, double* sums, const float* x, int64_t n, float top, float scale);  //
    void ExcessSums(float* y, double* sums, const float* x, int64_t n, float factor);         //
    int64_t AtLeast(int32_t * ids, const float* x, int64_t n, float floor);)

}  // namespace fathom::kernels
