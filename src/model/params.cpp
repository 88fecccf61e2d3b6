// Names, shapes and order of the parameters as the release stores them (its list of tensors; README_WEIGHTS of
// deepseek-ai/DeepSeek-V3): embedding, layers, the MTP layers after them, final norm, head.
#include "model/params.h"

#include <fmt/format.h>

namespace fathom::model {
namespace {

using Visit = std::function<void(const ParamInfo&, Weight&)>;

class Walker {
 public:
  Walker(const ModelConfig& config, const Visit& visit) : c_(config), visit_(visit) {}

  void Model(ModelParams& p) {
    const int64_t d = c_.hidden_size, v = c_.vocab_size;
    Matrix("model.embed_tokens.weight", p.embed_tokens, v, d);
    for (size_t i = 0; i < p.layers.size(); ++i) {
      layer_ = fmt::format("model.layers.{}.", i);
      Block(p.layers[i]);
    }
    mtp_ = true;
    for (size_t k = 0; k < p.mtp.size(); ++k) {
      layer_ = fmt::format("model.layers.{}.", static_cast<size_t>(c_.num_hidden_layers) + k);
      Mtp(p.mtp[k]);
    }
    mtp_ = false;
    Vector("model.norm.weight", p.norm, d);
    Matrix("lm_head.weight", p.lm_head, v, d);
  }

 private:
  void Mtp(MtpParams& p) {
    const int64_t d = c_.hidden_size, v = c_.vocab_size;
    copy_ = true;
    Matrix(layer_ + "embed_tokens.weight", p.embed_tokens, v, d);
    copy_ = false;
    Vector(layer_ + "enorm.weight", p.enorm, d);
    Vector(layer_ + "hnorm.weight", p.hnorm, d);
    Matrix(layer_ + "eh_proj.weight", p.eh_proj, d, 2 * d);
    Block(p.block);
    Vector(layer_ + "shared_head.norm.weight", p.shared_head_norm, d);
    copy_ = true;
    Matrix(layer_ + "shared_head.head.weight", p.shared_head_head, v, d);
    copy_ = false;
  }

  void Block(BlockParams& p) {
    Vector(layer_ + "input_layernorm.weight", p.input_layernorm, c_.hidden_size);
    Attention(p.self_attn);
    Vector(layer_ + "post_attention_layernorm.weight", p.post_attention_layernorm, c_.hidden_size);
    if (p.is_moe) {
      Moe(p.moe);
    } else {
      Mlp(layer_ + "mlp.", p.mlp, c_.intermediate_size);
    }
  }

  void Attention(AttentionParams& p) {
    const int64_t d = c_.hidden_size, h = c_.num_attention_heads, r = c_.kv_lora_rank;
    const std::string a = layer_ + "self_attn.";
    if (c_.q_lora_rank) {
      Linear(a + "q_a_proj.weight", p.q_a_proj, *c_.q_lora_rank, d);
      Vector(a + "q_a_layernorm.weight", p.q_a_layernorm, *c_.q_lora_rank);
      Linear(a + "q_b_proj.weight", p.q_b_proj, h * c_.qk_head_dim(), *c_.q_lora_rank);
    } else {
      Linear(a + "q_proj.weight", p.q_proj, h * c_.qk_head_dim(), d);
    }
    Linear(a + "kv_a_proj_with_mqa.weight", p.kv_a_proj_with_mqa, c_.cache_width(), d);
    Vector(a + "kv_a_layernorm.weight", p.kv_a_layernorm, r);
    Linear(a + "kv_b_proj.weight", p.kv_b_proj, h * (c_.qk_nope_head_dim + c_.v_head_dim), r);
    Linear(a + "o_proj.weight", p.o_proj, d, h * c_.v_head_dim);
  }

  void Moe(MoeParams& p) {
    const std::string m = layer_ + "mlp.";
    Matrix(m + "gate.weight", p.gate, c_.n_routed_experts, c_.hidden_size);
    if (c_.topk_method == "noaux_tc") {
      Param(m + "gate.e_score_correction_bias", {c_.n_routed_experts}, ParamKind::kRouterBias,
            p.e_score_correction_bias);
    }
    for (size_t e = 0; e < p.experts.size(); ++e)
      Mlp(fmt::format("{}experts.{}.", m, e), p.experts[e], c_.moe_intermediate_size);
    if (c_.n_shared_experts > 0) Mlp(m + "shared_experts.", p.shared_experts, c_.shared_intermediate_size());
  }

  void Mlp(const std::string& prefix, MlpParams& p, int64_t intermediate) {
    Linear(prefix + "gate_proj.weight", p.gate_proj, intermediate, c_.hidden_size);
    Linear(prefix + "up_proj.weight", p.up_proj, intermediate, c_.hidden_size);
    Linear(prefix + "down_proj.weight", p.down_proj, c_.hidden_size, intermediate);
  }

  void Linear(std::string name, Weight& w, int64_t rows, int64_t cols) {
    Param(std::move(name), {rows, cols}, ParamKind::kLinear, w);
  }
  void Matrix(std::string name, Weight& w, int64_t rows, int64_t cols) {
    Param(std::move(name), {rows, cols}, ParamKind::kMatrix, w);
  }
  void Vector(std::string name, Weight& w, int64_t n) { Param(std::move(name), {n}, ParamKind::kVector, w); }

  void Param(std::string name, Shape shape, ParamKind kind, Weight& w) {
    visit_({std::move(name), std::move(shape), kind, mtp_, copy_}, w);
  }

  const ModelConfig& c_;
  const Visit& visit_;
  std::string layer_;
  bool mtp_ = false, copy_ = false;
};

BlockParams MakeBlock(const ModelConfig& c, int64_t layer) {
  BlockParams block;
  block.is_moe = c.IsMoe(layer);
  if (block.is_moe) block.moe.experts.resize(static_cast<size_t>(c.n_routed_experts));
  return block;
}

}  // namespace

ModelParams MakeParams(const ModelConfig& config) {
  ModelParams params;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) params.layers.push_back(MakeBlock(config, i));
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    params.mtp.emplace_back().block = MakeBlock(config, config.num_hidden_layers + k);
  }
  ForEachParam(config, params, [](const ParamInfo& info, Weight& w) {
    w.rows = info.shape.size() == 1 ? 1 : info.shape[0];
    w.cols = info.shape.back();
  });
  return params;
}

void ForEachParam(const ModelConfig& config, ModelParams& params, const Visit& visit) {
  Walker(config, visit).Model(params);
}

ParamCount CountParams(const ModelConfig& config) {
  ModelParams params = MakeParams(config);
  ParamCount count;
  ForEachParam(config, params, [&](const ParamInfo& info, const Weight&) {
    const int64_t n = NumElements(info.shape);
    count.with_mtp_copies += n;
    if (!info.mtp) count.main += n;
    ++count.tensors;
    count.fp8_tensors += info.kind == ParamKind::kLinear;
  });
  int64_t moe_layers = 0;
  for (const BlockParams& block : params.layers) moe_layers += block.is_moe;
  const int64_t expert = 3 * config.hidden_size * config.moe_intermediate_size;
  count.activated = count.main - moe_layers * (config.n_routed_experts - config.num_experts_per_tok) * expert -
                    (config.vocab_size - 1) * config.hidden_size;
  return count;
}

}  // namespace fathom::model
