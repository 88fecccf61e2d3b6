// Multi-head latent attention (V3 report 2.1.1, eq. 1-11) over the latent cache.
//
// Two forms of the same arithmetic. Full: keys and values of every position are made from the latent rows by kv_b_proj,
// some heads at a time so that memory stays bounded, then causal attention. Absorbed: kv_b_proj's key part moves to the
// query and its value part behind the attention, so that only latent rows are read; for one or a few tokens over a long
// cache. Rotation is on interleaved pairs.
#pragma once

#include <vector>

#include "model/config.h"
#include "model/env.h"
#include "model/fp8.h"
#include "model/params.h"

namespace fathom::model {

// Angles of the rotary embedding for positions [0, positions): (positions, qk_rope_head_dim / 2), YaRN and amplitude
// included.
class RopeTable {
 public:
  RopeTable(const ModelConfig& config, int64_t positions);
  int64_t positions() const { return positions_; }
  const float* cos() const { return cos_.data(); }
  const float* sin() const { return sin_.data(); }

 private:
  int64_t positions_;
  std::vector<float> cos_, sin_;
};

// What the backward pass needs of the forward pass; norms, up-projections and rotations are made again (report 3.2.3).
struct MlaSaved {
  const float* q_a = nullptr;   // (T, q_lora_rank) before its norm
  const float* kv_a = nullptr;  // (T, r + dr) before norm and rotation
  const float* out = nullptr;   // (T, H, dv) before o_proj; null with kFp8:
  PackedRows packed_out;        // E5M6 with power-of-two scales (report 3.3.3)
  const float* lse = nullptr;   // (T, H)
};

// y (T, d) = attention of x (T, d), x already normalised. Writes the step's latent rows to layer `cache_layer` of each
// slice's caches, unless `cached` says that MlaLatents has. Training: full form, sequences from position 0; `saved` is
// filled.
void MlaForward(const Env& env, const ModelConfig& config, const AttentionParams& params, const RopeTable& rope,
                const Step& step, int64_t cache_layer, const int32_t* positions, const float* x, float* y,
                MlaSaved* saved = nullptr, bool cached = false);

// Only the latent rows of x (T, d): what later tokens need of these.
void MlaLatents(const Env& env, const ModelConfig& config, const AttentionParams& params, const RopeTable& rope,
                const Step& step, int64_t cache_layer, const int32_t* positions, const float* x);

// dx (T, d) of dy (T, d), for the same x; gradients of the parameters are added to `grads`.
void MlaBackward(const Env& env, const ModelConfig& config, const AttentionParams& params, const AttentionParams& grads,
                 const RopeTable& rope, const Step& step, const int32_t* positions, const MlaSaved& saved,
                 const float* x, const float* dy, float* dx);

// Which form computes `tokens` new tokens at `position`: the one with less arithmetic.
AttentionForm CheaperForm(const ModelConfig& config, int64_t tokens, int64_t position);

}  // namespace fathom::model
