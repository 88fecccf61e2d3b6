// Row operations in portable vector code, one copy per instruction set.
#pragma once

#include "kernels/ops.h"
#include "kernels/simd/targets.h"

namespace fathom::kernels {

FATHOM_SIMD_DECLARE(                                                          //
    void RmsNorm(const RmsNormArgs& args, int64_t begin, int64_t end);        //
    void Rope(const RopeArgs& args, int64_t begin, int64_t end);              //
    void Swiglu(const SwigluArgs& args, int64_t begin, int64_t end);          //
    void Combine(const CombineArgs& args, int64_t begin, int64_t end);        //
    void Embed(const EmbedArgs& args, int64_t begin, int64_t end);            //
    void CacheWrite(const CacheWriteArgs& args, int64_t begin, int64_t end);  //
    void CacheRead(const CacheReadArgs& args, int64_t begin, int64_t end);    //
    int64_t FirstNonFinite(const float* x, int64_t n);
    /* For the gate: sigmoid(x) and e^(x - shift) in double precision without fused products, so that every */
    /* instruction set gives the same bits; sigmoid rounded to float32 once. */
    void SigmoidOnce(float* y, const float* x, int64_t n);
    void ExpOfDifference(double* y, const float* x, float shift, int64_t n);  //
    void ExpInPlace(float* x, int64_t n);
    /* the exp of all kernels, for tests */)

}  // namespace fathom::kernels
