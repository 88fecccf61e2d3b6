// The forward pass on one device: embedding, blocks, final norm, head, and the multi-token-prediction modules (V3
// report 2.1, 2.2). One pass serves training, rollout and serving: the same step of T tokens of any sequences.
#pragma once

#include <memory>
#include <vector>

#include "model/config.h"
#include "model/env.h"
#include "model/mla.h"
#include "model/moe.h"
#include "model/params.h"

namespace fathom::model {

// What the backward pass needs of a block's forward pass. kFull keeps the input only and runs the block again.
struct BlockSaved {
  const float* in = nullptr;   // (T, d) the residual stream before the block,
  const float* mid = nullptr;  // and between attention and feed-forward. Null with kFp8, which has it in bf16:
  const uint16_t *in_bf16 = nullptr, *mid_bf16 = nullptr;
  MlaSaved self_attn;
  GatedSaved mlp;
  MoeSaved moe;
};
// kPaper: norms, MLA's up-projections and SwiGLU's output are made again (report 3.2.3). kFull: whole blocks.
enum class Recompute : uint8_t { kPaper, kFull };

struct ForwardSaved {
  Recompute recompute = Recompute::kPaper;
  const int32_t* positions = nullptr;  // (T,)
  std::vector<BlockSaved> layers;
  const float* out = nullptr;  // (T, d) after the last block
};
struct MtpSaved {
  Recompute recompute = Recompute::kPaper;
  const int32_t* positions = nullptr;
  const float* embedding = nullptr;  // (T, d)
  const float* hidden = nullptr;     // (T, d) as given
  BlockSaved block;
  const float* out = nullptr;  // (T, d) the block's output
};

class Transformer {
 public:
  // Views of config and params are kept: both must outlive it. `max_positions`: positions that steps will use.
  Transformer(const ModelConfig& config, const ModelParams& params, int64_t max_positions);

  // hidden (T, d) = the residual stream after the last block, of the tokens that are wanted (SequenceSlice::wanted);
  // other rows are left with values of no meaning, and the last block makes only their latent rows. Layer l writes
  // cache l of each slice. Throws Error naming the layer and, if a weight holds a NaN or infinity, the tensor, when a
  // block's output is not finite.
  void Forward(const Env& env, const Step& step, float* hidden) const;
  // Training (env.training): hidden is saved->out, on the tape with what Backward needs. Nothing is checked: values
  // that are not finite reach the loss.
  void Forward(const Env& env, const Step& step, ForwardSaved* saved) const;
  // dhidden (T, d), the gradient of saved.out, is used up; gradients of the parameters are added to `grads`.
  // Embedding's too.
  void Backward(const Env& env, const Step& step, const ForwardSaved& saved, float* dhidden,
                const ModelParams& grads) const;

  // normed (rows, d) = final norm of hidden (rows, d).
  void FinalNorm(const Env& env, const float* hidden, int64_t rows, float* normed) const;
  // dhidden (rows, d) of dnormed (rows, d), in place allowed.
  void FinalNormBackward(const Env& env, const float* hidden, const float* dnormed, int64_t rows, float* dhidden,
                         const ModelParams& grads) const;

  // logits (rows, V) of normed (rows, d).
  void Head(const Env& env, const float* normed, int64_t rows, float* logits) const;

  // Module of depth k = 1 .. D. hidden (T, d): the state of depth k - 1 after its norm (k = 1: the main model's after
  // the final norm) at the step's positions; step.ids: the token k places further on. out (T, d): the block's output,
  // before shared_head.norm. Writes cache num_hidden_layers + k - 1 of each slice.
  void MtpForward(const Env& env, int64_t depth, const Step& step, const float* hidden, float* out) const;
  // Training: as Forward. hidden must stay until MtpBackward.
  void MtpForward(const Env& env, int64_t depth, const Step& step, const float* hidden, MtpSaved* saved) const;
  // dout (T, d), the gradient of saved.out, is used up; dhidden (T, d) assigned.
  void MtpBackward(const Env& env, int64_t depth, const Step& step, const MtpSaved& saved, float* dout, float* dhidden,
                   const ModelParams& grads) const;
  // normed (rows, d) = shared_head.norm of depth k's output: what goes to the head and to depth k + 1.
  void MtpNorm(const Env& env, int64_t depth, const float* out, int64_t rows, float* normed) const;
  void MtpNormBackward(const Env& env, int64_t depth, const float* out, const float* dnormed, int64_t rows, float* dout,
                       const ModelParams& grads) const;

  const ModelParams& params() const { return params_; }
  const ModelConfig& config() const { return config_; }
  int64_t mtp_depth() const { return static_cast<int64_t>(params_.mtp.size()); }
  int64_t cache_layers() const { return config_.num_hidden_layers + mtp_depth(); }

 private:
  void Embed(const Env& env, const Step& step, float* x) const;
  void EmbedBackward(const Env& env, const Step& step, const float* dx, const ModelParams& grads) const;
  // joined (rows, [enorm(embedding), hnorm(hidden)]).
  void MtpJoin(const Env& env, const MtpParams& params, int64_t rows, const float* embedding, const float* hidden,
               float* joined) const;
  // x1 = x0 + attention(norm(x0)), x2 = x1 + feed-forward(norm(x1)); they may be one buffer unless `saved`. Training
  // with kFp8: one buffer, which is rounded to bf16 where it is kept. `cached`: as MlaForward's.
  void Block(const Env& env, const BlockParams& params, const Step& step, int64_t layer, const int32_t* positions,
             float* x0, float* x1, float* x2, BlockSaved* saved, bool cached = false) const;
  // The last block of a step of which some tokens' states are not wanted, in place.
  void BlockOfWanted(const Env& env, const BlockParams& params, const Step& step, int64_t layer,
                     const int32_t* positions, float* x) const;
  // As a training step runs it: x1, x2 and the rest on the tape, or with kFull only x2. kFp8: x2 is x0.
  float* BlockOnTape(const Env& env, const BlockParams& params, const Step& step, int64_t layer,
                     const int32_t* positions, Recompute recompute, float* x0, BlockSaved* saved) const;
  // dx (T, d): the gradient of x2, becomes that of x0.
  void BlockBackward(const Env& env, const BlockParams& params, const BlockParams& grads, const Step& step,
                     int64_t layer, const int32_t* positions, Recompute recompute, const BlockSaved& saved,
                     float* dx) const;
  void CheckFinite(const Env& env, int64_t layer, const float* x, int64_t tokens) const;

  const ModelConfig& config_;
  const ModelParams& params_;
  RopeTable rope_;
  std::unique_ptr<ExpertExchange> exchange_;
};

// What steps will ask for: the most of each.
struct StepSizes {
  int64_t tokens = 0;     // of a step
  int64_t sequences = 1;  // of a step
  int64_t rows = 1;       // of each, where all of them decode
  int64_t positions = 0;  // that a sequence sees
  int64_t head_rows = 1;
  AttentionForm form = AttentionForm::kAuto;
  bool fixed_form = false;  // Env::fixed_form
};

// Bytes of the arena that Forward, FinalNorm, Head and MTP need for steps of such sizes: planned by running the code
// with a planner arena, on the pool that will run it.
int64_t PlanArena(const Transformer& transformer, Context& ctx, Compute compute, const StepSizes& sizes);

}  // namespace fathom::model
