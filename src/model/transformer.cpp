#include "model/transformer.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/nonfinite.h"

namespace fathom::model {
namespace {

// (T,) positions of a step's rows.
int32_t* Positions(const Env& env, const Step& step) {
  int32_t* positions = env.arena.Take<int32_t>(step.tokens());
  if (env.planning()) return positions;
  for (const SequenceSlice& s : step.sequences) {
    for (int64_t i = 0; i < s.tokens; ++i) positions[s.row + i] = static_cast<int32_t>(s.position + i);
  }
  return positions;
}

void Add(const Env& env, float* x, const float* y, int64_t n) {
  if (env.planning()) return;
  constexpr int64_t kPiece = 16384;
  env.ctx.pool.ParallelFor((n + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    const int64_t end = std::min(n, (piece + 1) * kPiece);
    for (int64_t i = piece * kPiece; i < end; ++i) x[i] += y[i];
  });
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const ModelParams& params, int64_t max_positions)
    : config_(config),
      params_(params),
      rope_(config, max_positions),
      exchange_(std::make_unique<LocalExchange>(config.n_routed_experts)) {}

void Transformer::Embed(const Env& env, const Step& step, float* x) const {
  if (env.planning()) return;
  for (int32_t id : step.ids) {
    if (id < 0 || id >= config_.vocab_size) {
      throw Error("token id out of range", fmt::format("{}", id),
                  fmt::format("0 to {} (vocab_size - 1)", config_.vocab_size - 1),
                  "the tokenizer may belong to another model");
    }
  }
  const int64_t d = config_.hidden_size;
  kernels::Embed(env.ctx, {.y = x,
                           .ldy = d,
                           .table = params_.embed_tokens.data,
                           .table_dtype = params_.embed_tokens.dtype,
                           .ids = step.ids.data(),
                           .rows = step.tokens(),
                           .n = d});
}

void Transformer::Block(const Env& env, const BlockParams& p, const Step& step, int64_t layer, const int32_t* positions,
                        float* x) const {
  ArenaScope scope(env.arena);
  const int64_t t = step.tokens(), d = config_.hidden_size;
  if (env.probe && env.probe->replace_input && !env.planning()) env.probe->replace_input(layer, x, t);
  float* normed = env.arena.Take<float>(t * d);
  float* y = env.arena.Take<float>(t * d);

  env.Norm(normed, x, t, p.input_layernorm, config_.rms_norm_eps);
  MlaForward(env, config_, p.self_attn, rope_, step, layer, positions, normed, y);
  Add(env, x, y, t * d);

  env.Norm(normed, x, t, p.post_attention_layernorm, config_.rms_norm_eps);
  if (p.is_moe) {
    MoeForward(env, config_, p.moe, layer, *exchange_, normed, t, y);
  } else {
    MlpForward(env, p.mlp, normed, t, y);
  }
  Add(env, x, y, t * d);
  CheckFinite(env, layer, x, t);
}

void Transformer::Forward(const Env& env, const Step& step, float* hidden) const {
  ArenaScope scope(env.arena);
  const int32_t* positions = Positions(env, step);
  Embed(env, step, hidden);
  for (size_t l = 0; l < params_.layers.size(); ++l) {
    Block(env, params_.layers[l], step, static_cast<int64_t>(l), positions, hidden);
    env.Show("hidden", static_cast<int64_t>(l), hidden, DType::kF32, {step.tokens(), config_.hidden_size});
  }
}

void Transformer::FinalNorm(const Env& env, const float* hidden, int64_t rows, float* normed) const {
  env.Norm(normed, hidden, rows, params_.norm, config_.rms_norm_eps);
}

void Transformer::Head(const Env& env, const float* normed, int64_t rows, float* logits) const {
  env.Linear(logits, normed, rows, params_.lm_head);
}

void Transformer::MtpForward(const Env& env, int64_t depth, const Step& step, const float* hidden, float* out) const {
  ArenaScope scope(env.arena);
  const MtpParams& p = params_.mtp[static_cast<size_t>(depth - 1)];
  const int64_t t = step.tokens(), d = config_.hidden_size;
  const int32_t* positions = Positions(env, step);
  float* joined = env.arena.Take<float>(t * 2 * d);  // (T, [enorm(embedding), hnorm(hidden)])
  Embed(env, step, out);
  env.Norm(joined, out, t, p.enorm, config_.rms_norm_eps, d, 2 * d);
  env.Norm(joined + d, hidden, t, p.hnorm, config_.rms_norm_eps, d, 2 * d);
  env.Linear(out, joined, t, p.eh_proj);
  Block(env, p.block, step, config_.num_hidden_layers + depth - 1, positions, out);
}

void Transformer::MtpNorm(const Env& env, int64_t depth, const float* out, int64_t rows, float* normed) const {
  env.Norm(normed, out, rows, params_.mtp[static_cast<size_t>(depth - 1)].shared_head_norm, config_.rms_norm_eps);
}

void Transformer::CheckFinite(const Env& env, int64_t layer, const float* x, int64_t tokens) const {
  if (env.planning() || kernels::FirstNonFinite(env.ctx, x, tokens * config_.hidden_size) < 0) return;
  throw NonFiniteError(config_, params_, layer);
}

int64_t PlanArena(const Transformer& transformer, Context& ctx, Compute compute, const StepSizes& sizes) {
  Arena planner = Arena::Planner();
  const ModelConfig& c = transformer.config();
  const std::vector<int32_t> ids(static_cast<size_t>(sizes.tokens));
  const auto plan = [&](std::span<const SequenceSlice> slices) {
    const int64_t tokens = slices.back().row + slices.back().tokens;
    const Step step{std::span(ids).first(static_cast<size_t>(tokens)), slices};
    const Env env{.ctx = ctx, .arena = planner, .compute = compute, .attention_form = sizes.form};
    ArenaScope scope(planner);
    float* hidden = planner.Take<float>(tokens * c.hidden_size);
    transformer.Forward(env, step, hidden);
    float* normed = planner.Take<float>(std::max(tokens, sizes.head_rows) * c.hidden_size);
    float* out = planner.Take<float>(tokens * c.hidden_size);
    if (transformer.mtp_depth() > 0) transformer.MtpForward(env, 1, step, normed, out);
    float* logits = planner.Take<float>(sizes.head_rows * c.vocab_size);
    transformer.Head(env, normed, sizes.head_rows, logits);
  };
  // A slice of n tokens, at the sequence's beginning or at its end.
  const auto plan_slice = [&](int64_t n, int64_t position) {
    const SequenceSlice one{.row = 0, .tokens = n, .position = std::max<int64_t>(position, 0), .caches = {}};
    plan(std::span(&one, 1));
  };
  plan_slice(sizes.tokens, 0);
  plan_slice(sizes.tokens, sizes.positions - sizes.tokens);
  // The longest slice that takes the absorbed form, whose scratch grows with its tokens.
  int64_t absorbed = 1;
  while (absorbed < sizes.tokens &&
         CheaperForm(c, absorbed + 1, sizes.positions - absorbed - 1) == AttentionForm::kAbsorbed)
    ++absorbed;
  plan_slice(absorbed, sizes.positions - absorbed);
  // Every sequence with one token, the last with what is left of the step.
  std::vector<SequenceSlice> many;
  const int64_t sequences = std::min(sizes.sequences, sizes.tokens);
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t n = i + 1 < sequences ? 1 : sizes.tokens - i;
    many.push_back({.row = i, .tokens = n, .position = std::max<int64_t>(sizes.positions - n, 0), .caches = {}});
  }
  plan(many);
  return planner.HighWater();
}

}  // namespace fathom::model
