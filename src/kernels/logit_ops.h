// Operations on one row of logits, for choosing tokens. Unlike those of ops.h they run on the calling thread, so that
// the rows of many sequences can be the tasks of one region, and take the instruction set alone. Outputs come first;
// rows are of any length and alignment. The reference (reference/logits.cpp) is the specification.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/context.h"
#include "kernels/ops.h"

namespace fathom::kernels {

inline constexpr int64_t kExpSumOf = 1024;  // values of which ExpSums notes the sum

// maxima (MaximaCount(n),): the largest of each kMaximaOf values of x (n,). Unspecified where there are NaNs.
void Maxima(Isa isa, float* maxima, const float* x, int64_t n);

// Weights w = e^((x - top) scale), the argument rounded twice, at most 2 ulp off. sums (ceil(n / kExpSumOf),): of each
// kExpSumOf of them, four added in float32, then in double. y (n,): the weights, or null; may be x.
void ExpSums(Isa isa, float* y, double* sums, const float* x, int64_t n, float top, float scale);

// y = max(0, y - factor x), all (n,); sums as ExpSums gives them. y and x finite.
void ExcessSums(Isa isa, float* y, double* sums, const float* x, int64_t n, float factor);

// ids (n,): the ascending indices of all x >= floor; their number. What is behind them is overwritten.
int64_t AtLeast(Isa isa, int32_t* ids, const float* x, int64_t n, float floor);

// Index of the largest of x (n,), the lowest of equals, given its Maxima.
inline int64_t ArgMax(const float* x, int64_t n, const float* maxima) {
  const float* block = std::max_element(maxima, maxima + MaximaCount(n));
  return std::find(x + (block - maxima) * kMaximaOf, x + n - 1, *block) - x;
}

// f(index) for all x >= floor, ascending, until it returns false.
template <class F>
void ForEachAtLeast(Isa isa, const float* x, int64_t n, float floor, const F& f) {
  constexpr int64_t kPart = 4096;
  std::array<int32_t, kPart> ids;
  for (int64_t begin = 0; begin < n; begin += kPart) {
    const int64_t found = AtLeast(isa, ids.data(), x + begin, std::min(kPart, n - begin), floor);
    for (int64_t i = 0; i < found; ++i) {
      if (!f(static_cast<int32_t>(begin) + ids[static_cast<size_t>(i)])) return;
    }
  }
}

}  // namespace fathom::kernels
