#include "kernels/reference/logits.h"

#include <algorithm>
#include <cmath>

#include "kernels/logit_ops.h"

namespace fathom::kernels::reference {

void Maxima(float* maxima, const float* x, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kMaximaOf) {
    *maxima++ = *std::max_element(x + begin, x + std::min(n, begin + kMaximaOf));
  }
}

void ExpSums(float* y, double* sums, const float* x, int64_t n, float top, float scale) {
  for (int64_t begin = 0; begin < n; begin += kExpSumOf) {
    double sum = 0;
    for (int64_t i = begin; i < std::min(n, begin + kExpSumOf); ++i) {
      const float w = static_cast<float>(std::exp(static_cast<double>((x[i] - top) * scale)));
      if (y) y[i] = w;
      sum += w;
    }
    *sums++ = sum;
  }
}

void ExcessSums(float* y, double* sums, const float* x, int64_t n, float factor) {
  for (int64_t begin = 0; begin < n; begin += kExpSumOf) {
    double sum = 0;
    for (int64_t i = begin; i < std::min(n, begin + kExpSumOf); ++i) {
      y[i] = std::max(0.0f, static_cast<float>(y[i] - static_cast<double>(factor) * x[i]));
      sum += y[i];
    }
    *sums++ = sum;
  }
}

int64_t AtLeast(int32_t* ids, const float* x, int64_t n, float floor) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] >= floor) ids[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace fathom::kernels::reference
