// The grammar of matrix-product problems that tests and fathom-bench share:
//
//   m8n256k1024:bf16:f8e4m3[:acc][:ybf16][:ue8m0][:fixed][:blocks][:j4]
//
// sizes of y (m, n) = x (m, k) w^T, compute (f32 bf16 w8a8 fp8), the weight's type (f32 f16 bf16 f8e4m3), and options:
// accumulate, bf16 output, power-of-two scales, LinearArgs::fixed_form, gradients quantised in blocks, four jobs of
// this size at once.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"
#include "kernels/ops.h"

namespace fathom::kernels {

struct LinearProblem {
  int64_t m = 1, n = 1, k = 1;
  Compute compute = Compute::kF32;
  DType weight = DType::kF32;
  bool accumulate = false, y_bf16 = false, ue8m0 = false, fixed_form = false, dy_blocks = false;
  int64_t jobs = 1;

  double Flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n * k * jobs); }
  double WeightBytes() const { return static_cast<double>(n * k * jobs * SizeOf(weight)); }
  std::string ToString() const;
};
Result<LinearProblem> ParseLinearProblem(std::string_view text);

}  // namespace fathom::kernels
