#include "train/param_store.h"

#include <algorithm>

#include "checkpoint/init.h"

namespace fathom::train {
namespace {

int64_t Blocks(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }

int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Calls place(tensor, bytes, member) for every piece of memory, kind by kind.
template <class Place>
void ForEachPiece(std::vector<StoredTensor>& tensors, const StorePolicy& policy, const Place& place) {
  const int64_t moment = SizeOf(policy.moments);
  for (StoredTensor& t : tensors) place(t.n * 4, [&t](std::byte* p) { t.master = reinterpret_cast<float*>(p); });
  for (StoredTensor& t : tensors) {
    if (t.policy.trained) place(t.n * 4, [&t](std::byte* p) { t.grad = reinterpret_cast<float*>(p); });
  }
  for (StoredTensor& t : tensors) {
    if (!t.policy.trained || !policy.optimizer) continue;
    place(t.n * moment, [&t](std::byte* p) { t.m = p; });
    place(t.n * moment, [&t](std::byte* p) { t.v = p; });
  }
  for (StoredTensor& t : tensors) {
    if (t.policy.compute == DType::kBF16)
      place(t.n * 2, [&t](std::byte* p) { t.bf16 = reinterpret_cast<uint16_t*>(p); });
  }
  for (StoredTensor& t : tensors) {
    if (t.policy.compute != DType::kF8E4M3) continue;
    place(t.n, [&t](std::byte* p) { t.fp8 = reinterpret_cast<uint8_t*>(p); });
    place(Blocks(t.shape[0]) * Blocks(t.shape[1]) * 4, [&t](std::byte* p) { t.scales = reinterpret_cast<float*>(p); });
  }
  for (StoredTensor& t : tensors) {
    if (policy.ema && t.policy.trained) place(t.n * 4, [&t](std::byte* p) { t.ema = reinterpret_cast<float*>(p); });
  }
}

std::vector<StoredTensor> TensorsOf(const model::ModelConfig& config, const StorePolicy& policy) {
  std::vector<StoredTensor> tensors;
  model::ModelParams params = model::MakeParams(config);
  model::ForEachParam(config, params, [&](const model::ParamInfo& info, model::Weight&) {
    if (info.copy) return;
    StoredTensor& t = tensors.emplace_back();
    t.name = info.name;
    t.shape = info.shape;
    t.kind = info.kind;
    t.policy = PolicyOf(info, policy);
    t.n = NumElements(info.shape);
  });
  return tensors;
}

int64_t TotalBytes(std::vector<StoredTensor>& tensors, const StorePolicy& policy) {
  int64_t total = 0;
  ForEachPiece(tensors, policy, [&](int64_t bytes, const auto&) { total += Aligned(bytes); });
  return total;
}

// One row of a weight, widened.
void WidenRow(float* to, const model::Weight& w, int64_t row) {
  const std::byte* from = w.RowData(row);
  for (int64_t j = 0; j < w.cols; ++j) {
    switch (w.dtype) {
      case DType::kF32:
        to[j] = reinterpret_cast<const float*>(from)[j];
        break;
      case DType::kF16:
        to[j] = F16ToF32(reinterpret_cast<const uint16_t*>(from)[j]);
        break;
      case DType::kBF16:
        to[j] = Bf16ToF32(reinterpret_cast<const uint16_t*>(from)[j]);
        break;
      default:
        FATHOM_CHECK(w.dtype == DType::kF8E4M3);
        to[j] = E4M3ToF32(reinterpret_cast<const uint8_t*>(from)[j]) * w.ScaleAt(row, j);
    }
  }
}

}  // namespace

TensorPolicy PolicyOf(const model::ParamInfo& info, const StorePolicy& policy) {
  using model::ParamKind;
  TensorPolicy out;
  const bool product =
      info.kind == ParamKind::kLinear || info.name.ends_with("eh_proj.weight") || info.name.ends_with("lm_head.weight");
  if (policy.compute != model::Compute::kF32 && product) out.compute = DType::kBF16;
  if (policy.compute == model::Compute::kFp8 && info.kind == ParamKind::kLinear) {
    out.compute = DType::kF8E4M3;
    for (const char* name : {"o_proj", "gate_proj", "up_proj", "down_proj"})
      out.ue8m0 = out.ue8m0 || info.name.ends_with(std::string(".") + name + ".weight");
  }
  out.trained = info.kind != ParamKind::kRouterBias;
  out.decay = info.kind == ParamKind::kLinear || info.kind == ParamKind::kMatrix;
  return out;
}

int64_t ParamStore::Bytes(const model::ModelConfig& config, const StorePolicy& policy) {
  std::vector<StoredTensor> tensors = TensorsOf(config, policy);
  return TotalBytes(tensors, policy);
}

ParamStore::ParamStore(const model::ModelConfig& config, const StorePolicy& policy)
    : config_(config),
      policy_(policy),
      storage_(Bytes(config, policy)),
      params_(model::MakeParams(config)),
      grads_(model::MakeParams(config)),
      tensors_(TensorsOf(config, policy)) {
  int64_t at = 0;
  ForEachPiece(tensors_, policy_, [&](int64_t bytes, const auto& set) {
    set(storage_.data() + at);
    at += Aligned(bytes);
  });
  const auto point = [&](model::ModelParams& to, bool grads) {
    size_t next = 0;
    model::ForEachParam(config_, to, [&](const model::ParamInfo& info, model::Weight& w) {
      const StoredTensor& t = !info.copy                                   ? tensors_[next++]
                              : info.name.ends_with("embed_tokens.weight") ? *Find("model.embed_tokens.weight")
                                                                           : *Find("lm_head.weight");
      w.dtype = grads ? DType::kF32 : t.policy.compute;
      w.data = grads ? t.grad : t.bf16 ? static_cast<void*>(t.bf16) : t.fp8 ? static_cast<void*>(t.fp8) : t.master;
      w.scale = grads ? nullptr : t.scales;
      w.ue8m0 = t.policy.ue8m0;
    });
  };
  point(params_, false);
  point(grads_, true);
}

const StoredTensor* ParamStore::Find(std::string_view name) const {
  const auto at = std::find_if(tensors_.begin(), tensors_.end(), [&](const StoredTensor& t) { return t.name == name; });
  return at == tensors_.end() ? nullptr : &*at;
}

void ParamStore::Init(Context& ctx, uint64_t seed, double deviation) {
  for (StoredTensor& t : tensors_) {
    const int64_t rows = t.shape.size() == 1 ? 1 : t.shape[0], cols = t.shape.back();
    constexpr int64_t kRows = 64;
    ctx.pool.ParallelFor((rows + kRows - 1) / kRows, [&](int64_t task, int) {
      const int64_t row = task * kRows;
      checkpoint::FillInitial(t.name, t.kind, seed, static_cast<float>(deviation), row, std::min(kRows, rows - row),
                              cols, t.master + row * cols);
    });
  }
  Refresh(ctx, true);
}

void ParamStore::Assign(Context& ctx, const model::ModelParams& from) {
  model::ModelParams copy = from;
  size_t next = 0;
  model::ForEachParam(config_, copy, [&](const model::ParamInfo& info, model::Weight& w) {
    if (info.copy) return;
    StoredTensor& t = tensors_[next++];
    FATHOM_CHECK(t.name == info.name && w.rows * w.cols == t.n);
    ctx.pool.ParallelFor(w.rows, [&](int64_t row, int) { WidenRow(t.master + row * w.cols, w, row); });
  });
  Refresh(ctx, true);
}

void ParamStore::Refresh(Context& ctx, bool ema) {
  constexpr int64_t kPiece = 1 << 16;
  for (StoredTensor& t : tensors_) {
    ctx.pool.ParallelFor((t.n + kPiece - 1) / kPiece, [&](int64_t task, int) {
      for (int64_t i = task * kPiece; i < std::min(t.n, (task + 1) * kPiece); ++i) {
        if (t.bf16) t.bf16[i] = F32ToBf16(t.master[i]);
        if (ema && t.ema) t.ema[i] = t.master[i];
      }
    });
  }
  QuantizeFp8(ctx);
}

void ParamStore::QuantizeFp8(Context& ctx) {
  std::vector<kernels::QuantizeBlocksArgs> args;
  for (StoredTensor& t : tensors_) {
    if (t.fp8)
      args.push_back({.codes = t.fp8, .scales = t.scales, .w = t.master, .rows = t.shape[0], .cols = t.shape[1]});
  }
  if (!args.empty()) kernels::QuantizeBlocks(ctx, args);
}

float* ParamStore::RouterBias(int64_t layer) {
  const StoredTensor* t = Find("model.layers." + std::to_string(layer) + ".mlp.gate.e_score_correction_bias");
  return t ? t->master : nullptr;
}

}  // namespace fathom::train
