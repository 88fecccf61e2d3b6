// Operations on a row of logits in scalar code (contracts in logit_ops.h).
#pragma once

#include <cstdint>

namespace fathom::kernels::reference {

void Maxima(float* maxima, const float* x, int64_t n);
void ExpSums(float* y, double* sums, const float* x, int64_t n, float top, float scale);
void ExcessSums(float* y, double* sums, const float* x, int64_t n, float factor);
int64_t AtLeast(int32_t* ids, const float* x, int64_t n, float floor);

}  // namespace fathom::kernels::reference
