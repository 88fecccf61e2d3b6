// Row operations in scalar code: what they must compute (contracts in ops.h). Each does rows [begin, end) on the
// calling thread. Sums are in double, results rounded once.
#pragma once

#include "kernels/ops.h"

namespace fathom::kernels::reference {

void RmsNorm(const RmsNormArgs& args, int64_t begin, int64_t end);
void Rope(const RopeArgs& args, int64_t begin, int64_t end);
void Swiglu(const SwigluArgs& args, int64_t begin, int64_t end);
void Combine(const CombineArgs& args, int64_t begin, int64_t end);
void Embed(const EmbedArgs& args, int64_t begin, int64_t end);
void CacheWrite(const CacheWriteArgs& args, int64_t begin, int64_t end);
void CacheRead(const CacheReadArgs& args, int64_t begin, int64_t end);
void Gate(const GateArgs& args, int64_t begin, int64_t end);

// A column of a position's row as CacheRead gives it.
float CacheValue(const LatentCache& cache, int64_t position, int64_t column);

// Index of the first non-finite value of x (n,), or -1.
int64_t FirstNonFinite(const float* x, int64_t n);

}  // namespace fathom::kernels::reference
