#include "model/moe.h"

#include <algorithm>

namespace fathom::model {
namespace {

kernels::TopkMethod Method(const std::string& name) {
  if (name == "noaux_tc") return kernels::TopkMethod::kNoauxTc;
  if (name == "greedy") return kernels::TopkMethod::kGreedy;
  FATHOM_CHECK(name == "group_limited_greedy", name);
  return kernels::TopkMethod::kGroupLimitedGreedy;
}

// y = silu(gate) * up over n values, as rows of a length that threads can share.
void SwigluFlat(Context& ctx, float* y, const float* gate, const float* up, int64_t n) {
  constexpr int64_t kRow = 2048;
  const int64_t rows = n / kRow, rest = n % kRow, at = rows * kRow;
  if (rows > 0)
    kernels::Swiglu(ctx, {.y = y, .ldy = kRow, .gate = gate, .up = up, .ldx = kRow, .rows = rows, .n = kRow});
  if (rest > 0)
    kernels::Swiglu(ctx,
                    {.y = y + at, .ldy = rest, .gate = gate + at, .up = up + at, .ldx = rest, .rows = 1, .n = rest});
}

// Rows that go through one feed-forward: y (rows, d) = down(silu(gate(x)) * up(x)).
struct GatedRows {
  const MlpParams* params;
  const float* x;
  const int32_t* x_rows;  // as kernels::LinearJob
  float* y;
  int64_t rows;
  int64_t expert;  // as TensorName
};

// Calls visit(first value, rows, n) for groups of one width that stand together.
template <class Visit>
void ForEachWidth(std::span<const GatedRows> groups, const Visit& visit) {
  int64_t at = 0;
  for (size_t i = 0; i < groups.size();) {
    const int64_t n = groups[i].params->gate_proj.rows;
    int64_t rows = 0;
    for (; i < groups.size() && groups[i].params->gate_proj.rows == n; ++i) rows += groups[i].rows;
    visit(at, rows, n);
    at += rows * n;
  }
}

// All groups at once: one region for gate and up, one for down, whatever their widths.
void GatedMlp(const Env& env, std::span<const GatedRows> groups, int64_t d, GatedSaved* saved) {
  ArenaScope scope(env.arena);
  int64_t total = 0;
  for (const GatedRows& g : groups) total += g.rows * g.params->gate_proj.rows;
  const bool pack = saved && env.compute == Compute::kFp8;
  float* gate = pack ? env.arena.Take<float>(total) : env.Keep<float>(total);
  float* up = pack ? env.arena.Take<float>(total) : env.Keep<float>(total);
  float* hidden = saved && !pack ? env.arena.Take<float>(total) : gate;
  if (saved) *saved = {.gate = pack ? nullptr : gate, .up = pack ? nullptr : up};
  std::vector<kernels::LinearJob> jobs;
  jobs.reserve(2 * groups.size());
  int64_t at = 0;
  for (const GatedRows& g : groups) {
    const int64_t n = g.params->gate_proj.rows;
    jobs.push_back(
        {.y = gate + at, .ldy = n, .x = g.x, .ldx = d, .x_rows = g.x_rows, .m = g.rows, .w = g.params->gate_proj});
    jobs.push_back(
        {.y = up + at, .ldy = n, .x = g.x, .ldx = d, .x_rows = g.x_rows, .m = g.rows, .w = g.params->up_proj});
    at += g.rows * n;
  }
  env.Linear(jobs);
  at = 0;
  for (const GatedRows& g : groups) {
    const int64_t n = g.params->gate_proj.rows;
    env.Watch({"gate_proj", "output", g.expert}, gate + at, g.rows, n);
    env.Watch({"up_proj", "output", g.expert}, up + at, g.rows, n);
    at += g.rows * n;
  }
  if (pack) {
    ForEachWidth(groups, [&](int64_t begin, int64_t rows, int64_t n) {
      constexpr auto kFormat = kernels::TileFormat::kE4M3;
      saved->packed_gate.push_back(PackRows(env, gate + begin, rows, n, kFormat, false));
      saved->packed_up.push_back(PackRows(env, up + begin, rows, n, kFormat, false));
    });
  }
  if (!env.planning()) SwigluFlat(env.ctx, hidden, gate, up, total);
  jobs.clear();
  at = 0;
  for (const GatedRows& g : groups) {
    const int64_t n = g.params->gate_proj.rows;
    jobs.push_back({.y = g.y, .ldy = d, .x = hidden + at, .ldx = n, .m = g.rows, .w = g.params->down_proj});
    env.Watch({"down_proj", "input", g.expert}, hidden + at, g.rows, n);
    at += g.rows * n;
  }
  env.Linear(jobs);
  for (const GatedRows& g : groups) env.Watch({"down_proj", "output", g.expert}, g.y, g.rows, d);
}

// The same groups backward. dx (rows, d) contiguous, the group's part of one region or of its own.
struct GatedGradients {
  const MlpParams* params;
  const MlpParams* grads;
  const float* x;
  const int32_t* x_rows = nullptr;
  const float* dy;
  const int32_t* dy_rows = nullptr;
  const float* weights = nullptr;  // (rows,) or null: y's weight in the sum that dy is the gradient of
  float* dweights = nullptr;       // (rows,) or null
  float* dx;
  int64_t rows;
  int64_t expert;  // as TensorName
};

// Groups with the same kind of weights (given or not) and width must stand together.
void GatedMlpBackward(const Env& env, std::span<const GatedGradients> groups, int64_t d, const GatedSaved& saved) {
  ArenaScope scope(env.arena);
  int64_t total = 0;
  for (const GatedGradients& g : groups) total += g.rows * g.params->gate_proj.rows;
  float* hidden = env.arena.Take<float>(total);  // the gradient of SwiGLU's output, then that output
  float *gate = saved.gate, *up = saved.up;
  if (!saved.packed_gate.empty()) {
    gate = env.arena.Take<float>(total);
    up = env.arena.Take<float>(total);
    int64_t begin = 0;
    for (size_t i = 0; i < saved.packed_gate.size(); ++i) {
      UnpackRows(env, saved.packed_gate[i], gate + begin);
      UnpackRows(env, saved.packed_up[i], up + begin);
      begin += saved.packed_gate[i].rows * saved.packed_gate[i].n;
    }
  }
  std::vector<kernels::LinearBackwardTerm> terms(2 * groups.size());
  std::vector<kernels::LinearBackwardInputJob> inputs;
  int64_t at = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const GatedGradients& g = groups[i];
    const int64_t n = g.params->gate_proj.rows;
    terms[i] = GradientTerm(env, {"down_proj", "gradient", g.expert}, g.dy, g.rows, g.params->down_proj, g.dy_rows);
    inputs.push_back({.dx = hidden + at, .ldx = n, .m = g.rows, .terms = std::span(&terms[i], 1)});
    at += g.rows * n;
  }
  kernels::LinearBackwardInput(env.ctx, env.arena, inputs, env.compute);

  at = 0;
  for (size_t i = 0; i < groups.size() && !env.planning();) {
    const GatedGradients& first = groups[i];
    const int64_t n = first.params->gate_proj.rows;
    int64_t rows = 0;
    for (; i < groups.size(); ++i) {
      const GatedGradients& g = groups[i];
      const bool follows = g.params->gate_proj.rows == n && (g.weights == nullptr) == (first.weights == nullptr) &&
                           (!g.weights || (g.weights == first.weights + rows && g.dweights == first.dweights + rows));
      if (!follows) break;
      rows += g.rows;
    }
    kernels::SwigluBackward(env.ctx, {.dgate = gate + at,
                                      .dup = up + at,
                                      .y = hidden + at,
                                      .dweight = first.dweights,
                                      .dy = hidden + at,
                                      .gate = gate + at,
                                      .up = up + at,
                                      .weight = first.weights,
                                      .rows = rows,
                                      .n = n});
    at += rows * n;
  }

  std::vector<kernels::LinearBackwardWeightJob> weights;
  inputs.clear();
  at = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const GatedGradients& g = groups[i];
    const int64_t n = g.params->gate_proj.rows;
    weights.push_back(WeightGradient(env, g.grads->down_proj, g.dy, hidden + at, g.rows, g.dy_rows));
    weights.push_back(WeightGradient(env, g.grads->gate_proj, gate + at, g.x, g.rows, nullptr, g.x_rows));
    weights.push_back(WeightGradient(env, g.grads->up_proj, up + at, g.x, g.rows, nullptr, g.x_rows));
    terms[2 * i] = GradientTerm(env, {"gate_proj", "gradient", g.expert}, gate + at, g.rows, g.params->gate_proj);
    terms[2 * i + 1] = GradientTerm(env, {"up_proj", "gradient", g.expert}, up + at, g.rows, g.params->up_proj);
    inputs.push_back({.dx = g.dx, .ldx = d, .m = g.rows, .terms = std::span(&terms[2 * i], 2)});
    at += g.rows * n;
  }
  kernels::LinearBackwardInput(env.ctx, env.arena, inputs, env.compute);
  kernels::LinearBackwardWeight(env.ctx, env.arena, weights, ComputeOf(env, groups.front().params->gate_proj));
}

// The groups of the experts that have rows.
void AddExpertGroups(const std::vector<MlpParams>& experts, const Dispatched& sent, float* y, int64_t d,
                     std::vector<GatedRows>& groups) {
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t begin = sent.offsets[e], rows = sent.offsets[e + 1] - begin;
    if (rows == 0) continue;
    const bool in_order = sent.x_rows.empty();
    groups.push_back({.params = &experts[e],
                      .x = in_order ? sent.x + begin * d : sent.x,
                      .x_rows = in_order ? nullptr : sent.x_rows.data() + begin,
                      .y = y + begin * d,
                      .rows = rows,
                      .expert = static_cast<int64_t>(e)});
  }
}

}  // namespace

Dispatched LocalExchange::Dispatch(const Env& env, const Routing& routing, const float* x, int64_t) {
  const int64_t pairs = routing.tokens * routing.top_k;
  Dispatched out;
  out.x = x;  // every expert is here: its rows are read where they lie
  out.offsets.assign(static_cast<size_t>(experts_) + 1, 0);
  out.row_of.assign(static_cast<size_t>(pairs), -1);
  if (env.planning()) {
    // Any routing is to fit the plan. Kernels pad each expert's rows to their tile, at most 64: plan every expert
    // padded.
    constexpr int64_t kTile = 64;
    const int64_t used = std::min(experts_, pairs);
    for (int64_t e = 0; e < experts_; ++e)
      out.offsets[static_cast<size_t>(e) + 1] =
          out.offsets[static_cast<size_t>(e)] + (e < used ? pairs / used + kTile : 0);
    out.x_rows.resize(static_cast<size_t>(out.rows()));
    return out;
  }
  for (int64_t i = 0; i < pairs; ++i) ++out.offsets[static_cast<size_t>(routing.ids[i]) + 1];
  for (size_t e = 0; e < static_cast<size_t>(experts_); ++e) out.offsets[e + 1] += out.offsets[e];
  std::vector<int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
  out.x_rows.resize(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t row = next[static_cast<size_t>(routing.ids[i])]++;
    out.row_of[static_cast<size_t>(i)] = static_cast<int32_t>(row);
    out.x_rows[static_cast<size_t>(row)] = static_cast<int32_t>(i / routing.top_k);
  }
  return out;
}

void LocalExchange::Combine(const Env& env, const Routing& routing, const Dispatched& sent, const float* expert_out,
                            float* y, int64_t d) {
  if (env.planning()) return;
  kernels::Combine(env.ctx, {.y = y,
                             .ldy = d,
                             .x = expert_out,
                             .ldx = d,
                             .row_of = sent.row_of.data(),
                             .weights = routing.weights,
                             .tokens = routing.tokens,
                             .top_k = routing.top_k,
                             .n = d});
}

DispatchedGradient LocalExchange::CombineBackward(const Env& env, const Routing& routing, const Dispatched& sent,
                                                  const float* dy, int64_t) {
  float* weights = env.arena.Take<float>(sent.rows());
  if (!env.planning()) {
    for (size_t i = 0; i < sent.row_of.size(); ++i) weights[sent.row_of[i]] = routing.weights[i];
  }
  return {.dy = dy, .dy_rows = sent.x_rows, .weights = weights};
}

void LocalExchange::DispatchBackward(const Env& env, const Routing& routing, const Dispatched& sent, const float* rows,
                                     const float* row_weights, float* dx, float* dweights, int64_t d) {
  if (env.planning()) return;
  kernels::Combine(env.ctx, {.y = dx,
                             .ldy = d,
                             .x = rows,
                             .ldx = d,
                             .row_of = sent.row_of.data(),
                             .tokens = routing.tokens,
                             .top_k = routing.top_k,
                             .n = d});
  for (size_t i = 0; i < sent.row_of.size(); ++i) dweights[i] = row_weights[sent.row_of[i]];
}

Routing Route(const Env& env, const ModelConfig& c, const MoeParams& params, const float* x, int64_t tokens,
              float* logits) {
  const int64_t e = c.n_routed_experts, k = c.num_experts_per_tok;
  Routing routing{
      .ids = env.Keep<int32_t>(tokens * k), .weights = env.Keep<float>(tokens * k), .tokens = tokens, .top_k = k};
  ArenaScope scope(env.arena);
  if (!logits) logits = env.arena.Take<float>(tokens * e);
  const kernels::LinearJob job{.y = logits, .ldy = e, .x = x, .ldx = c.hidden_size, .m = tokens, .w = params.gate};
  env.Linear(std::span(&job, 1), Compute::kF32);
  if (env.planning()) return routing;
  kernels::Gate(env.ctx, {.ids = routing.ids,
                          .weights = routing.weights,
                          .logits = logits,
                          .bias = static_cast<const float*>(params.e_score_correction_bias.data),
                          .tokens = tokens,
                          .experts = e,
                          .top_k = k,
                          .n_group = c.n_group,
                          .topk_group = c.topk_group,
                          .method = Method(c.topk_method),
                          .sigmoid = c.scoring_func == "sigmoid",
                          .norm_topk_prob = c.norm_topk_prob,
                          .routed_scaling_factor = static_cast<float>(c.routed_scaling_factor)});
  return routing;
}

void RunExperts(const Env& env, const std::vector<MlpParams>& experts, const Dispatched& sent, float* y, int64_t d) {
  std::vector<GatedRows> groups;
  AddExpertGroups(experts, sent, y, d, groups);
  if (!groups.empty()) GatedMlp(env, groups, d, nullptr);
}

void MlpForward(const Env& env, const MlpParams& params, const float* x, int64_t tokens, float* y, GatedSaved* saved) {
  const GatedRows all{
      .params = &params, .x = x, .x_rows = nullptr, .y = y, .rows = tokens, .expert = TensorName::kDense};
  GatedMlp(env, std::span(&all, 1), params.gate_proj.cols, saved);
}

void MlpBackward(const Env& env, const MlpParams& params, const MlpParams& grads, const GatedSaved& saved,
                 const float* x, const float* dy, int64_t tokens, float* dx) {
  const GatedGradients all{
      .params = &params, .grads = &grads, .x = x, .dy = dy, .dx = dx, .rows = tokens, .expert = TensorName::kDense};
  GatedMlpBackward(env, std::span(&all, 1), params.gate_proj.cols, saved);
}

namespace {

// Loads and the balance loss of a training step, whose gradient is prepared for backward. Only sigmoid scores have a
// balance loss.
void CountAndBalance(const Env& env, const ModelConfig& c, int64_t layer, const Step& step, MoeSaved* saved) {
  Training& training = *env.training;
  const int64_t e = c.n_routed_experts, pairs = saved->routing.tokens * saved->routing.top_k;
  std::vector<int64_t> first_rows;  // of each packed sequence
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    if (i == 0 || step.sequences[i].sequence != step.sequences[i - 1].sequence)
      first_rows.push_back(step.sequences[i].row);
  }
  const int64_t sequences = static_cast<int64_t>(first_rows.size());
  float* f = env.Keep<float>(sequences * e);
  int32_t* sequence_of = env.Keep<int32_t>(step.tokens());
  float* p = env.arena.Take<float>(sequences * e);
  if (env.planning()) return;
  if (!training.recomputing) {
    if (training.load.size() <= static_cast<size_t>(layer)) training.load.resize(static_cast<size_t>(layer) + 1);
    std::vector<int64_t>& load = training.load[static_cast<size_t>(layer)];
    load.resize(static_cast<size_t>(e));
    for (int64_t i = 0; i < pairs; ++i) ++load[static_cast<size_t>(saved->routing.ids[i])];
  }
  if (c.scoring_func != "sigmoid") return;
  first_rows.push_back(step.tokens());
  std::vector<kernels::BalanceArgs> args;
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t begin = first_rows[static_cast<size_t>(i)], end = first_rows[static_cast<size_t>(i) + 1];
    std::fill(sequence_of + begin, sequence_of + end, static_cast<int32_t>(i));
    args.push_back({.f = f + i * e,
                    .p = p + i * e,
                    .logits = saved->logits + begin * e,
                    .tokens = end - begin,
                    .experts = e,
                    .top_k = saved->routing.top_k});
  }
  kernels::Balance(env.ctx, env.arena, args);
  for (int64_t i = 0; i < sequences; ++i) {
    double sum = 0;
    for (int64_t j = i * e; j < (i + 1) * e; ++j) {
      sum += static_cast<double>(f[j]) * p[j];
      f[j] =
          static_cast<float>(training.balance_scale * f[j] / static_cast<double>(args[static_cast<size_t>(i)].tokens));
    }
    if (!training.recomputing) training.balance += sum;
  }
  saved->balance = f;
  saved->sequence_of = sequence_of;
}

}  // namespace

void MoeForward(const Env& env, const ModelConfig& c, const MoeParams& params, int64_t layer, ExpertExchange& exchange,
                const float* x, const Step& step, float* y, MoeSaved* saved) {
  ArenaScope scope(env.arena);
  const int64_t d = c.hidden_size, tokens = step.tokens();
  float* logits = saved ? env.Keep<float>(tokens * c.n_routed_experts) : nullptr;
  const Routing routing = Route(env, c, params, x, tokens, logits);
  if (saved) env.Watch({"mlp.gate", "output"}, logits, tokens, c.n_routed_experts);
  env.Show("router_ids", layer, routing.ids, DType::kI32, {tokens, routing.top_k});
  env.Show("router_weights", layer, routing.weights, DType::kF32, {tokens, routing.top_k});
  if (saved) saved->payload = {};
  if (saved && env.compute == Compute::kFp8) {
    // The gate has seen x itself; experts get codes, made once. Linear makes the same codes of their values again.
    saved->payload = PackRows(env, x, tokens, d, kernels::TileFormat::kE4M3, true);
    float* payload = env.arena.Take<float>(tokens * d);
    UnpackRows(env, saved->payload, payload);
    x = payload;
  }
  Dispatched sent = exchange.Dispatch(env, routing, x, d);
  float* expert_out = env.arena.Take<float>(sent.rows() * d);
  // Shared and routed experts together: one region fewer of each kind.
  std::vector<GatedRows> groups;
  AddExpertGroups(params.experts, sent, expert_out, d, groups);
  if (c.n_shared_experts > 0) {
    groups.push_back({.params = &params.shared_experts,
                      .x = x,
                      .x_rows = nullptr,
                      .y = y,
                      .rows = tokens,
                      .expert = TensorName::kShared});
  } else if (!env.planning()) {
    std::fill_n(y, tokens * d, 0.0f);
  }
  GatedMlp(env, groups, d, saved ? &saved->gated : nullptr);
  exchange.Combine(env, routing, sent, expert_out, y, d);
  if (!saved) return;
  saved->logits = logits;
  saved->routing = routing;
  saved->sent = std::move(sent);
  CountAndBalance(env, c, layer, step, saved);
}

void MoeBackward(const Env& env, const ModelConfig& c, const MoeParams& params, const MoeParams& grads,
                 ExpertExchange& exchange, const MoeSaved& saved, const float* x, const float* dy, int64_t tokens,
                 float* dx) {
  ArenaScope scope(env.arena);
  const int64_t d = c.hidden_size, e = c.n_routed_experts, k = saved.routing.top_k, rows = saved.sent.rows();
  const DispatchedGradient gradient = exchange.CombineBackward(env, saved.routing, saved.sent, dy, d);
  float* row_dx = env.arena.Take<float>(rows * d);
  float* row_dweights = env.arena.Take<float>(rows);
  float* dweights = env.arena.Take<float>(tokens * k);
  float* dlogits = env.arena.Take<float>(tokens * e);
  const float* given = x;  // to the experts
  if (saved.payload.codes || (env.planning() && env.compute == Compute::kFp8)) {
    float* payload = env.arena.Take<float>(tokens * d);
    UnpackRows(env, saved.payload, payload);
    given = payload;
  }
  std::vector<GatedGradients> groups;
  for (size_t i = 0; i < params.experts.size(); ++i) {
    const int64_t begin = saved.sent.offsets[i], n = saved.sent.offsets[i + 1] - begin;
    if (n == 0) continue;
    const bool in_order = saved.sent.x_rows.empty(), dy_in_order = gradient.dy_rows.empty();
    groups.push_back({.params = &params.experts[i],
                      .grads = &grads.experts[i],
                      .x = in_order ? given + begin * d : given,
                      .x_rows = in_order ? nullptr : saved.sent.x_rows.data() + begin,
                      .dy = dy_in_order ? gradient.dy + begin * d : gradient.dy,
                      .dy_rows = dy_in_order ? nullptr : gradient.dy_rows.data() + begin,
                      .weights = gradient.weights + begin,
                      .dweights = row_dweights + begin,
                      .dx = row_dx + begin * d,
                      .rows = n,
                      .expert = static_cast<int64_t>(i)});
  }
  if (c.n_shared_experts > 0) {
    groups.push_back({.params = &params.shared_experts,
                      .grads = &grads.shared_experts,
                      .x = given,
                      .dy = dy,
                      .dx = dx,
                      .rows = tokens,
                      .expert = TensorName::kShared});
  } else if (!env.planning()) {
    std::fill_n(dx, tokens * d, 0.0f);
  }
  GatedMlpBackward(env, groups, d, saved.gated);
  exchange.DispatchBackward(env, saved.routing, saved.sent, row_dx, row_dweights, dx, dweights, d);

  if (!env.planning()) {
    kernels::GateBackward(env.ctx, {.dlogits = dlogits,
                                    .dweights = dweights,
                                    .ids = saved.routing.ids,
                                    .logits = saved.logits,
                                    .tokens = tokens,
                                    .experts = e,
                                    .top_k = k,
                                    .sigmoid = c.scoring_func == "sigmoid",
                                    .norm_topk_prob = c.norm_topk_prob,
                                    .routed_scaling_factor = static_cast<float>(c.routed_scaling_factor),
                                    .balance = saved.balance,
                                    .sequence_of = saved.sequence_of});
  }
  const kernels::LinearBackwardTerm term = GradientTerm(env, {"mlp.gate", "gradient"}, dlogits, tokens, params.gate);
  const kernels::LinearBackwardInputJob input{
      .dx = dx, .ldx = d, .m = tokens, .terms = std::span(&term, 1), .accumulate = true};
  kernels::LinearBackwardInput(env.ctx, env.arena, std::span(&input, 1), Compute::kF32);
  const kernels::LinearBackwardWeightJob weight = WeightGradient(env, grads.gate, dlogits, x, tokens);
  kernels::LinearBackwardWeight(env.ctx, env.arena, std::span(&weight, 1), Compute::kF32);
}

}  // namespace fathom::model
