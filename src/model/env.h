// What every part of the model is handed: threads and instruction set, scratch, arithmetic, and the step's tokens.
//
// The model's code runs in two modes. With a planner arena it only takes its slots, so that the memory of a step is
// known before it runs; the calls below pass the work on otherwise.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"
#include "kernels/train_ops.h"

namespace fathom::model {

using kernels::Compute;
using kernels::Weight;

// Which form of MLA computes a slice: kAuto takes the cheaper one by its arithmetic.
enum class AttentionForm : uint8_t { kAuto, kFull, kAbsorbed };

// The tokens of one sequence in a step: rows [row, row + tokens) of the step's tensors, at positions [position,
// position + tokens).
struct SequenceSlice {
  int64_t row = 0;
  int64_t tokens = 0;
  int64_t position = 0;
  // Training: slices with the same number, side by side, are documents of one packed sequence, over which the balance
  // loss is taken.
  int64_t sequence = 0;
  AttentionForm form = AttentionForm::kAuto;  // of this slice, where the step's Env leaves it open
  // The states after the last block are wanted of the last `wanted` tokens only, or of all.
  static constexpr int64_t kAll = -1;
  int64_t wanted = kAll;
  // The sequence's latent cache of a layer (main layers first, then the MTP modules).
  std::span<const kernels::LatentCache> caches;

  int64_t wanted_tokens() const { return wanted == kAll ? tokens : std::min(wanted, tokens); }
};

// One step: T tokens of any number of sequences, each at its own position.
struct Step {
  std::span<const int32_t> ids;              // (T,)
  std::span<const SequenceSlice> sequences;  // their rows cover [0, T) in order
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

// Sees tensors as they are made, and may replace the input of a block. For traces and tests.
struct Probe {
  std::function<void(std::string_view name, int64_t layer, const TensorView& tensor)> on_tensor;
  std::function<void(int64_t layer, float* x, int64_t tokens)> replace_input;  // x (T, d)
};

// A tensor of a training step in the order of execution: what it is of the module ("self_attn.o_proj" or, of an
// expert, "down_proj") of the layer at work.
struct TensorName {
  static constexpr int64_t kNone = -1, kDense = -2, kShared = -3;  // no feed-forward; one without experts
  std::string_view module;
  std::string_view kind;  // input, output, gradient (of the output)
  int64_t expert = kNone;
};

// Sees activations and their gradients as they are made: row i of the m is row rows[i] of x (null: i), n values each.
using WatchFn = std::function<void(const std::string& name, const float* x, int64_t m, int64_t n, const int32_t* rows)>;

// Of the activation gradients that E4M3 products take: the norm of what quantising in tiles of 1x128 or in blocks of
// 128x128 (V3 report B.2) changes over that of the values, the mean over pieces of 1x128, summed over the products.
struct Fp8GradientErrors {
  double tiles = 0, blocks = 0;
  int64_t tensors = 0;
};

// What a training step adds. The forward pass keeps on the tape what the backward pass needs.
struct Training {
  Arena& tape;
  double balance_scale = 0;  // gradient of the loss by one sequence's balance loss
  bool isolate = false;      // documents: a row's bits must not depend on how many rows there are
  bool dy_blocks = false;    // kFp8: activation gradients in blocks of 128x128
  const WatchFn* watch = nullptr;
  Fp8GradientErrors* gradient_errors = nullptr;
  int64_t layer = -1;                           // at work, or -1 outside of the layers
  bool recomputing = false;                     // a second forward pass of the same tokens: nothing is counted
  double balance = 0;                           // sum over layers and sequences of sum f P (report eq. 17)
  std::vector<std::vector<int64_t>> load = {};  // (cache layer, E): tokens that chose each expert; dense: empty
};

// layers.3.mlp.experts.5.down_proj gradient
std::string NameOf(const TensorName& name, int64_t layer);

// The type of keys, values and latent rows.
inline DType CoreType(Compute compute) {
  return compute == Compute::kBf16 || compute == Compute::kFp8 ? DType::kBF16 : DType::kF32;
}

struct Env {
  Context& ctx;
  Arena& arena;
  Compute compute = Compute::kF32;
  AttentionForm attention_form = AttentionForm::kAuto;
  const Probe* probe = nullptr;
  Training* training = nullptr;
  bool fixed_form = false;  // a row's bits do not depend on how many rows a step has

  // A slot that lives as long as the tape in training, as long as the caller's scope otherwise.
  template <class T>
  T* Keep(int64_t count) const {
    return (training ? training->tape : arena).Take<T>(count);
  }
  bool planning() const { return arena.planning(); }
  // f(begin, end) for pieces of n values, on all threads; nothing while memory is planned.
  template <class F>
  void InPieces(int64_t n, const F& f) const {
    if (planning()) return;
    constexpr int64_t kPiece = 16384;
    ctx.pool.ParallelFor((n + kPiece - 1) / kPiece,
                         [&](int64_t piece, int) { f(piece * kPiece, std::min(n, (piece + 1) * kPiece)); });
  }
  void Show(std::string_view name, int64_t layer, const void* data, DType dtype, const Shape& shape) const {
    if (probe && probe->on_tensor && !planning()) probe->on_tensor(name, layer, TensorView{data, dtype, shape});
  }
  void Watch(const TensorName& name, const float* x, int64_t m, int64_t n, const int32_t* rows = nullptr) const {
    if (training && training->watch && !planning()) (*training->watch)(NameOf(name, training->layer), x, m, n, rows);
  }
  void Linear(std::span<const kernels::LinearJob> jobs, Compute c) const {
    kernels::Linear(ctx, arena, {jobs, c, fixed_form || (training != nullptr && training->isolate)});
  }
  void Linear(std::span<const kernels::LinearJob> jobs) const { Linear(jobs, compute); }
  // y (m, N) = x (m, K) w^T, contiguous.
  void Linear(float* y, const float* x, int64_t m, const kernels::Weight& w) const {
    const kernels::LinearJob job{.y = y, .ldy = w.rows, .x = x, .ldx = w.cols, .m = m, .w = w};
    Linear(std::span(&job, 1));
  }
  // y (m, n) = RmsNorm(x (m, n)) with a norm's weight; rows ldx apart.
  void Norm(float* y, const float* x, int64_t m, const kernels::Weight& w, double eps, int64_t ldx = 0,
            int64_t ldy = 0) const {
    if (planning()) return;
    kernels::RmsNorm(ctx, {.y = y,
                           .ldy = ldy ? ldy : w.cols,
                           .x = x,
                           .ldx = ldx ? ldx : w.cols,
                           .rows = m,
                           .n = w.cols,
                           .weight = w.data,
                           .weight_dtype = w.dtype,
                           .eps = static_cast<float>(eps)});
  }
};

// Gradients are kept in a ModelParams of the same shape whose data are float32 buffers.
inline float* Gradient(const Weight& g) { return static_cast<float*>(const_cast<void*>(g.data)); }

// The arithmetic of a weight's gradient: that of its products.
inline Compute ComputeOf(const Env& env, const Weight& w) {
  if (w.dtype == DType::kF32) return Compute::kF32;
  return env.compute == Compute::kFp8 && w.dtype != DType::kF8E4M3 ? Compute::kBf16 : env.compute;
}

}  // namespace fathom::model
