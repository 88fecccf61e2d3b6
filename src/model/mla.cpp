// Letters: T tokens of the step, H heads, r kv_lora_rank, dn/dr/dv head dimensions (nope, rope, v), L positions seen.
#include "model/mla.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fathom::model {
namespace {

constexpr int64_t kExpandedBudget = int64_t{128} << 20;  // bytes of keys and values that exist at once in the full form
constexpr int64_t kExpandRows = 4096;                    // positions expanded by one product
constexpr double kAbsorbedCost = 1.5;  // what an operation of the absorbed form costs beside one of the full form

struct Shapes {
  int64_t h, r, dn, dr, dv;
  explicit Shapes(const ModelConfig& c)
      : h(c.num_attention_heads), r(c.kv_lora_rank), dn(c.qk_nope_head_dim), dr(c.qk_rope_head_dim), dv(c.v_head_dim) {}
};

// kv_b_proj's rows of head `h`: keys (dn, r), then values (dv, r).
Weight KeyRows(const Weight& kv_b, const Shapes& s, int64_t h) { return kv_b.Rows(h * (s.dn + s.dv), s.dn); }
Weight ValueRows(const Weight& kv_b, const Shapes& s, int64_t h) { return kv_b.Rows(h * (s.dn + s.dv) + s.dn, s.dv); }

void FullForm(const Env& env, const ModelConfig& c, const AttentionParams& p, const SequenceSlice& slice,
              const kernels::LatentCache& cache, const float* q, float* out, float* lse) {
  ArenaScope scope(env.arena);
  const Shapes s(c);
  const int64_t length = slice.position + slice.tokens, per_head = s.dn + s.dv;
  const DType kv_dtype = CoreType(env.compute);
  const int64_t group = std::clamp<int64_t>(kExpandedBudget / (length * per_head * SizeOf(kv_dtype)), 1, s.h);
  std::byte* kv = env.arena.Take<std::byte>(length * group * per_head * SizeOf(kv_dtype));
  float* latent = env.arena.Take<float>(std::min(length, kExpandRows) * s.r);
  for (int64_t h = 0; h < s.h; h += group) {
    const int64_t heads = std::min(group, s.h - h), width = heads * per_head;
    for (int64_t begin = 0; begin < length; begin += kExpandRows) {
      const int64_t rows = std::min(kExpandRows, length - begin);
      if (!env.planning()) {
        kernels::CacheRead(
            env.ctx, {.y = latent, .ldy = s.r, .cache = cache, .begin = begin, .rows = rows, .column = 0, .n = s.r});
      }
      const kernels::LinearJob job{.y = kv + begin * width * SizeOf(kv_dtype),
                                   .ldy = width,
                                   .y_dtype = kv_dtype,
                                   .x = latent,
                                   .ldx = s.r,
                                   .m = rows,
                                   .w = p.kv_b_proj.Rows(h * per_head, width)};
      env.Linear(std::span(&job, 1));
    }
    kernels::Attention(env.ctx, env.arena,
                       {.out = out + h * s.dv,
                        .ldo = s.h * s.dv,
                        .q = q + h * (s.dn + s.dr),
                        .ldq = s.h * (s.dn + s.dr),
                        .kv = kv,
                        .kv_dtype = kv_dtype,
                        .ldkv = width,
                        .cache = cache,
                        .heads = heads,
                        .tokens = slice.tokens,
                        .begin = slice.position,
                        .dn = s.dn,
                        .dr = s.dr,
                        .dv = s.dv,
                        .scale = static_cast<float>(c.SoftmaxScale()),
                        .compute = env.compute,
                        .lse = lse ? lse + h : nullptr,
                        .ld_lse = s.h});
  }
}

// q_latent (n, H, r + dr), its first r values = q_rows (n, H, dn + dr), their first dn, times the head's keys.
void AbsorbQueries(const Env& env, const AttentionParams& p, const Shapes& s, int64_t n, const float* q_rows,
                   float* q_latent) {
  const int64_t width = s.r + s.dr, dq = s.dn + s.dr;
  const bool few = p.turned_keys && n <= kernels::CompactRowsOfX(env.ctx.isa, env.compute, s.dn, env.fixed_form);
  if (few || (env.planning() && p.turned_keys)) {
    std::vector<kernels::LinearJob> jobs;
    for (int64_t h = 0; h < s.h; ++h) {
      const Weight keys{.dtype = DType::kBF16, .rows = s.r, .cols = s.dn, .compact = p.turned_keys + h};
      jobs.push_back(
          {.y = q_latent + h * width, .ldy = s.h * width, .x = q_rows + h * dq, .ldx = s.h * dq, .m = n, .w = keys});
    }
    env.Linear(jobs);
    if (!env.planning()) return;
  }
  std::vector<kernels::LinearTransposedJob> jobs;
  for (int64_t h = 0; h < s.h; ++h) {
    const Weight keys = KeyRows(p.kv_b_proj, s, h);
    jobs.push_back(
        {.y = q_latent + h * width, .ldy = s.h * width, .x = q_rows + h * dq, .ldx = s.h * dq, .m = n, .w = keys});
  }
  kernels::LinearTransposed(env.ctx, env.arena, jobs, env.compute);
}

// The slices of one token or few: rows[i] of q and out, each with its own cache and length.
void AbsorbedForm(const Env& env, const ModelConfig& c, const AttentionParams& p, std::span<const int64_t> rows,
                  std::span<const kernels::LatentCache> caches, std::span<const int64_t> lengths, const float* q,
                  float* out) {
  ArenaScope scope(env.arena);
  const Shapes s(c);
  const int64_t n = static_cast<int64_t>(rows.size()), width = s.r + s.dr, dq = s.dn + s.dr;
  // Where the rows stand side by side, as in a step without prompts, they are used where they are.
  const auto apart = [](int64_t row, int64_t after) { return after != row + 1; };
  const bool together = !env.planning() && std::adjacent_find(rows.begin(), rows.end(), apart) == rows.end();
  float* q_copy = together ? nullptr : env.arena.Take<float>(n * s.h * dq);
  float* out_copy = together ? nullptr : env.arena.Take<float>(n * s.h * s.dv);
  const float* q_rows = together ? q + rows.front() * s.h * dq : q_copy;    // (n, H, dn + dr)
  float* out_rows = together ? out + rows.front() * s.h * s.dv : out_copy;  // (n, H, dv)
  float* q_latent = env.arena.Take<float>(n * s.h * width);                 // (n, H, r + dr)
  float* out_latent = env.arena.Take<float>(n * s.h * s.r);                 // (n, H, r)
  if (!env.planning()) {
    env.ctx.pool.ParallelFor(n, [&](int64_t i, int) {
      const float* from = q + rows[static_cast<size_t>(i)] * s.h * dq;
      if (!together) std::copy_n(from, s.h * dq, q_copy + i * s.h * dq);
      for (int64_t h = 0; h < s.h; ++h) std::copy_n(from + h * dq + s.dn, s.dr, q_latent + (i * s.h + h) * width + s.r);
    });
  }
  AbsorbQueries(env, p, s, n, q_rows, q_latent);
  kernels::LatentAttention(env.ctx, env.arena,
                           {.out = out_latent,
                            .q = q_latent,
                            .caches = caches,
                            .lengths = lengths,
                            .heads = s.h,
                            .r = s.r,
                            .dr = s.dr,
                            .scale = static_cast<float>(c.SoftmaxScale()),
                            .compute = env.compute});
  std::vector<kernels::LinearJob> values(static_cast<size_t>(s.h));
  for (int64_t h = 0; h < s.h; ++h) {
    values[static_cast<size_t>(h)] = {.y = out_rows + h * s.dv,
                                      .ldy = s.h * s.dv,
                                      .x = out_latent + h * s.r,
                                      .ldx = s.h * s.r,
                                      .m = n,
                                      .w = ValueRows(p.kv_b_proj, s, h)};
  }
  // The absorbed form never quantises kv_b_proj's input (published inference code).
  env.Linear(values, env.compute == Compute::kW8A8 ? Compute::kF32 : env.compute);
  if (env.planning() || together) return;
  env.ctx.pool.ParallelFor(n, [&](int64_t i, int) {
    std::copy_n(out_copy + i * s.h * s.dv, s.h * s.dv, out + rows[static_cast<size_t>(i)] * s.h * s.dv);
  });
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config, int64_t positions) : positions_(positions) {
  const std::vector<double> frequencies = config.RopeFrequencies();
  const double amplitude = config.RopeAmplitude();
  const size_t half = frequencies.size();
  cos_.resize(static_cast<size_t>(positions) * half);
  sin_.resize(cos_.size());
  for (size_t t = 0; t < static_cast<size_t>(positions); ++t) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) * frequencies[i];
      cos_[t * half + i] = static_cast<float>(std::cos(angle) * amplitude);
      sin_[t * half + i] = static_cast<float>(std::sin(angle) * amplitude);
    }
  }
}

AttentionForm CheaperForm(const ModelConfig& config, int64_t tokens, int64_t position) {
  if (tokens == 1) return AttentionForm::kAbsorbed;
  const Shapes s(config);
  const double t = static_cast<double>(tokens), length = static_cast<double>(position + tokens);
  const double seen = t * (static_cast<double>(position) + t / 2), expand = static_cast<double>(s.r * (s.dn + s.dv));
  const double full = length * expand + seen * static_cast<double>(s.dn + s.dr + s.dv);
  const double absorbed = t * expand + seen * static_cast<double>(2 * s.r + s.dr) * kAbsorbedCost;
  return full <= absorbed ? AttentionForm::kFull : AttentionForm::kAbsorbed;
}

namespace {

void Rotate(const Env& env, const RopeTable& rope, const int32_t* positions, int64_t tokens, float* first,
            int64_t row_stride, int64_t head_stride, int64_t heads, int64_t dim, bool inverse = false) {
  if (env.planning()) return;
  kernels::Rope(env.ctx, {.x = first,
                          .row_stride = row_stride,
                          .head_stride = head_stride,
                          .rows = tokens,
                          .heads = heads,
                          .dim = dim,
                          .positions = positions,
                          .cos = rope.cos(),
                          .sin = rope.sin(),
                          .inverse = inverse});
}

// x (n,) rounded to bf16.
void Round(const Env& env, float* x, int64_t n) {
  env.InPieces(n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = RoundToBf16(x[i]);
  });
}

// kv (T, r + dr): latents after their norm, shared keys rotated. kv may be kv_a.
void MakeLatents(const Env& env, const ModelConfig& c, const AttentionParams& p, const RopeTable& rope,
                 const int32_t* positions, int64_t tokens, const float* kv_a, float* kv) {
  const Shapes s(c);
  const int64_t width = s.r + s.dr;
  env.Norm(kv, kv_a, tokens, p.kv_a_layernorm, c.rms_norm_eps, width, width);
  if (kv != kv_a && !env.planning()) {
    for (int64_t t = 0; t < tokens; ++t) std::copy_n(kv_a + t * width + s.r, s.dr, kv + t * width + s.r);
  }
  Rotate(env, rope, positions, tokens, kv + s.r, width, s.dr, 1, s.dr);
}

kernels::LatentCache CacheOf(const Env& env, const ModelConfig& c, const SequenceSlice& slice, int64_t cache_layer) {
  if (!env.planning()) return slice.caches[static_cast<size_t>(cache_layer)];
  return {.dtype = CoreType(env.compute), .width = c.kv_lora_rank + c.qk_rope_head_dim};
}

// kv (T, r + dr) to the caches.
void WriteLatents(const Env& env, const ModelConfig& c, const Step& step, int64_t cache_layer, const float* kv) {
  if (env.planning()) return;
  const int64_t width = c.kv_lora_rank + c.qk_rope_head_dim;
  std::vector<kernels::CacheWriteArgs> writes;
  for (const SequenceSlice& slice : step.sequences) {
    writes.push_back({.cache = CacheOf(env, c, slice, cache_layer),
                      .x = kv + slice.row * width,
                      .ldx = width,
                      .rows = slice.tokens,
                      .position = slice.position});
  }
  kernels::CacheWrite(env.ctx, writes);
}

}  // namespace

void MlaLatents(const Env& env, const ModelConfig& c, const AttentionParams& p, const RopeTable& rope, const Step& step,
                int64_t cache_layer, const int32_t* positions, const float* x) {
  ArenaScope scope(env.arena);
  const int64_t t = step.tokens();
  float* kv = env.arena.Take<float>(t * (c.kv_lora_rank + c.qk_rope_head_dim));
  env.Linear(kv, x, t, p.kv_a_proj_with_mqa);
  MakeLatents(env, c, p, rope, positions, t, kv, kv);
  WriteLatents(env, c, step, cache_layer, kv);
}

void MlaForward(const Env& env, const ModelConfig& c, const AttentionParams& p, const RopeTable& rope, const Step& step,
                int64_t cache_layer, const int32_t* positions, const float* x, float* y, MlaSaved* saved, bool cached) {
  ArenaScope scope(env.arena);
  const Shapes s(c);
  const int64_t t = step.tokens(), d = c.hidden_size, dq = s.dn + s.dr, width = s.r + s.dr;
  const int64_t rq = c.q_lora_rank.value_or(0);
  float* kv_a = env.Keep<float>(t * width);  // (T, r + dr)
  float* q_a = env.Keep<float>(t * rq);      // (T, rq)
  const bool pack = saved && env.compute == Compute::kFp8;
  float* out = pack ? env.arena.Take<float>(t * s.h * s.dv) : env.Keep<float>(t * s.h * s.dv);  // (T, H, dv)
  float* lse = saved ? env.Keep<float>(t * s.h) : nullptr;
  float* q = env.arena.Take<float>(t * s.h * dq);  // (T, H, dn + dr)
  float* kv = saved ? env.arena.Take<float>(t * width) : kv_a;
  float* q_n = saved ? env.arena.Take<float>(t * rq) : q_a;
  if (saved) *saved = {.q_a = q_a, .kv_a = kv_a, .out = pack ? nullptr : out, .packed_out = {}, .lse = lse};

  const kernels::LinearJob query =
      c.q_lora_rank ? kernels::LinearJob{.y = q_a, .ldy = rq, .x = x, .ldx = d, .m = t, .w = p.q_a_proj}
                    : kernels::LinearJob{.y = q, .ldy = s.h * dq, .x = x, .ldx = d, .m = t, .w = p.q_proj};
  const kernels::LinearJob jobs[] = {query,
                                     {.y = kv_a, .ldy = width, .x = x, .ldx = d, .m = t, .w = p.kv_a_proj_with_mqa}};
  env.Linear(std::span(jobs).first(cached ? 1 : 2));
  if (c.q_lora_rank) env.Watch({"self_attn.q_a_proj", "output"}, q_a, t, rq);
  env.Watch({"self_attn.kv_a_proj_with_mqa", "output"}, kv_a, t, width);
  if (c.q_lora_rank) env.Norm(q_n, q_a, t, p.q_a_layernorm, c.rms_norm_eps);
  if (!cached) {  // before the next product: of a long step they would not be in the caches any more
    MakeLatents(env, c, p, rope, positions, t, kv_a, kv);
    WriteLatents(env, c, step, cache_layer, kv);
  }
  if (c.q_lora_rank) env.Linear(q, q_n, t, p.q_b_proj);
  env.Watch({c.q_lora_rank ? "self_attn.q_b_proj" : "self_attn.q_proj", "output"}, q, t, s.h * dq);
  Rotate(env, rope, positions, t, q + s.dn, s.h * dq, dq, s.h, s.dr);

  std::vector<int64_t> rows, lengths;  // of the absorbed form: one query each
  std::vector<kernels::LatentCache> caches;
  for (const SequenceSlice& slice : step.sequences) {
    const kernels::LatentCache cache = CacheOf(env, c, slice, cache_layer);
    AttentionForm form = env.attention_form;
    if (form == AttentionForm::kAuto) form = slice.form;
    if (form == AttentionForm::kAuto) form = CheaperForm(c, slice.tokens, slice.position);
    if (saved) form = AttentionForm::kFull;
    if (form == AttentionForm::kFull) {
      FullForm(env, c, p, slice, cache, q + slice.row * s.h * dq, out + slice.row * s.h * s.dv,
               saved ? lse + slice.row * s.h : nullptr);
      continue;
    }
    for (int64_t j = 0; j < slice.tokens; ++j) {
      rows.push_back(slice.row + j);
      lengths.push_back(slice.position + j + 1);
      caches.push_back(cache);
    }
  }
  if (!rows.empty()) AbsorbedForm(env, c, p, rows, caches, lengths, q, out);
  env.Watch({"self_attn.o_proj", "input"}, out, t, s.h * s.dv);
  if (pack) {  // o_proj reads what backward will read
    saved->packed_out = PackRows(env, out, t, s.h * s.dv, kernels::TileFormat::kE5M6, true);
    UnpackRows(env, saved->packed_out, out);
  }
  env.Linear(y, out, t, p.o_proj);
  env.Watch({"self_attn.o_proj", "output"}, y, t, d);
}

namespace {

// dq (T, H, dn + dr), dlatent (T, r) and dk_rope (T, dr, zero before) of dout (T, H, dv); keys and values of some heads
// at a time.
void FullFormBackward(const Env& env, const ModelConfig& c, const AttentionParams& p, const AttentionParams& grads,
                      const Step& step, const MlaSaved& saved, const float* out, const float* kv, const float* q,
                      const float* dout, float* dq, float* dlatent, float* dk_rope) {
  ArenaScope scope(env.arena);
  const Shapes s(c);
  const int64_t t = step.tokens(), per_head = s.dn + s.dv, width = s.r + s.dr, dim = s.dn + s.dr;
  const DType kv_dtype = CoreType(env.compute);
  const int64_t size = SizeOf(kv_dtype);
  int64_t group = std::clamp<int64_t>(kExpandedBudget / (t * per_head * (size + 4)), 1, s.h);
  if (env.compute == Compute::kFp8) {  // groups begin at whole blocks of kv_b_proj's scales
    const int64_t least = kFp8Block / std::gcd(kFp8Block, per_head);
    group = std::min(std::max(group / least, int64_t{1}) * least, s.h);
  }
  std::byte* expanded = env.arena.Take<std::byte>(t * group * per_head * size);
  float* dexpanded = env.arena.Take<float>(t * group * per_head);
  for (int64_t h = 0; h < s.h; h += group) {
    const int64_t heads = std::min(group, s.h - h), columns = heads * per_head;
    const Weight w = p.kv_b_proj.Rows(h * per_head, columns), g = grads.kv_b_proj.Rows(h * per_head, columns);
    const kernels::LinearJob expand{
        .y = expanded, .ldy = columns, .y_dtype = kv_dtype, .x = kv, .ldx = width, .m = t, .w = w};
    env.Linear(std::span(&expand, 1));
    std::vector<kernels::AttentionBackwardArgs> sequences;
    for (const SequenceSlice& slice : step.sequences) {
      FATHOM_CHECK(slice.position == 0);
      const int64_t row = slice.row;
      sequences.push_back({.dq = dq + (row * s.h + h) * dim,
                           .lddq = s.h * dim,
                           .dkv = dexpanded + row * columns,
                           .lddkv = columns,
                           .dk_rope = dk_rope + row * s.dr,
                           .lddk_rope = s.dr,
                           .dout = dout + (row * s.h + h) * s.dv,
                           .out = out + (row * s.h + h) * s.dv,
                           .ldo = s.h * s.dv,
                           .q = q + (row * s.h + h) * dim,
                           .ldq = s.h * dim,
                           .kv = expanded + row * columns * size,
                           .kv_dtype = kv_dtype,
                           .ldkv = columns,
                           .k_rope = kv + row * width + s.r,
                           .ldk_rope = width,
                           .lse = saved.lse + row * s.h + h,
                           .ld_lse = s.h,
                           .heads = heads,
                           .tokens = slice.tokens,
                           .dn = s.dn,
                           .dr = s.dr,
                           .dv = s.dv,
                           .scale = static_cast<float>(c.SoftmaxScale()),
                           .compute = env.compute});
    }
    kernels::AttentionBackward(env.ctx, env.arena, sequences);
    const kernels::LinearBackwardTerm term = GradientTerm(env, {"self_attn.kv_b_proj", "gradient"}, dexpanded, t, w);
    const kernels::LinearBackwardInputJob input{
        .dx = dlatent, .ldx = s.r, .m = t, .terms = std::span(&term, 1), .accumulate = h > 0};
    kernels::LinearBackwardInput(env.ctx, env.arena, std::span(&input, 1), env.compute);
    kernels::LinearBackwardWeightJob weight = WeightGradient(env, g, dexpanded, kv, t);
    weight.ldx = width;
    kernels::LinearBackwardWeight(env.ctx, env.arena, std::span(&weight, 1), ComputeOf(env, w));
  }
}

}  // namespace

void MlaBackward(const Env& env, const ModelConfig& c, const AttentionParams& p, const AttentionParams& grads,
                 const RopeTable& rope, const Step& step, const int32_t* positions, const MlaSaved& saved,
                 const float* x, const float* dy, float* dx) {
  ArenaScope scope(env.arena);
  const Shapes s(c);
  const int64_t t = step.tokens(), d = c.hidden_size, dim = s.dn + s.dr, width = s.r + s.dr;
  const int64_t rq = c.q_lora_rank.value_or(0);
  float* q_n = env.arena.Take<float>(t * rq);
  float* q = env.arena.Take<float>(t * s.h * dim);
  float* kv = env.arena.Take<float>(t * width);
  if (c.q_lora_rank) env.Norm(q_n, saved.q_a, t, p.q_a_layernorm, c.rms_norm_eps);
  env.Linear(q, c.q_lora_rank ? q_n : x, t, c.q_lora_rank ? p.q_b_proj : p.q_proj);
  Rotate(env, rope, positions, t, q + s.dn, s.h * dim, dim, s.h, s.dr);
  MakeLatents(env, c, p, rope, positions, t, saved.kv_a, kv);
  const float* out = saved.out;
  if (env.compute == Compute::kFp8) {
    // The latent cache that forward read holds bf16, of which FP8 makes other codes than of float32.
    Round(env, kv, t * width);
    float* unpacked = env.arena.Take<float>(t * s.h * s.dv);
    UnpackRows(env, saved.packed_out, unpacked);
    out = unpacked;
  }

  float* dout = env.arena.Take<float>(t * s.h * s.dv);
  float* dq = env.arena.Take<float>(t * s.h * dim);
  float* dlatent = env.arena.Take<float>(t * s.r);
  float* dk_rope = env.arena.Take<float>(t * s.dr);
  if (!env.planning()) std::fill_n(dk_rope, t * s.dr, 0.0f);
  const auto backward_input = [&](float* to, int64_t ld, std::initializer_list<kernels::LinearBackwardTerm> terms) {
    const kernels::LinearBackwardInputJob job{
        .dx = to, .ldx = ld, .m = t, .terms = std::span(terms.begin(), terms.size())};
    kernels::LinearBackwardInput(env.ctx, env.arena, std::span(&job, 1), env.compute);
  };
  const auto gradient = [&](const char* name, const float* of, const Weight& w) {
    return GradientTerm(env, {name, "gradient"}, of, t, w);
  };
  backward_input(dout, s.h * s.dv, {gradient("self_attn.o_proj", dy, p.o_proj)});
  FullFormBackward(env, c, p, grads, step, saved, out, kv, q, dout, dq, dlatent, dk_rope);
  Rotate(env, rope, positions, t, dq + s.dn, s.h * dim, dim, s.h, s.dr, true);
  Rotate(env, rope, positions, t, dk_rope, s.dr, s.dr, 1, s.dr, true);

  // The norms of the two latents.
  float* dkv_a = env.arena.Take<float>(t * width);
  const auto norm_backward = [&](float* to, int64_t ldto, const float* from, int64_t ldfrom, const float* input,
                                 int64_t ldinput, const Weight& w, const Weight& g) {
    kernels::RmsNormBackward(env.ctx, env.arena,
                             {.dx = to,
                              .lddx = ldto,
                              .dw = Gradient(g),
                              .dy = from,
                              .lddy = ldfrom,
                              .x = input,
                              .ldx = ldinput,
                              .rows = t,
                              .n = w.cols,
                              .weight = w.data,
                              .weight_dtype = w.dtype,
                              .eps = static_cast<float>(c.rms_norm_eps)});
  };
  norm_backward(dkv_a, width, dlatent, s.r, saved.kv_a, width, p.kv_a_layernorm, grads.kv_a_layernorm);
  if (!env.planning()) {
    for (int64_t i = 0; i < t; ++i) std::copy_n(dk_rope + i * s.dr, s.dr, dkv_a + i * width + s.r);
  }
  std::vector<kernels::LinearBackwardWeightJob> weights = {WeightGradient(env, grads.o_proj, dy, out, t),
                                                           WeightGradient(env, grads.kv_a_proj_with_mqa, dkv_a, x, t)};
  const kernels::LinearBackwardTerm from_kv = gradient("self_attn.kv_a_proj_with_mqa", dkv_a, p.kv_a_proj_with_mqa);
  if (c.q_lora_rank) {
    float* dq_a = env.arena.Take<float>(t * rq);
    backward_input(dq_a, rq, {gradient("self_attn.q_b_proj", dq, p.q_b_proj)});
    weights.push_back(WeightGradient(env, grads.q_b_proj, dq, q_n, t));
    norm_backward(dq_a, rq, dq_a, rq, saved.q_a, rq, p.q_a_layernorm, grads.q_a_layernorm);
    weights.push_back(WeightGradient(env, grads.q_a_proj, dq_a, x, t));
    backward_input(dx, d, {from_kv, gradient("self_attn.q_a_proj", dq_a, p.q_a_proj)});
  } else {
    weights.push_back(WeightGradient(env, grads.q_proj, dq, x, t));
    backward_input(dx, d, {from_kv, gradient("self_attn.q_proj", dq, p.q_proj)});
  }
  kernels::LinearBackwardWeight(env.ctx, env.arena, weights, ComputeOf(env, p.o_proj));
}

}  // namespace fathom::model
