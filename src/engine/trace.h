// What a model computes on some tokens, tensor by tensor: for comparing implementations, and for tests.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "model/transformer.h"

namespace fathom::engine {

// One tensor, its rows collected over the chunks of a run.
struct TracedTensor {
  DType dtype = DType::kF32;  // kF32 or kI32
  int64_t cols = 0;
  std::vector<float> f32;
  std::vector<int32_t> i32;

  int64_t rows() const;
  TensorView View() const;
};

// hidden.L (T, d) after block L, final_hidden (T, d), logits (T, V), router_ids.L and router_weights.L (T, K),
// mtp_hidden.k (T-k, d) before shared_head.norm, mtp_logits.k (T-k, V).
using Trace = std::map<std::string, TracedTensor>;

struct TraceOptions {
  model::Compute compute = model::Compute::kF32;
  DType cache_dtype = DType::kF32;
  int64_t chunk = 0;  // tokens of a step; 0: all at once
  model::AttentionForm form = model::AttentionForm::kFull;
  // Block L takes these (T, d) values (MTP depth k, L = num_hidden_layers + k - 1: (T - k, d)) instead of the block
  // before's.
  std::map<int64_t, std::vector<float>> inputs;
};

// Relative L2 difference to exact arithmetic from which a tensor behind `layer` + 1 blocks counts as departed. A block
// rounds each value about ten times in a row, and a sum of K terms adds sqrt(K), some 30 to 100, roundings of its size,
// so eps * 1024 a block holds what float32 does (eps 2^-24); bf16 rounds only the products' inputs, whose errors
// average out: 16 * 2^-9; an E4M3 code is off by up to 2^-4 of its value, and by half of that for a whole row where one
// code in four rounds the other way: 2^-5.
double TraceTolerance(model::Compute compute, int64_t layer);

Trace RunTrace(Context& ctx, const model::Transformer& transformer, std::span<const int32_t> ids,
               const TraceOptions& options);

}  // namespace fathom::engine
