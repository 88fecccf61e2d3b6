#include "plan/flops.h"

namespace fathom::plan {
namespace {

int64_t Activated(const model::ModelConfig& c, const LayerSize& s) {
  return s.attention + s.feed_forward + s.join + s.gate + (s.experts > 0 ? c.num_experts_per_tok * s.expert : 0);
}

}  // namespace

int64_t Layers(const model::ModelConfig& c) { return c.num_hidden_layers + c.num_nextn_predict_layers; }

LayerSize SizeOfLayer(const model::ModelConfig& c, int64_t layer) {
  const int64_t d = c.hidden_size, h = c.num_attention_heads;
  LayerSize s;
  const int64_t queries = h * c.qk_head_dim(), keys = h * (c.qk_nope_head_dim + c.v_head_dim);
  s.attention = d * c.cache_width() + c.kv_lora_rank * keys + h * c.v_head_dim * d;
  s.up = c.kv_lora_rank * keys;
  s.norms = 2 * d + c.kv_lora_rank;
  if (c.q_lora_rank) {
    s.attention += *c.q_lora_rank * (d + queries);
    s.up += *c.q_lora_rank * queries;
    s.norms += *c.q_lora_rank;
  } else {
    s.attention += d * queries;
  }
  if (layer >= c.num_hidden_layers) {
    s.join = 2 * d * d;
    s.norms += 3 * d;  // enorm, hnorm, shared_head.norm
  }
  if (c.IsMoe(layer)) {
    s.feed_forward = 3 * d * c.shared_intermediate_size();
    s.expert = 3 * d * c.moe_intermediate_size;
    s.experts = c.n_routed_experts;
    s.gate = c.n_routed_experts * d;
    if (c.topk_method == "noaux_tc") s.bias = c.n_routed_experts;
  } else {
    s.feed_forward = 3 * d * c.intermediate_size;
  }
  return s;
}

Work WorkOfLayer(const model::ModelConfig& c, int64_t layer, int64_t length, model::Recompute recompute) {
  const LayerSize s = SizeOfLayer(c, layer);
  const double seen = D(length + 1) / 2, heads = 2 * D(c.num_attention_heads);
  Work w;
  w.linear = 2 * D(Activated(c, s));
  w.attention = heads * D(c.qk_head_dim() + c.v_head_dim) * seen;
  w.scores = heads * D(c.qk_head_dim()) * seen;
  w.again = recompute == model::Recompute::kFull ? w.linear + w.attention : 2 * D(s.up);
  return w;
}

Work WorkOfHeads(const model::ModelConfig& c) {
  Work w;
  w.linear = 2 * D(c.hidden_size * c.vocab_size) * D(1 + c.num_nextn_predict_layers);
  return w;
}

Work WorkOfModel(const model::ModelConfig& c, int64_t length, model::Recompute recompute, bool mtp) {
  model::ModelConfig config = c;
  if (!mtp) config.num_nextn_predict_layers = 0;
  Work w = WorkOfHeads(config);
  for (int64_t layer = 0; layer < Layers(config); ++layer) w.Add(WorkOfLayer(config, layer, length, recompute));
  return w;
}

}  // namespace fathom::plan
