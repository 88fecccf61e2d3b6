// Row operations of training in portable vector code, one copy per instruction set. Contracts in train_ops.h; ranges as
// in reference/train.h.
#pragma once

#include "kernels/simd/targets.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {

inline constexpr int64_t kMostGateExperts = 1024;  // of GateBackward and Balance
inline constexpr int64_t kMostGateChosen = 64;     // of Balance

FATHOM_SIMD_DECLARE(                                                                                //
    void RmsNormBackward(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end);  //
    void SwigluBackward(const SwigluBackwardArgs& args, int64_t begin, int64_t end);                //
    void GateBackward(const GateBackwardArgs& args, int64_t begin, int64_t end);                    //
    void Balance(const BalanceArgs& args, double* p, int64_t* counts, int64_t begin, int64_t end);  //
    void CrossEntropy(const CrossEntropyArgs& args, int64_t begin, int64_t end);                    //
    void EmbedBackward(const EmbedBackwardArgs& args, int64_t begin, int64_t end);                  //
    void Adamw(const AdamwArgs& args, int64_t begin, int64_t end);                                  //
    double SumOfSquares(const float* x, int64_t n);)

}  // namespace fathom::kernels
