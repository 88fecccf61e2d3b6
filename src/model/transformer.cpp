#include "model/transformer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/nonfinite.h"

namespace fathom::model {
namespace {

// (T,) positions of a step's rows.
int32_t* Positions(const Env& env, const Step& step) {
  int32_t* positions = env.Keep<int32_t>(step.tokens());
  if (env.planning()) return positions;
  for (const SequenceSlice& s : step.sequences) {
    for (int64_t i = 0; i < s.tokens; ++i) positions[s.row + i] = static_cast<int32_t>(s.position + i);
  }
  return positions;
}

// z = x + y; z may be x.
void Add(const Env& env, float* z, const float* x, const float* y, int64_t n) {
  env.InPieces(n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) z[i] = x[i] + y[i];
  });
}

// x (n,) rounded to bf16, in place and on the tape.
const uint16_t* KeepBf16(const Env& env, float* x, int64_t n) {
  uint16_t* kept = env.Keep<uint16_t>(n);
  env.InPieces(n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kept[i] = F32ToBf16(x[i]);
      x[i] = Bf16ToF32(kept[i]);
    }
  });
  return kept;
}
void Widen(const Env& env, float* to, const uint16_t* from, int64_t n) {
  env.InPieces(n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = Bf16ToF32(from[i]);
  });
}

// dx = [dx +] the gradient of the input of a norm; in place allowed unless `accumulate`.
void NormBackward(const Env& env, float* dx, const float* dy, const float* x, int64_t rows, const Weight& w,
                  const Weight& grad, double eps, bool accumulate, int64_t lddy = 0) {
  kernels::RmsNormBackward(env.ctx, env.arena,
                           {.dx = dx,
                            .lddx = w.cols,
                            .accumulate = accumulate,
                            .dw = Gradient(grad),
                            .dy = dy,
                            .lddy = lddy ? lddy : w.cols,
                            .x = x,
                            .ldx = w.cols,
                            .rows = rows,
                            .n = w.cols,
                            .weight = w.data,
                            .weight_dtype = w.dtype,
                            .eps = static_cast<float>(eps)});
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
                        float* x0, float* x1, float* x2, BlockSaved* saved, bool cached) const {
  ArenaScope scope(env.arena);
  const bool bf16 = saved && env.compute == Compute::kFp8;
  const int64_t t = step.tokens(), d = config_.hidden_size;
  float* normed = env.arena.Take<float>(t * d);
  float* y = env.arena.Take<float>(t * d);
  if (env.training) env.training->layer = layer;

  env.Watch({"input_layernorm", "input"}, x0, t, d);
  if (bf16) saved->in_bf16 = KeepBf16(env, x0, t * d);
  env.Norm(normed, x0, t, p.input_layernorm, config_.rms_norm_eps);
  MlaForward(env, config_, p.self_attn, rope_, step, layer, positions, normed, y, saved ? &saved->self_attn : nullptr,
             cached);
  Add(env, x1, x0, y, t * d);
  if (bf16) saved->mid_bf16 = KeepBf16(env, x1, t * d);

  env.Norm(normed, x1, t, p.post_attention_layernorm, config_.rms_norm_eps);
  if (p.is_moe) {
    MoeForward(env, config_, p.moe, layer, *exchange_, normed, step, y, saved ? &saved->moe : nullptr);
  } else {
    MlpForward(env, p.mlp, normed, t, y, saved ? &saved->mlp : nullptr);
  }
  Add(env, x2, x1, y, t * d);
  if (saved && !bf16) {
    saved->in = x0;
    saved->mid = x1;
  }
}

void Transformer::BlockOfWanted(const Env& env, const BlockParams& p, const Step& step, int64_t layer,
                                const int32_t* positions, float* x) const {
  ArenaScope scope(env.arena);
  const int64_t d = config_.hidden_size;
  {
    ArenaScope latents(env.arena);
    float* normed = env.arena.Take<float>(step.tokens() * d);
    env.Norm(normed, x, step.tokens(), p.input_layernorm, config_.rms_norm_eps);
    MlaLatents(env, config_, p.self_attn, rope_, step, layer, positions, normed);
  }
  // The wanted rows move to the front, and back when they are done.
  std::vector<int64_t> rows;
  std::vector<int32_t> ids;
  std::vector<SequenceSlice> slices;
  for (const SequenceSlice& slice : step.sequences) {
    const int64_t n = slice.wanted_tokens(), before = slice.tokens - n;
    if (n == 0) continue;
    SequenceSlice s = slice;
    s.row = static_cast<int64_t>(rows.size());
    s.tokens = n;
    s.position += before;
    slices.push_back(s);
    for (int64_t row = slice.row + before; row < slice.row + slice.tokens; ++row) {
      rows.push_back(row);
      ids.push_back(step.ids[static_cast<size_t>(row)]);
    }
  }
  if (rows.empty()) return;
  const Step wanted{ids, slices};
  const auto n = static_cast<int64_t>(rows.size());
  const auto move = [&](int64_t from, int64_t to) {
    if (from != to && !env.planning()) std::copy_n(x + from * d, d, x + to * d);
  };
  for (int64_t i = 0; i < n; ++i) move(rows[static_cast<size_t>(i)], i);
  Block(env, p, wanted, layer, Positions(env, wanted), x, x, x, nullptr, true);
  CheckFinite(env, layer, x, n);
  for (int64_t i = n; i-- > 0;) move(i, rows[static_cast<size_t>(i)]);
}

float* Transformer::BlockOnTape(const Env& env, const BlockParams& p, const Step& step, int64_t layer,
                                const int32_t* positions, Recompute recompute, float* x0, BlockSaved* saved) const {
  const int64_t n = step.tokens() * config_.hidden_size;
  const bool bf16 = env.compute == Compute::kFp8, whole = recompute == Recompute::kFull;
  const uint16_t* in = bf16 && whole ? KeepBf16(env, x0, n) : nullptr;
  float* x2 = bf16 ? x0 : env.Keep<float>(n);
  ArenaScope dropped(env.training->tape);
  float* x1 = bf16 ? x0 : env.Keep<float>(n);
  Block(env, p, step, layer, positions, x0, x1, x2, saved);
  if (whole) {
    *saved = BlockSaved();
    saved->in = bf16 ? nullptr : x0;
    saved->in_bf16 = in;
  } else {
    dropped.Keep();
  }
  return x2;
}

void Transformer::BlockBackward(const Env& env, const BlockParams& p, const BlockParams& g, const Step& step,
                                int64_t layer, const int32_t* positions, Recompute recompute, const BlockSaved& given,
                                float* dx) const {
  ArenaScope scope(env.arena);
  ArenaScope again(env.training->tape);
  env.training->layer = layer;
  const int64_t t = step.tokens(), d = config_.hidden_size;
  BlockSaved saved = given;
  const bool bf16 = env.compute == Compute::kFp8;
  float* stream = bf16 ? env.arena.Take<float>(t * d) : nullptr;  // before attention or feed-forward
  if (recompute == Recompute::kFull) {
    const bool was = std::exchange(env.training->recomputing, true);
    float* in = bf16 ? stream : const_cast<float*>(given.in);  // a block of float32 leaves it as it is
    if (bf16) Widen(env, stream, given.in_bf16, t * d);
    BlockOnTape(env, p, step, layer, positions, Recompute::kPaper, in, &saved);
    env.training->recomputing = was;
  }
  const auto before = [&](const float* kept, const uint16_t* kept_bf16) {
    if (!bf16) return kept;
    Widen(env, stream, kept_bf16, t * d);
    return static_cast<const float*>(stream);
  };
  float* normed = env.arena.Take<float>(t * d);
  float* dnormed = env.arena.Take<float>(t * d);

  const float* mid = before(saved.mid, saved.mid_bf16);
  env.Norm(normed, mid, t, p.post_attention_layernorm, config_.rms_norm_eps);
  if (p.is_moe) {
    MoeBackward(env, config_, p.moe, g.moe, *exchange_, saved.moe, normed, dx, t, dnormed);
  } else {
    MlpBackward(env, p.mlp, g.mlp, saved.mlp, normed, dx, t, dnormed);
  }
  NormBackward(env, dx, dnormed, mid, t, p.post_attention_layernorm, g.post_attention_layernorm, config_.rms_norm_eps,
               true);

  const float* in = before(saved.in, saved.in_bf16);
  env.Norm(normed, in, t, p.input_layernorm, config_.rms_norm_eps);
  MlaBackward(env, config_, p.self_attn, g.self_attn, rope_, step, positions, saved.self_attn, normed, dx, dnormed);
  NormBackward(env, dx, dnormed, in, t, p.input_layernorm, g.input_layernorm, config_.rms_norm_eps, true);
}

void Transformer::Forward(const Env& env, const Step& step, float* hidden) const {
  ArenaScope scope(env.arena);
  const int32_t* positions = Positions(env, step);
  Embed(env, step, hidden);
  const bool some_wanted = std::any_of(step.sequences.begin(), step.sequences.end(),
                                       [](const SequenceSlice& s) { return s.wanted_tokens() < s.tokens; });
  for (size_t l = 0; l < params_.layers.size(); ++l) {
    const int64_t layer = static_cast<int64_t>(l);
    if (env.probe && env.probe->replace_input && !env.planning())
      env.probe->replace_input(layer, hidden, step.tokens());
    if (some_wanted && l + 1 == params_.layers.size()) {
      BlockOfWanted(env, params_.layers[l], step, layer, positions, hidden);
      break;
    }
    Block(env, params_.layers[l], step, layer, positions, hidden, hidden, hidden, nullptr);
    CheckFinite(env, layer, hidden, step.tokens());
    env.Show("hidden", layer, hidden, DType::kF32, {step.tokens(), config_.hidden_size});
  }
}

void Transformer::Forward(const Env& env, const Step& step, ForwardSaved* saved) const {
  saved->positions = Positions(env, step);
  saved->layers.assign(params_.layers.size(), {});
  float* x = env.Keep<float>(step.tokens() * config_.hidden_size);
  Embed(env, step, x);
  for (size_t l = 0; l < params_.layers.size(); ++l) {
    x = BlockOnTape(env, params_.layers[l], step, static_cast<int64_t>(l), saved->positions, saved->recompute, x,
                    &saved->layers[l]);
  }
  saved->out = x;
}

void Transformer::EmbedBackward(const Env& env, const Step& step, const float* dx, const ModelParams& grads) const {
  if (env.planning()) return;
  const int64_t d = config_.hidden_size;
  kernels::EmbedBackward(env.ctx, {.dtable = Gradient(grads.embed_tokens),
                                   .dy = dx,
                                   .lddy = d,
                                   .ids = step.ids.data(),
                                   .rows = step.tokens(),
                                   .n = d});
}

void Transformer::Backward(const Env& env, const Step& step, const ForwardSaved& saved, float* dhidden,
                           const ModelParams& grads) const {
  for (size_t l = params_.layers.size(); l-- > 0;) {
    BlockBackward(env, params_.layers[l], grads.layers[l], step, static_cast<int64_t>(l), saved.positions,
                  saved.recompute, saved.layers[l], dhidden);
  }
  EmbedBackward(env, step, dhidden, grads);
}

void Transformer::FinalNorm(const Env& env, const float* hidden, int64_t rows, float* normed) const {
  env.Norm(normed, hidden, rows, params_.norm, config_.rms_norm_eps);
}

void Transformer::FinalNormBackward(const Env& env, const float* hidden, const float* dnormed, int64_t rows,
                                    float* dhidden, const ModelParams& grads) const {
  NormBackward(env, dhidden, dnormed, hidden, rows, params_.norm, grads.norm, config_.rms_norm_eps, false);
}

void Transformer::Head(const Env& env, const float* normed, int64_t rows, float* logits) const {
  env.Linear(logits, normed, rows, params_.lm_head);
}

void Transformer::MtpJoin(const Env& env, const MtpParams& p, int64_t rows, const float* embedding, const float* hidden,
                          float* joined) const {
  const int64_t d = config_.hidden_size;
  env.Norm(joined, embedding, rows, p.enorm, config_.rms_norm_eps, d, 2 * d);
  env.Norm(joined + d, hidden, rows, p.hnorm, config_.rms_norm_eps, d, 2 * d);
}

void Transformer::MtpForward(const Env& env, int64_t depth, const Step& step, const float* hidden, float* out) const {
  ArenaScope scope(env.arena);
  const MtpParams& p = params_.mtp[static_cast<size_t>(depth - 1)];
  const int64_t t = step.tokens(), layer = config_.num_hidden_layers + depth - 1;
  const int32_t* positions = Positions(env, step);
  float* joined = env.arena.Take<float>(t * 2 * config_.hidden_size);
  Embed(env, step, out);
  MtpJoin(env, p, t, out, hidden, joined);
  env.Linear(out, joined, t, p.eh_proj);
  if (env.probe && env.probe->replace_input && !env.planning()) env.probe->replace_input(layer, out, t);
  Block(env, p.block, step, layer, positions, out, out, out, nullptr);
  CheckFinite(env, layer, out, t);
}

void Transformer::MtpForward(const Env& env, int64_t depth, const Step& step, const float* hidden,
                             MtpSaved* saved) const {
  const MtpParams& p = params_.mtp[static_cast<size_t>(depth - 1)];
  const int64_t t = step.tokens(), d = config_.hidden_size, layer = config_.num_hidden_layers + depth - 1;
  saved->positions = Positions(env, step);
  saved->hidden = hidden;
  float* embedding = env.Keep<float>(t * d);
  float* x = env.Keep<float>(t * d);
  saved->embedding = embedding;
  Embed(env, step, embedding);
  {
    ArenaScope scope(env.arena);
    float* joined = env.arena.Take<float>(t * 2 * d);
    MtpJoin(env, p, t, embedding, hidden, joined);
    env.Linear(x, joined, t, p.eh_proj);
  }
  saved->out = BlockOnTape(env, p.block, step, layer, saved->positions, saved->recompute, x, &saved->block);
}

void Transformer::MtpBackward(const Env& env, int64_t depth, const Step& step, const MtpSaved& saved, float* dout,
                              float* dhidden, const ModelParams& grads) const {
  ArenaScope scope(env.arena);
  const MtpParams& p = params_.mtp[static_cast<size_t>(depth - 1)];
  const MtpParams& g = grads.mtp[static_cast<size_t>(depth - 1)];
  const int64_t t = step.tokens(), d = config_.hidden_size;
  BlockBackward(env, p.block, g.block, step, config_.num_hidden_layers + depth - 1, saved.positions, saved.recompute,
                saved.block, dout);
  float* joined = env.arena.Take<float>(t * 2 * d);
  float* djoined = env.arena.Take<float>(t * 2 * d);
  MtpJoin(env, p, t, saved.embedding, saved.hidden, joined);
  const kernels::LinearBackwardTerm term = GradientTerm(env, {"eh_proj", "gradient"}, dout, t, p.eh_proj);
  const kernels::LinearBackwardInputJob input{.dx = djoined, .ldx = 2 * d, .m = t, .terms = std::span(&term, 1)};
  kernels::LinearBackwardInput(env.ctx, env.arena, std::span(&input, 1), env.compute);
  const kernels::LinearBackwardWeightJob weight = WeightGradient(env, g.eh_proj, dout, joined, t);
  kernels::LinearBackwardWeight(env.ctx, env.arena, std::span(&weight, 1), ComputeOf(env, p.eh_proj));
  NormBackward(env, dhidden, djoined + d, saved.hidden, t, p.hnorm, g.hnorm, config_.rms_norm_eps, false, 2 * d);
  float* dembedding = env.arena.Take<float>(t * d);
  NormBackward(env, dembedding, djoined, saved.embedding, t, p.enorm, g.enorm, config_.rms_norm_eps, false, 2 * d);
  EmbedBackward(env, step, dembedding, grads);
}

void Transformer::MtpNorm(const Env& env, int64_t depth, const float* out, int64_t rows, float* normed) const {
  env.Norm(normed, out, rows, params_.mtp[static_cast<size_t>(depth - 1)].shared_head_norm, config_.rms_norm_eps);
}

void Transformer::MtpNormBackward(const Env& env, int64_t depth, const float* out, const float* dnormed, int64_t rows,
                                  float* dout, const ModelParams& grads) const {
  const size_t k = static_cast<size_t>(depth - 1);
  NormBackward(env, dout, dnormed, out, rows, params_.mtp[k].shared_head_norm, grads.mtp[k].shared_head_norm,
               config_.rms_norm_eps, false);
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
    const Env env{
        .ctx = ctx, .arena = planner, .compute = compute, .attention_form = sizes.form, .fixed_form = sizes.fixed_form};
    ArenaScope scope(planner);
    float* hidden = planner.Take<float>(tokens * c.hidden_size);
    transformer.Forward(env, step, hidden);
    float* normed = planner.Take<float>(std::max(tokens, sizes.head_rows) * c.hidden_size);
    float* out = planner.Take<float>(tokens * c.hidden_size);
    float* fed = planner.Take<float>(tokens * c.hidden_size);
    if (transformer.mtp_depth() > 0) transformer.MtpForward(env, 1, step, fed, out);
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
  // Every sequence with a few tokens.
  many.clear();
  const int64_t few = std::min(sizes.rows, sizes.positions);
  for (int64_t i = 0; (i + 1) * few <= sizes.tokens && i < sizes.sequences; ++i)
    many.push_back({.row = i * few,
                    .tokens = few,
                    .position = sizes.positions - few,
                    .form = AttentionForm::kAbsorbed,
                    .caches = {}});
  if (!many.empty()) plan(many);
  return planner.HighWater();
}

}  // namespace fathom::model
