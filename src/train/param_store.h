// The trained values of a model and all that belongs to them: float32 masters, gradients, Adam's moments, the copies
// that the arithmetic uses, the averaged weights. Each kind lies in one piece of memory, 64-byte aligned by tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/context.h"
#include "model/env.h"
#include "model/params.h"

namespace fathom::train {

// What decides how a run stores and computes: nothing else looks at these.
struct StorePolicy {
  model::Compute compute = model::Compute::kBf16;  // kF32, kBf16 or kFp8
  bool dy_blocks = false;                          // kFp8: activation gradients in blocks of 128x128
  DType moments = DType::kF32;                     // or kBF16 (report 3.3.2)
  bool ema = false;
  bool optimizer = true;  // moments at all: false for gradients alone
};

// Where the precision of each tensor is decided. BF16 runs compute projections, head and eh_proj from bf16 copies; the
// embedding, the gate, norms and the router bias stay float32 (report 3.3.1). FP8 runs compute projections from E4M3 in
// blocks of 128x128.
struct TensorPolicy {
  DType compute = DType::kF32;  // kBF16, kF8E4M3: a copy beside the master
  // The activations beside it, and their gradients, have power-of-two scales: o_proj's input, which waits as E5M6, what
  // is sent to the experts, and what comes back for down_proj (report 3.3.3). Dense and shared feed-forwards likewise.
  bool ue8m0 = false;
  bool trained = true;  // by gradient: all but the router bias
  bool decay = false;   // matrices only, as the goldens' AdamW
};
TensorPolicy PolicyOf(const model::ParamInfo& info, const StorePolicy& policy);

struct StoredTensor {
  std::string name;
  Shape shape;
  model::ParamKind kind = model::ParamKind::kMatrix;
  TensorPolicy policy;
  int64_t n = 0;
  float* master = nullptr;
  float* grad = nullptr;  // null where not trained, as are:
  void* m = nullptr;
  void* v = nullptr;
  uint16_t* bf16 = nullptr;  // null where the arithmetic uses the master
  uint8_t* fp8 = nullptr;    // or these:
  float* scales = nullptr;   // (ceil(rows / 128), ceil(cols / 128))
  float* ema = nullptr;
};

class ParamStore {
 public:
  // All zero. Config must outlive this.
  ParamStore(const model::ModelConfig& config, const StorePolicy& policy);
  ParamStore(const ParamStore&) = delete;
  ParamStore& operator=(const ParamStore&) = delete;

  // Normal values as checkpoint::InitCheckpoint's with this seed and deviation; norms 1, bias 0.
  void Init(Context& ctx, uint64_t seed, double deviation);
  // The values of a checkpoint's parameters, widened (FP8: codes times scales).
  void Assign(Context& ctx, const model::ModelParams& from);
  // Copies (and, if `ema`, the averages) from the masters.
  void Refresh(Context& ctx, bool ema);
  // FP8 copies from the masters.
  void QuantizeFp8(Context& ctx);

  const StorePolicy& policy() const { return policy_; }
  const model::ModelParams& params() const { return params_; }  // what the arithmetic uses
  const model::ModelParams& grads() const { return grads_; }
  std::vector<StoredTensor>& tensors() { return tensors_; }  // in ForEachParam's order, MTP's copies left out
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* Find(std::string_view name) const;  // null: no such tensor
  // The selection bias of cache layer l (MTP blocks after the main ones), (E,), or null.
  float* RouterBias(int64_t layer);
  const float* RouterBias(int64_t layer) const { return const_cast<ParamStore*>(this)->RouterBias(layer); }

  int64_t bytes() const { return storage_.bytes(); }
  // Without making it: what a store of this model takes.
  static int64_t Bytes(const model::ModelConfig& config, const StorePolicy& policy);

 private:
  const model::ModelConfig& config_;
  StorePolicy policy_;
  Buffer storage_;
  model::ModelParams params_, grads_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace fathom::train
