// The parameters of a model: views of weights, in the shape of the architecture, and one visitor over all of them in
// the published names. Loading, saving, initialising, counting and auditing go over ForEachParam; nothing else knows a
// name.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"
#include "model/config.h"

namespace fathom::model {

using kernels::Weight;

struct MlpParams {
  Weight gate_proj, up_proj;  // (intermediate, d)
  Weight down_proj;           // (d, intermediate)
};

struct AttentionParams {
  Weight q_proj;                   // (H * (dn + dr), d), where q_lora_rank is null
  Weight q_a_proj, q_a_layernorm;  // (q_lora_rank, d), (q_lora_rank,)
  Weight q_b_proj;                 // (H * (dn + dr), q_lora_rank)
  Weight kv_a_proj_with_mqa;       // (r + dr, d)
  Weight kv_a_layernorm;           // (r,)
  Weight kv_b_proj;                // (H * (dn + dv), r)
  // Of CompactWeights: kv_b_proj's key rows of each head turned, (r, dn), for absorbed queries; (H,) or null.
  const kernels::CompactMatrix* turned_keys = nullptr;
  Weight o_proj;  // (d, H * dv)
};

struct MoeParams {
  Weight gate;                     // (E, d)
  Weight e_score_correction_bias;  // (E,) float32, sigmoid scoring only
  std::vector<MlpParams> experts;
  MlpParams shared_experts;  // n_shared_experts side by side in one of their total width
};

struct BlockParams {
  Weight input_layernorm, post_attention_layernorm;  // (d,)
  AttentionParams self_attn;
  bool is_moe = false;
  MlpParams mlp;  // dense layers
  MoeParams moe;  // the others
};

// Layer id num_hidden_layers + k - 1 of the release: module of depth k. Embedding and head are the main model's; the
// release repeats them, and the copies are views of the file or of the main ones.
struct MtpParams {
  Weight embed_tokens, enorm, hnorm;  // (V, d), (d,), (d,)
  Weight eh_proj;                     // (d, 2d) over [enorm(embedding), hnorm(hidden)]
  BlockParams block;
  Weight shared_head_norm, shared_head_head;  // (d,), (V, d)
};

struct ModelParams {
  Weight embed_tokens;  // (V, d)
  std::vector<BlockParams> layers;
  Weight norm;     // (d,)
  Weight lm_head;  // (V, d)
  std::vector<MtpParams> mtp;
};

enum class ParamKind : uint8_t {
  kLinear,      // a projection: FP8 with weight_scale_inv in the FP8 releases
  kMatrix,      // embedding, head, gate, eh_proj: never FP8
  kVector,      // norms
  kRouterBias,  // e_score_correction_bias: float32
};

struct ParamInfo {
  std::string name;  // model.layers.3.mlp.experts.0.gate_proj.weight
  Shape shape;
  ParamKind kind = ParamKind::kMatrix;
  bool mtp = false;   // belongs to an MTP layer
  bool copy = false;  // an MTP layer's copy of embedding or head
};

// The structure that a configuration gives, views empty (data null, rows and cols set; vectors are rows = 1, cols = n).
ModelParams MakeParams(const ModelConfig& config);

// Calls visit(info, weight) for every parameter, in the order of the layers.
void ForEachParam(const ModelConfig& config, ModelParams& params,
                  const std::function<void(const ParamInfo&, Weight&)>& visit);

struct ParamCount {
  int64_t main = 0;                      // without MTP layers
  int64_t with_mtp_copies = 0;           // all that the release stores
  int64_t activated = 0;                 // main, a token: embedding row and head included, K routed experts
  int64_t tensors = 0, fp8_tensors = 0;  // without weight_scale_inv; fp8: those that an FP8 release quantises
};
ParamCount CountParams(const ModelConfig& config);

}  // namespace fathom::model
