#include "plan/memory.h"

#include <algorithm>

#include "plan/flops.h"

namespace fathom::plan {
namespace {

using train::Precision;

constexpr double kF32 = 4, kBf16 = 2;
constexpr double kFp8Weight = 1 + 4.0 / (128 * 128);  // a float32 scale a block of 128 x 128
constexpr double kFp8Tile = 1 + 4.0 / 128;            // a scale a tile of 128
constexpr double kFp8PowerTile = 1 + 1.0 / 128;       // its exponent alone
constexpr double kE5M6Tile = 1.5 + 1.0 / 128;
constexpr double kLogitRows = 512,
                 kLogitBytes = 32 << 20;  // the head's logits at a time, at most (model/objective.cpp)

bool Many(const Layout& layout) { return layout.parallel.devices() > 1; }

// Values of a stage by what becomes of them.
struct Values {
  double linear = 0;    // projections, shared and dense feed-forwards: FP8 in FP8 runs
  double experts = 0;   // routed, on this device
  double matrices = 0;  // head, eh_proj
  double embedding = 0;
  double small = 0;  // gate and norms: float32 always
  double bias = 0;   // no gradient, no moments
  void Add(const Values& o) {
    linear += o.linear;
    experts += o.experts;
    matrices += o.matrices;
    embedding += o.embedding;
    small += o.small;
    bias += o.bias;
  }
};

Values ValuesOf(const model::ModelConfig& c, const Layout& layout, const Chunk& chunk) {
  Values v;
  const double table = D(c.vocab_size) * D(c.hidden_size);
  for (int64_t layer = chunk.first; layer < chunk.last; ++layer) {
    const LayerSize s = SizeOfLayer(c, layer);
    v.linear += D(s.attention + s.feed_forward);
    v.experts += D(s.expert * s.experts / layout.parallel.expert);
    v.matrices += D(s.join);
    v.small += D(s.gate + s.norms);
    v.bias += D(s.bias);
  }
  if (chunk.embedding) v.embedding += table;
  if (!chunk.head) return v;
  v.matrices += table;
  v.small += D(c.hidden_size);
  // MTP modules read the embedding: their device has it if it is the first stage's too.
  if (c.num_nextn_predict_layers > 0 && !chunk.embedding && !layout.both_ends()) v.embedding += table;
  return v;
}

void AddState(const Values& v, const Layout& layout, const MemoryArgs& args, DeviceMemory& m) {
  const train::ParallelRecipe& p = layout.parallel;
  const double group = D(p.data * p.context * layout.copies());
  const double spread = p.zero > 0 ? group : 1, spread_experts = p.zero > 0 ? group / D(p.expert) : 1;
  // Where masters are spread, even what is computed in float32 needs a copy.
  const bool copies = spread > 1;
  const double linear = v.linear + v.experts;
  if (args.precision == Precision::kFp32) {
    if (copies) m.weights_f32 += kF32 * (linear + v.matrices + v.embedding + v.small + v.bias);
  } else {
    (args.precision == Precision::kFp8 ? m.weights_fp8 : m.weights_bf16) +=
        linear * (args.precision == Precision::kFp8 ? kFp8Weight : kBf16);
    m.weights_bf16 += kBf16 * (v.matrices + (copies ? v.embedding : 0));
    if (copies) m.weights_f32 += kF32 * (v.small + v.bias);
  }
  const double rest = v.linear + v.matrices + v.embedding + v.small;
  m.gradients += kF32 * (rest + v.experts);
  m.masters += kF32 * ((rest + v.bias) / spread + v.experts / spread_experts);
  m.moments += 2 * D(args.moment_bytes) * (rest / spread + v.experts / spread_experts);
  if (args.ema) m.ema += kF32 * (rest / spread + v.experts / spread_experts);
}

double Workspace(const model::ModelConfig& c, const Layout& layout, const MemoryArgs& args, const Chunk& chunk) {
  const double tokens = D(args.micro_batch * args.length) / D(layout.parallel.context);
  const double value = Many(layout) ? kBf16 : kF32, d = D(c.hidden_size);
  // Queries, keys and values of all heads, their gradients; a layer's input and output with theirs.
  double widest = 2 * D(c.num_attention_heads * (2 * c.qk_head_dim() + c.v_head_dim)) + 4 * d;
  for (int64_t layer = chunk.first; layer < chunk.last; ++layer) {
    // Rows that experts gave and their gradients, or SwiGLU's input and output of a dense layer.
    const double rows = c.IsMoe(layer) ? 2 * D(c.num_experts_per_tok) * d : 3 * D(c.intermediate_size);
    widest = std::max(widest, 4 * d + rows);
  }
  double bytes = tokens * widest * value;
  if (layout.parallel.context > 1) bytes += D(args.micro_batch * args.length) * D(c.cache_width()) * kBf16;
  if (chunk.head) {
    const double row = D(c.vocab_size) * kF32;
    bytes += std::min(tokens, Many(layout) ? kLogitRows : std::clamp(kLogitBytes / row, 16.0, kLogitRows)) * row;
  }
  if (args.recompute == model::Recompute::kFull) {
    MemoryArgs paper = args;
    paper.recompute = model::Recompute::kPaper;
    double most = 0;
    for (int64_t layer = chunk.first; layer < chunk.last; ++layer) {
      const Kept kept = KeptByToken(c, layout, paper, layer);
      most = std::max(most, kept.activations + kept.cache);
    }
    bytes += tokens * most;
  }
  return bytes;
}

}  // namespace

Kept KeptByToken(const model::ModelConfig& c, const Layout& layout, const MemoryArgs& args, int64_t layer) {
  const bool many = Many(layout), fp8 = args.precision == Precision::kFp8, moe = c.IsMoe(layer);
  const double value = many ? kBf16 : kF32, d = D(c.hidden_size);
  const double residual = fp8 ? kBf16 : value;
  Kept kept;
  kept.activations = residual * d;                                      // the residual stream before the layer
  if (layer >= c.num_hidden_layers) kept.activations += value * 2 * d;  // what an MTP module joins
  if (args.recompute == model::Recompute::kFull) return kept;
  const double out = D(c.num_attention_heads * c.v_head_dim);
  kept.activations += residual * d + value * (D(c.q_lora_rank.value_or(0)) + D(c.cache_width()));  // between; latents
  kept.activations += kF32 * D(c.num_attention_heads);                                             // log-sum-exp
  (fp8 ? kept.cache : kept.activations) += out * (fp8 ? kE5M6Tile : value);                        // before o_proj
  const double gated = fp8 ? kFp8Tile : value;                                                     // SwiGLU's inputs
  double& into = fp8 ? kept.cache : kept.activations;
  if (!moe) {
    into += 2 * D(c.intermediate_size) * gated;
    return kept;
  }
  const double k = D(c.num_experts_per_tok);
  kept.activations += kF32 * D(c.n_routed_experts) + 16 * k;  // logits; experts, weights and places
  into += 2 * (k * D(c.moe_intermediate_size) + D(c.shared_intermediate_size())) * gated;
  // Rows that came from other devices are kept; those at home are read where they lie.
  if (layout.parallel.expert > 1) into += k * d * (fp8 ? kFp8PowerTile : value);
  return kept;
}

Kept KeptByStage(const model::ModelConfig& c, const Layout& layout, const MemoryArgs& args, int64_t stage) {
  const Chunk& chunk = layout.chunks[static_cast<size_t>(stage)];
  Kept sum;
  for (int64_t layer = chunk.first; layer < chunk.last; ++layer) {
    const Kept kept = KeptByToken(c, layout, args, layer);
    sum.activations += kept.activations;
    sum.cache += kept.cache;
  }
  if (chunk.head) sum.activations += (Many(layout) ? kBf16 : kF32) * D(c.hidden_size);  // before the final norm
  const double tokens = D(args.micro_batch * args.length) / D(layout.parallel.context);
  return {sum.activations * tokens, sum.cache * tokens};
}

std::vector<DeviceMemory> MemoryOf(const model::ModelConfig& c, const Layout& layout, const MemoryArgs& args,
                                   const std::vector<std::array<int64_t, 2>>& alive) {
  std::vector<DeviceMemory> ranks;
  for (int64_t rank = 0; rank < layout.parallel.pipeline; ++rank) {
    DeviceMemory m;
    Values values;
    const std::vector<int64_t> stages = layout.StagesOf(rank);
    for (size_t direction = 0; direction < stages.size(); ++direction) {
      const Chunk& chunk = layout.chunks[static_cast<size_t>(stages[direction])];
      values.Add(ValuesOf(c, layout, chunk));
      const Kept kept = KeptByStage(c, layout, args, stages[direction]);
      const double count = D(alive[static_cast<size_t>(rank)][direction]);
      m.activations += kept.activations * count;
      m.cache += kept.cache * count;
      m.workspace = std::max(m.workspace, Workspace(c, layout, args, chunk));
    }
    AddState(values, layout, args, m);
    ranks.push_back(m);
  }
  return ranks;
}

}  // namespace fathom::plan
