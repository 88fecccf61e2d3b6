// The operations of training in scalar code: what they must compute (contracts in train_ops.h). Sums are in double,
// results rounded once. Those with row or task ranges do them on the calling thread.
#pragma once

#include "kernels/train_ops.h"

namespace fathom::kernels::reference {

// Rows [begin, end) of dx or dw.
void LinearBackwardInput(const LinearBackwardInputJob& job, Compute compute, int64_t begin, int64_t end);
void LinearBackwardWeight(const LinearBackwardWeightJob& job, Compute compute, int64_t begin, int64_t end);

// dx of rows [begin, end); their share of the weight's gradient is added to dw (n,) in double.
void RmsNormBackward(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end);
void SwigluBackward(const SwigluBackwardArgs& args, int64_t begin, int64_t end);
void GateBackward(const GateBackwardArgs& args, int64_t begin, int64_t end);
// Tokens [begin, end): their shares are added to p (E,) and to counts (E,), how often each is among the largest.
void Balance(const BalanceArgs& args, double* p, int64_t* counts, int64_t begin, int64_t end);
// One head of one sequence; its share of dk_rope is added to dk_rope (T, dr) in double. scratch: T doubles.
void AttentionBackward(const AttentionBackwardArgs& args, int64_t head, double* dk_rope, double* scratch);
void CrossEntropy(const CrossEntropyArgs& args, int64_t begin, int64_t end);
// Columns [begin, end).
void EmbedBackward(const EmbedBackwardArgs& args, int64_t begin, int64_t end);
void Adamw(const AdamwArgs& args, int64_t begin, int64_t end);
double SumOfSquares(const float* x, int64_t n);

}  // namespace fathom::kernels::reference
