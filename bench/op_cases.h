// Problems of fathom-bench: an op's name and a line that says its sizes, turned into data and a call.
//
//   linear      m1n1024k1024:bf16:f8e4m3:j8      kernels/problem.h, as in the tests; jN: N matrices in one call
//   linear_backward_input, linear_backward_weight
//               m4096n512k512:bf16:bf16:j64      dx (m, k) = dy (m, n) w; dw (n, k) += dy^T x; jN: N of them at once
//   experts     m512n128k256:fp8:f8e4m3:j16     gate_proj and up_proj of 16 experts with 512 rows each
//   transposed  m1n512k128:bf16:bf16:j8          y (m, n) = x (m, k) w for w (k, n)
//   attention   t512l512h8:bf16                  t queries at the end of l positions; dn128 dr64 dv128 may follow h
//   latent      q16l4096h8:bf16                  q sequences of l positions each; r512 dr64 may follow h;
//               q16l4096h8:bf16:f8e4m3           over a cache of F8_E4M3
//   bounds      m1n129280k1024                   upper bounds of m rows of logits from 8-bit codes
//   norm swiglu t512n1024                        rows and width
//   gate        t512e64k8                        g8 groups, p4 of them chosen
//   rope        t512h8d64
//   combine     t512n1024k8
//   embed       t512n1024
//   cache       t512n576:bf16                    rows written to the latent cache
//   quantize    t512n1024                        rows to E4M3 in 1x128 tiles
//   attention_backward t512h8s8:bf16             s sequences of t positions; dn128 dr64 dv128 may follow
//   norm_backward swiglu_backward embed_backward t4096n512
//   gate_backward t4096e64k6                     with the balance loss
//   cross_entropy t512n8192                      rows and vocabulary
//   adamw       n10000000:bf16                   values; moments f32 or bf16, with the bf16 copy
//   sum_of_squares n10000000
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "kernels/peak.h"

namespace fathom::bench {

enum class Unit : uint8_t { kF32, kBf16, kInt8 };

struct OpCase {
  double operations = 0;  // of one run, a multiply-add is two
  double bytes = 0;       // read and written by one run, each once
  Unit unit = Unit::kF32;
  // Copies of what is read in bulk. Runs take them in turn, so that they come from memory as in decoding, where a
  // token's weights do not fit into any cache.
  int64_t copies = 1;
  std::function<void(int64_t copy)> run;
  std::function<std::vector<kernels::ByteSpan>(int64_t copy)> spans;  // for the read peak
};

// Makers of cases by op: those of row_cases.cpp, gradient_cases.cpp and training_cases.cpp.
using Maker = OpCase (*)(Context&, const std::string& problem, double cold_bytes);
const std::vector<std::pair<std::string, Maker>>& RowMakers();
const std::vector<std::pair<std::string, Maker>>& GradientMakers();
const std::vector<std::pair<std::string, Maker>>& TrainingMakers();

// Bytes that no cache of this machine holds.
double ColdBytes();

// Copies of what is read in bulk come to `cold_bytes` together, unless it is so small that only the call counts. Throws
// Error for an unknown op or a problem that does not parse. Buffers live in the closures.
OpCase MakeCase(Context& ctx, const std::string& op, const std::string& problem, double cold_bytes = ColdBytes());
const std::vector<std::string>& OpNames();

// "linear m1n1024k1024:bf16:bf16" lines: the shapes of the benchmark model (configs/models/bench-773m.json).
std::vector<std::pair<std::string, std::string>> DefaultSuite();

}  // namespace fathom::bench
