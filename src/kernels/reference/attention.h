// Attention in scalar code: what both forms must compute (contracts in ops.h). One (query, head) a call, in two passes
// over the keys: the largest score, then the weighted sum, in double. In kBf16 the inputs of both products are rounded;
// the softmax weights are rounded relative to the largest score, their sum is of the unrounded ones. If all weights are
// zero the output is zero.
#pragma once

#include "kernels/ops.h"

namespace fathom::kernels::reference {

// sums: room for dv doubles.
void Attention(const AttentionArgs& args, int64_t token, int64_t head, double* sums);

// kBf16 rounds only over a BF16 or F8_E4M3 cache. sums: room for r doubles.
void LatentAttention(const LatentAttentionArgs& args, int64_t query, int64_t head, double* sums);

}  // namespace fathom::kernels::reference
