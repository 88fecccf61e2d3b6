#include "model/compact_weights.h"

#include <algorithm>
#include <mutex>

namespace fathom::model {
namespace {

// Matrices that are multiplied by rows of activations.
bool IsMultiplied(const ParamInfo& info, const Weight& w) {
  return !info.copy && (info.kind == ParamKind::kLinear || info.kind == ParamKind::kMatrix) &&
         !info.name.ends_with("embed_tokens.weight") && kernels::CanBeCompact(w);
}

int64_t Bytes(const Weight& w) { return kernels::CompactBytes(w.rows, w.cols); }

// Key rows of a head of kv_b_proj, turned: (r, dn).
Weight TurnedKeys(const ModelConfig& c, const uint16_t* values) {
  return {.data = values, .dtype = DType::kBF16, .rows = c.kv_lora_rank, .cols = c.qk_nope_head_dim};
}
Weight KeysOf(const ModelConfig& c, const AttentionParams& p, int64_t head) {
  return p.kv_b_proj.Rows(head * (c.qk_nope_head_dim + c.v_head_dim), c.qk_nope_head_dim);
}

// f(attention) of every block whose keys can be turned.
template <class F>
void ForEachAttention(const ModelConfig& c, ModelParams& params, const F& f) {
  const auto visit = [&](AttentionParams& p) {
    if (p.kv_b_proj.dtype == DType::kBF16 && kernels::CanBeCompact(TurnedKeys(c, nullptr))) f(p);
  };
  for (BlockParams& block : params.layers) visit(block.self_attn);
  for (MtpParams& module : params.mtp) visit(module.block.self_attn);
}

}  // namespace

int64_t CompactWeights::Bytes(Isa isa, kernels::Compute compute, const ModelConfig& config, const ModelParams& params) {
  if (kernels::CompactRowsOfX(isa, compute, 0) == 0) return 0;
  ModelParams copy = params;
  int64_t bytes = 0;
  ForEachParam(config, copy, [&](const ParamInfo& info, const Weight& w) {
    if (IsMultiplied(info, w)) bytes += model::Bytes(w);
  });
  ForEachAttention(config, copy, [&](const AttentionParams&) {
    bytes += config.num_attention_heads * model::Bytes(TurnedKeys(config, nullptr));
  });
  return bytes;
}

CompactWeights::CompactWeights(Context& ctx, const ModelConfig& config, const ModelParams& params,
                               const std::function<void(int64_t done, int64_t total)>& progress)
    : params_(params), storage_(Bytes(ctx.isa, kernels::Compute::kBf16, config, params)) {
  if (storage_.bytes() == 0) return;
  std::vector<Weight*> weights;
  ForEachParam(config, params_, [&](const ParamInfo& info, Weight& w) {
    if (IsMultiplied(info, w)) weights.push_back(&w);
  });
  std::vector<AttentionParams*> attentions;
  ForEachAttention(config, params_, [&](AttentionParams& p) { attentions.push_back(&p); });
  // The largest first, lest one thread comes to make it alone.
  std::stable_sort(weights.begin(), weights.end(),
                   [](const Weight* a, const Weight* b) { return model::Bytes(*a) > model::Bytes(*b); });
  const auto heads = static_cast<size_t>(config.num_attention_heads);
  const int64_t keys_bytes = model::Bytes(TurnedKeys(config, nullptr)),
                layer_bytes = keys_bytes * config.num_attention_heads;
  matrices_.resize(weights.size() + attentions.size() * heads);
  std::vector<int64_t> places;
  int64_t at = 0;
  for (const Weight* w : weights) {
    places.push_back(at);
    at += model::Bytes(*w);
  }
  std::mutex mutex;
  int64_t done = 0;
  const auto tell = [&](int64_t bytes) {
    const std::lock_guard lock(mutex);
    done += bytes;
    if (progress) progress(done, storage_.bytes());
  };
  ctx.pool.ParallelFor(static_cast<int64_t>(weights.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    Weight& w = *weights[i];
    if (kernels::MakeCompact(w, storage_.data<uint8_t>() + places[i], &matrices_[i])) w.compact = &matrices_[i];
    tell(model::Bytes(w));
  });
  ctx.pool.ParallelFor(static_cast<int64_t>(attentions.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    kernels::CompactMatrix* to = &matrices_[weights.size() + i * heads];
    if (TurnKeys(config, *attentions[i], storage_.data<uint8_t>() + at + task * layer_bytes, to)) {
      attentions[i]->turned_keys = to;
    }
    tell(layer_bytes);
  });
}

bool CompactWeights::TurnKeys(const ModelConfig& config, const AttentionParams& params, uint8_t* memory,
                              kernels::CompactMatrix* to) {
  const int64_t r = config.kv_lora_rank, dn = config.qk_nope_head_dim;
  std::vector<uint16_t> turned(static_cast<size_t>(r * dn));
  const Weight turned_weight = TurnedKeys(config, turned.data());
  for (int64_t head = 0; head < config.num_attention_heads; ++head, memory += model::Bytes(turned_weight)) {
    const auto* keys = static_cast<const uint16_t*>(KeysOf(config, params, head).data);
    for (int64_t n = 0; n < dn; ++n) {
      for (int64_t k = 0; k < r; ++k) turned[static_cast<size_t>(k * dn + n)] = keys[n * r + k];
    }
    if (!kernels::MakeCompact(turned_weight, memory, to + head)) return false;
  }
  return true;
}

}  // namespace fathom::model
