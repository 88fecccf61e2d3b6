// The one comparison of two tensors that tests, traces and benches use.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace fathom {

struct Comparison {
  int64_t count = 0;
  double max_abs = 0;            // largest |a - b| where both are finite
  int64_t worst = -1;            // its index
  double rel_l2 = 0;             // |a - b| / |b| over the finite elements; |a - b| if b is zero
  double cosine = 1;             // of the finite elements; 1 if both are zero
  int64_t special_mismatch = 0;  // elements where one is NaN, +inf or -inf and the other is not the same
  bool Same() const { return max_abs == 0 && special_mismatch == 0; }
  std::string ToString() const;
};

// a: what is tested, b: the truth. The spans must be equally long.
Comparison Compare(std::span<const float> a, std::span<const float> b);

}  // namespace fathom
