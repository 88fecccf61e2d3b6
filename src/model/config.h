// The configuration of a model: Hugging Face's config.json of `deepseek_v3` and `deepseek_v2`, key by key, and the
// demo's own form.
//
// One spelling everywhere: JSON key, field, flag. VisitFields is the one list of keys: reading, writing and printing go
// over it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::model {

// YaRN (arXiv 2309.00071) as the published configurations have it; V3 report 4.3.
struct RopeScaling {
  double factor = 1.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;
  double mscale_all_dim = 0.0;
  int64_t original_max_position_embeddings = 4096;
};

// quantization_config of the FP8 releases: quant_method fp8, fmt e4m3, weight_block_size [128, 128], activation_scheme
// dynamic.
struct QuantizationConfig {
  bool ue8m0 = false;  // scale_fmt: ue8m0
};

struct ModelConfig {
  std::string model_type = "deepseek_v3";
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t moe_intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_nextn_predict_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t n_shared_experts = 0;  // 0: none
  int64_t n_routed_experts = 0;  // 0: every layer dense
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  std::string topk_method = "noaux_tc";  // noaux_tc greedy group_limited_greedy
  std::string scoring_func = "sigmoid";  // sigmoid softmax
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  std::optional<int64_t> q_lora_rank;  // null: one q_proj
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  int64_t max_position_embeddings = 0;
  double initializer_range = 0.02;
  std::string torch_dtype = "bfloat16";  // bfloat16 float16 float32
  int64_t bos_token_id = 0;
  std::vector<int64_t> eos_token_id = {1};  // one or a list in JSON
  std::optional<QuantizationConfig> quantization_config;

  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int64_t cache_width() const { return kv_lora_rank + qk_rope_head_dim; }  // values a token and layer
  bool IsMoe(int64_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  int64_t shared_intermediate_size() const { return n_shared_experts * moe_intermediate_size; }
  // 1/sqrt(qk_head_dim), times the square of YaRN's attention factor for mscale_all_dim (V3 report 4.3; published model
  // code).
  double SoftmaxScale() const;
  // What cos and sin are multiplied with: mscale's factor over mscale_all_dim's.
  double RopeAmplitude() const;
  // (qk_rope_head_dim / 2,) inverse frequencies, YaRN's ramp applied.
  std::vector<double> RopeFrequencies() const;
};

struct ParsedConfig {
  ModelConfig config;
  std::vector<std::string> warnings;  // unknown keys, by name
};

// Reads config.json. Both spellings of newer transformers are read (dtype/torch_dtype, rope_parameters/rope_scaling,
// rope_type/type). Errors name the key: missing, of the wrong type, contradictory, or a value that is not built
// (attention_bias: true, hidden_act other than silu, tie_word_embeddings: true, ...).
Result<ParsedConfig> ParseConfig(std::string_view json);
// The demo's ModelArgs (inference/configs/*.json of deepseek-ai/DeepSeek-V3); max_seq_len as there (16384 unless
// given).
Result<ParsedConfig> ParseDemoConfig(std::string_view json);
// Either form of file, told apart by their keys.
ParsedConfig ReadConfigFile(const std::string& path);
// config.json text as Hugging Face writes it.
std::string ToJson(const ModelConfig& config);
// Throws Error naming the field if the values contradict each other.
void Validate(const ModelConfig& config);

}  // namespace fathom::model
