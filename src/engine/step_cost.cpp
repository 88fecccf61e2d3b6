#include "engine/step_cost.h"

#include <algorithm>
#include <unordered_map>

namespace fathom::engine {
namespace {

int64_t Bytes(const model::Weight& w) { return w.rows * w.cols * SizeOf(w.dtype); }

double Longer(int64_t bytes, int64_t products, double bytes_per_s, double ops_per_s) {
  return std::max(static_cast<double>(bytes) / bytes_per_s, 2 * static_cast<double>(products) / ops_per_s);
}

}  // namespace

ExpertUse::ExpertUse(const model::ModelConfig& config) : experts_(config.n_routed_experts) {
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) is_moe_.push_back(config.IsMoe(l));
  Clear();
  probe_.on_tensor = [this](std::string_view name, int64_t layer, const TensorView& tensor) {
    if (name != "router_ids" || layer >= static_cast<int64_t>(tokens_.size())) return;
    const int32_t* ids = static_cast<const int32_t*>(tensor.data);
    for (int64_t i = 0; i < tensor.size(); ++i) ++tokens_[static_cast<size_t>(layer)][static_cast<size_t>(ids[i])];
  };
}

void ExpertUse::Clear() { tokens_.assign(is_moe_.size(), std::vector<int64_t>(static_cast<size_t>(experts_))); }

int64_t ExpertUse::Tokens(int64_t layer, int64_t expert) const {
  return tokens_[static_cast<size_t>(layer)][static_cast<size_t>(expert)];
}

int64_t ExpertUse::Distinct(int64_t layer) const {
  int64_t n = 0;
  for (int64_t e = 0; e < experts_; ++e) n += Tokens(layer, e) > 0;
  return n;
}

double ExpertUse::DistinctPerLayer() const {
  int64_t layers = 0, distinct = 0;
  for (size_t l = 0; l < is_moe_.size(); ++l) {
    layers += is_moe_[l];
    distinct += Distinct(static_cast<int64_t>(l));
  }
  return layers == 0 ? 0 : static_cast<double>(distinct) / static_cast<double>(layers);
}

WeightMap::WeightMap(const model::ModelConfig& config, const model::ModelParams& params) : params_(params) {
  std::unordered_map<const void*, std::pair<int64_t, int64_t>> routed;  // data of a weight: layer and expert
  for (size_t l = 0; l < params.layers.size(); ++l) {
    const auto& experts = params.layers[l].moe.experts;
    for (size_t e = 0; e < experts.size(); ++e) {
      for (const model::Weight* w : {&experts[e].gate_proj, &experts[e].up_proj, &experts[e].down_proj})
        routed[w->data] = {static_cast<int64_t>(l), static_cast<int64_t>(e)};
    }
  }
  model::ModelParams views = params;  // the visitor wants them writable
  model::ForEachParam(config, views, [&](const model::ParamInfo& info, const model::Weight& w) {
    if (info.mtp || w.data == params.embed_tokens.data || w.data == params.lm_head.data) return;
    Item item{.span = {w.data, Bytes(w)}, .values = w.rows > 1 ? w.rows * w.cols : 0};
    if (const auto it = routed.find(w.data); it != routed.end()) {
      item.layer = it->second.first;
      item.expert = it->second.second;
    }
    body_.push_back(item);
    if (w.scale) {
      const int64_t scale_rows = (w.rows + kFp8Block - 1) / kFp8Block;
      item.values = 0;
      item.span = {w.scale, scale_rows * w.scale_cols() * static_cast<int64_t>(sizeof(float))};
      body_.push_back(item);
    }
  });
}

std::vector<kernels::ByteSpan> WeightMap::Body(const ExpertUse& use, std::span<const int32_t> ids) const {
  std::vector<kernels::ByteSpan> spans;
  const model::Weight& table = params_.embed_tokens;
  for (int32_t id : ids) spans.push_back({table.RowData(id), table.cols * SizeOf(table.dtype)});
  for (const Item& item : body_) {
    if (item.expert < 0 || use.Tokens(item.layer, item.expert) > 0) spans.push_back(item.span);
  }
  return spans;
}

std::vector<kernels::ByteSpan> WeightMap::Head() const { return {{params_.lm_head.data, Bytes(params_.lm_head)}}; }

double WeightMap::BodySeconds(const ExpertUse& use, int64_t rows, double bytes_per_s, double ops_per_s) const {
  double seconds = 0;
  for (const Item& item : body_) {
    const int64_t tokens = item.expert < 0 ? rows : use.Tokens(item.layer, item.expert);
    if (tokens > 0) seconds += Longer(item.span.bytes, item.values * tokens, bytes_per_s, ops_per_s);
  }
  return seconds;
}

double WeightMap::HeadSeconds(int64_t rows, double bytes_per_s, double ops_per_s) const {
  const model::Weight& head = params_.lm_head;
  return Longer(Bytes(head), head.rows * head.cols * rows, bytes_per_s, ops_per_s);
}

std::vector<kernels::ByteSpan> WeightMap::All() const {
  std::vector<kernels::ByteSpan> spans = {{params_.embed_tokens.data, Bytes(params_.embed_tokens)}};
  for (const Item& item : body_) spans.push_back(item.span);
  if (params_.lm_head.data != params_.embed_tokens.data) spans.push_back(Head().front());
  return spans;
}

std::vector<kernels::ByteSpan> CacheSpans(std::span<const kernels::LatentCache> caches, int64_t length) {
  std::vector<kernels::ByteSpan> spans;
  for (const kernels::LatentCache& cache : caches) {
    const int64_t row_bytes = cache.row_bytes();
    for (int64_t at = 0; at < length; at += cache.block_tokens) {
      const std::byte* data = cache.Row(at);
      const int64_t bytes = std::min(cache.block_tokens, length - at) * row_bytes;
      if (!spans.empty() && static_cast<const std::byte*>(spans.back().data) + spans.back().bytes == data) {
        spans.back().bytes += bytes;
      } else {
        spans.push_back({data, bytes});
      }
    }
  }
  return spans;
}

double AbsorbedAttentionOps(const model::ModelConfig& c, int64_t length) {
  const int64_t per_row = 2 * (2 * c.kv_lora_rank + c.qk_rope_head_dim);
  return static_cast<double>(c.num_hidden_layers * c.num_attention_heads * per_row) * static_cast<double>(length);
}

double PrefillOps(const model::ModelConfig& c, int64_t tokens) {
  model::ModelConfig shorter = c;
  --shorter.num_hidden_layers;
  const double t = static_cast<double>(tokens);
  const double head = static_cast<double>(c.vocab_size * c.hidden_size);
  const int64_t all = model::CountParams(c).activated, before = model::CountParams(shorter).activated;
  const double latents = static_cast<double>(c.hidden_size * c.cache_width());
  const double each = static_cast<double>(before - c.hidden_size) - head + latents;  // weights for every token
  const double last = static_cast<double>(all - before) - latents;
  const double pairs = static_cast<double>(shorter.num_hidden_layers) * t * (t + 1) / 2 + t;
  const double attention = static_cast<double>(c.num_attention_heads * 2 * (c.qk_head_dim() + c.v_head_dim)) * pairs;
  return 2 * each * t + attention + 2 * (last + head);
}

}  // namespace fathom::engine
