#include "model/compact_weights.h"

#include <algorithm>
#include <mutex>

namespace fathom::model {
namespace {

// Matrices that products of few rows multiply as a whole. Of kv_b_proj they take the heads' parts.
bool IsMultiplied(const ParamInfo& info, const Weight& w) {
  if (info.copy || (info.kind != ParamKind::kLinear && info.kind != ParamKind::kMatrix)) return false;
  return !info.name.ends_with("embed_tokens.weight") && !info.name.ends_with("kv_b_proj.weight") &&
         kernels::CanBeCompact(w);
}

int64_t Bytes(const Weight& w) { return kernels::CompactBytes(w.rows, w.cols); }

}  // namespace

int64_t CompactWeights::Bytes(Isa isa, kernels::Compute compute, const ModelConfig& config, const ModelParams& params) {
  if (!kernels::UsesCompact(isa, compute)) return 0;
  ModelParams copy = params;
  int64_t bytes = 0;
  ForEachParam(config, copy, [&](const ParamInfo& info, const Weight& w) {
    if (IsMultiplied(info, w)) bytes += model::Bytes(w);
  });
  return bytes;
}

CompactWeights::CompactWeights(Context& ctx, const ModelConfig& config, const ModelParams& params,
                               const std::function<void(int64_t done, int64_t total)>& progress)
    : params_(params), storage_(Bytes(ctx.isa, kernels::Compute::kBf16, config, params)) {
  std::vector<Weight*> weights;
  ForEachParam(config, params_, [&](const ParamInfo& info, Weight& w) {
    if (IsMultiplied(info, w)) weights.push_back(&w);
  });
  if (storage_.bytes() == 0) return;
  // The largest first, lest one thread comes to make it alone.
  std::stable_sort(weights.begin(), weights.end(),
                   [](const Weight* a, const Weight* b) { return model::Bytes(*a) > model::Bytes(*b); });
  matrices_.resize(weights.size());
  std::vector<int64_t> places;
  int64_t at = 0;
  for (const Weight* w : weights) {
    places.push_back(at);
    at += model::Bytes(*w);
  }
  std::mutex mutex;
  int64_t done = 0;
  ctx.pool.ParallelFor(static_cast<int64_t>(weights.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    Weight& w = *weights[i];
    if (kernels::MakeCompact(w, storage_.data<uint8_t>() + places[i], &matrices_[i])) w.compact = &matrices_[i];
    const std::lock_guard lock(mutex);
    done += model::Bytes(w);
    if (progress) progress(done, storage_.bytes());
  });
}

}  // namespace fathom::model
