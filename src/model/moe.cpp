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

// gate = silu(gate) * up over n values, as rows of a length that threads can share.
void SwigluFlat(Context& ctx, float* gate, const float* up, int64_t n) {
  constexpr int64_t kRow = 2048;
  const int64_t rows = n / kRow, rest = n % kRow, at = rows * kRow;
  if (rows > 0)
    kernels::Swiglu(ctx, {.y = gate, .ldy = kRow, .gate = gate, .up = up, .ldx = kRow, .rows = rows, .n = kRow});
  if (rest > 0)
    kernels::Swiglu(ctx,
                    {.y = gate + at, .ldy = rest, .gate = gate + at, .up = up + at, .ldx = rest, .rows = 1, .n = rest});
}

// Rows that go through one feed-forward: y (rows, d) = down(silu(gate(x)) * up(x)).
struct GatedRows {
  const MlpParams* params;
  const float* x;
  const int32_t* x_rows;  // as kernels::LinearJob
  float* y;
  int64_t rows;
};

// All groups at once: one region for gate and up, one for down, whatever their widths.
void GatedMlp(const Env& env, std::span<const GatedRows> groups, int64_t d) {
  ArenaScope scope(env.arena);
  int64_t total = 0;
  for (const GatedRows& g : groups) total += g.rows * g.params->gate_proj.rows;
  float* gate = env.arena.Take<float>(total);
  float* up = env.arena.Take<float>(total);
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
  if (!env.planning()) SwigluFlat(env.ctx, gate, up, total);
  jobs.clear();
  at = 0;
  for (const GatedRows& g : groups) {
    const int64_t n = g.params->gate_proj.rows;
    jobs.push_back({.y = g.y, .ldy = d, .x = gate + at, .ldx = n, .m = g.rows, .w = g.params->down_proj});
    at += g.rows * n;
  }
  env.Linear(jobs);
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
                      .rows = rows});
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

Routing Route(const Env& env, const ModelConfig& c, const MoeParams& params, const float* x, int64_t tokens) {
  const int64_t e = c.n_routed_experts, k = c.num_experts_per_tok;
  Routing routing{.ids = env.arena.Take<int32_t>(tokens * k),
                  .weights = env.arena.Take<float>(tokens * k),
                  .tokens = tokens,
                  .top_k = k};
  ArenaScope scope(env.arena);
  float* logits = env.arena.Take<float>(tokens * e);
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
  if (!groups.empty()) GatedMlp(env, groups, d);
}

void MlpForward(const Env& env, const MlpParams& params, const float* x, int64_t tokens, float* y) {
  const GatedRows all{.params = &params, .x = x, .x_rows = nullptr, .y = y, .rows = tokens};
  GatedMlp(env, std::span(&all, 1), params.gate_proj.cols);
}

void MoeForward(const Env& env, const ModelConfig& c, const MoeParams& params, int64_t layer, ExpertExchange& exchange,
                const float* x, int64_t tokens, float* y) {
  ArenaScope scope(env.arena);
  const int64_t d = c.hidden_size;
  const Routing routing = Route(env, c, params, x, tokens);
  env.Show("router_ids", layer, routing.ids, DType::kI32, {tokens, routing.top_k});
  env.Show("router_weights", layer, routing.weights, DType::kF32, {tokens, routing.top_k});
  const Dispatched sent = exchange.Dispatch(env, routing, x, d);
  float* expert_out = env.arena.Take<float>(sent.rows() * d);
  // Shared and routed experts together: one region fewer of each kind.
  std::vector<GatedRows> groups;
  AddExpertGroups(params.experts, sent, expert_out, d, groups);
  if (c.n_shared_experts > 0) {
    groups.push_back({.params = &params.shared_experts, .x = x, .x_rows = nullptr, .y = y, .rows = tokens});
  } else if (!env.planning()) {
    std::fill_n(y, tokens * d, 0.0f);
  }
  GatedMlp(env, groups, d);
  exchange.Combine(env, routing, sent, expert_out, y, d);
}

}  // namespace fathom::model
