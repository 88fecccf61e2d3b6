#include "model/objective.h"

#include <algorithm>
#include <utility>

#include "core/stopwatch.h"
namespace fathom::model {
namespace {

constexpr int64_t kLogitBytes = int64_t{32} << 20;  // of logits that exist at once
constexpr int64_t kLogitRows = 512;                 // at most

// A piece of a sequence that is seen as a whole: a document where they are isolated, else all of it.
struct Piece {
  int64_t sequence, begin, end;  // inputs [begin, end) of T
  bool last_target;              // whether input end - 1 predicts the id after it
};

std::vector<Piece> PiecesOf(const TrainSequences& batch) {
  std::vector<Piece> pieces;
  const int64_t t = batch.length;
  for (int64_t s = 0; s < batch.sequences; ++s) {
    int64_t begin = 0;
    if (batch.isolate) {
      for (int32_t start : batch.starts[static_cast<size_t>(s)]) {
        FATHOM_CHECK(start >= begin && start <= t);
        if (start == begin) continue;
        pieces.push_back({s, begin, start, false});
        begin = start;
      }
    }
    if (begin < t) pieces.push_back({s, begin, t, true});
  }
  return pieces;
}

// The rows of depth k (0: the main model): input i of a piece is id i + k, its target id i + k + 1, or -1 at the end of
// a document. `from`: the row of depth 0 at the same place.
struct Rows {
  std::vector<int32_t> ids, targets;
  std::vector<int64_t> from;
  std::vector<SequenceSlice> slices;
  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  Step step() const { return {ids, slices}; }
};

Rows RowsOf(const TrainSequences& batch, std::span<const Piece> pieces, int64_t depth) {
  Rows rows;
  int64_t row0 = 0;
  for (const Piece& p : pieces) {
    const int32_t* ids = batch.ids.data() + p.sequence * (batch.length + 1);
    const int64_t n = p.end - p.begin - depth;
    if (n > 0) {
      rows.slices.push_back({.row = rows.size(), .tokens = n, .position = 0, .sequence = p.sequence, .caches = {}});
      for (int64_t i = p.begin; i < p.begin + n; ++i) {
        const size_t target = static_cast<size_t>(p.sequence * (batch.length + 1) + i + depth + 1);
        const bool predicts =
            (i + depth + 1 < p.end || p.last_target) && (batch.learned.empty() || batch.learned[target] != 0);
        rows.ids.push_back(ids[i + depth]);
        rows.targets.push_back(predicts ? ids[i + depth + 1] : -1);
        rows.from.push_back(row0 + i - p.begin);
      }
    }
    row0 += p.end - p.begin;
  }
  return rows;
}

int64_t Targets(const Rows& rows) {
  return std::count_if(rows.targets.begin(), rows.targets.end(), [](int32_t t) { return t >= 0; });
}

// Latent caches of the slices: each layer writes and reads them within its call, so one is enough for all.
class StepCaches {
 public:
  StepCaches(const Env& env, const Transformer& transformer, Rows* rows) {
    const ModelConfig& c = transformer.config();
    const DType dtype = CoreType(env.compute);
    const int64_t width = c.kv_lora_rank + c.qk_rope_head_dim, row_bytes = width * SizeOf(dtype);
    std::byte* data = env.arena.Take<std::byte>(rows->size() * row_bytes);
    blocks_.resize(rows->slices.size());
    caches_.resize(rows->slices.size());
    for (size_t i = 0; i < blocks_.size() && !env.planning(); ++i) {
      SequenceSlice& slice = rows->slices[i];
      blocks_[i] = data + slice.row * row_bytes;
      const kernels::LatentCache cache{
          .blocks = &blocks_[i], .block_tokens = slice.tokens, .dtype = dtype, .width = width};
      caches_[i].assign(static_cast<size_t>(transformer.cache_layers()), cache);
      slice.caches = caches_[i];
    }
  }

 private:
  std::vector<std::byte*> blocks_;
  std::vector<std::vector<kernels::LatentCache>> caches_;
};

// Which of `before` (of depth k - 1) each of the rows of depth k is; a subset in the same order.
std::vector<int64_t> PlacesIn(const Rows& before, const Rows& rows) {
  std::vector<int64_t> places(rows.from.size());
  for (size_t i = 0, j = 0; i < places.size(); ++i, ++j) {
    while (before.from[j] != rows.from[i]) ++j;
    places[i] = static_cast<int64_t>(j);
  }
  return places;
}

// Copies rows: to (n, d) = from[index] or, with `add`, from[index] += to's rows.
void Gather(const Env& env, float* to, const float* from, std::span<const int64_t> index, int64_t d) {
  if (env.planning()) return;
  env.ctx.pool.ParallelFor(static_cast<int64_t>(index.size()), [&](int64_t i, int) {
    std::copy_n(from + index[static_cast<size_t>(i)] * d, d, to + i * d);
  });
}
void ScatterAdd(const Env& env, float* to, const float* from, std::span<const int64_t> index, int64_t d) {
  if (env.planning()) return;
  env.ctx.pool.ParallelFor(static_cast<int64_t>(index.size()), [&](int64_t i, int) {
    float* row = to + index[static_cast<size_t>(i)] * d;
    for (int64_t j = 0; j < d; ++j) row[j] += from[i * d + j];
  });
}

// The sum of cross-entropies of the head over normed (rows, d), some rows at a time, so that no (rows, V) buffer
// exists. With grads: dnormed (rows, d) assigned, the head's gradient added. argmax (rows,).
double HeadLoss(const Env& env, const Transformer& transformer, const float* normed, std::span<const int32_t> targets,
                double scale, const ModelParams* grads, float* dnormed, int32_t* argmax) {
  ArenaScope scope(env.arena);
  const ModelConfig& c = transformer.config();
  const int64_t rows = static_cast<int64_t>(targets.size()), v = c.vocab_size, d = c.hidden_size;
  const int64_t chunk = std::min(rows, std::clamp<int64_t>(kLogitBytes / (v * 4), 16, kLogitRows));
  float* logits = env.arena.Take<float>(chunk * v);
  float* losses = env.arena.Take<float>(rows);
  const Weight& head = transformer.params().lm_head;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t n = std::min(chunk, rows - begin);
    transformer.Head(env, normed + begin * d, n, logits);
    env.Watch({"lm_head", "output"}, logits, n, v);
    if (!env.planning()) {
      kernels::CrossEntropy(env.ctx, {.logits = logits,
                                      .losses = losses + begin,
                                      .argmax = argmax + begin,
                                      .targets = targets.data() + begin,
                                      .rows = n,
                                      .vocab = v,
                                      .scale = static_cast<float>(scale)});
    }
    if (!grads) continue;
    const kernels::LinearBackwardTerm term = GradientTerm(env, {"lm_head", "gradient"}, logits, n, head);
    const kernels::LinearBackwardInputJob input{
        .dx = dnormed + begin * d, .ldx = d, .m = n, .terms = std::span(&term, 1)};
    kernels::LinearBackwardInput(env.ctx, env.arena, std::span(&input, 1), env.compute);
    const kernels::LinearBackwardWeightJob weight = WeightGradient(env, grads->lm_head, logits, normed + begin * d, n);
    kernels::LinearBackwardWeight(env.ctx, env.arena, std::span(&weight, 1), ComputeOf(env, head));
  }
  double sum = 0;
  for (int64_t i = 0; i < rows && !env.planning(); ++i) sum += losses[i];
  return sum;
}

double Over(double x, int64_t n) { return n > 0 ? x / static_cast<double>(n) : 0; }

}  // namespace

void TargetCounts::Add(const TargetCounts& other) {
  main += other.main;
  mtp.resize(std::max(mtp.size(), other.mtp.size()));
  for (size_t k = 0; k < other.mtp.size(); ++k) mtp[k] += other.mtp[k];
}

TargetCounts CountTargets(const TrainSequences& batch, int64_t mtp_depth) {
  const std::vector<Piece> pieces = PiecesOf(batch);
  TargetCounts counts{.main = Targets(RowsOf(batch, pieces, 0)), .mtp = {}};
  for (int64_t k = 1; k <= mtp_depth; ++k) counts.mtp.push_back(Targets(RowsOf(batch, pieces, k)));
  return counts;
}

void ObjectiveSums::Add(const ObjectiveSums& other) {
  const auto add = [](auto& to, const auto& from) {
    to.resize(std::max(to.size(), from.size()));
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  };
  main += other.main;
  balance += other.balance;
  forward_seconds += other.forward_seconds;
  head_seconds += other.head_seconds;
  backward_seconds += other.backward_seconds;
  add(mtp, other.mtp);
  add(accepted, other.accepted);
  add(compared, other.compared);
  load.resize(std::max(load.size(), other.load.size()));
  for (size_t l = 0; l < other.load.size(); ++l) add(load[l], other.load[l]);
}

Losses LossesOf(const ObjectiveSums& sums, const ObjectiveScale& scale) {
  Losses losses{.main = Over(sums.main, scale.targets.main), .mtp_depth = {}};
  for (size_t k = 0; k < sums.mtp.size(); ++k) {
    losses.mtp_depth.push_back(Over(sums.mtp[k], scale.targets.mtp[k]));
    losses.mtp += losses.mtp_depth.back() / static_cast<double>(sums.mtp.size());
  }
  losses.balance = Over(sums.balance, scale.sequences);
  losses.total = losses.main + scale.mtp_loss_weight * losses.mtp + scale.aux_loss_alpha * losses.balance;
  return losses;
}

ObjectiveSums ForwardBackward(const Transformer& transformer, Context& ctx, Arena& arena, Arena& tape,
                              const ObjectiveArgs& args) {
  ArenaScope scope(arena), tape_scope(tape);
  const ObjectiveScale& scale = *args.scale;
  Training training{.tape = tape,
                    .balance_scale = Over(scale.aux_loss_alpha, scale.sequences),
                    .isolate = args.batch->isolate,
                    .dy_blocks = args.dy_blocks,
                    .watch = args.watch,
                    .gradient_errors = args.gradient_errors};
  const Env env{.ctx = ctx, .arena = arena, .compute = args.compute, .training = &training};
  const int64_t d = transformer.config().hidden_size, depths = transformer.mtp_depth();
  const std::vector<Piece> pieces = PiecesOf(*args.batch);

  // The main model, then each depth on the normed output of the one before.
  std::vector<Rows> rows;
  std::vector<StepCaches> caches;
  rows.reserve(static_cast<size_t>(depths) + 1);  // slices point into the caches, steps into the rows
  caches.reserve(static_cast<size_t>(depths) + 1);
  std::vector<float*> normed, dnormed;  // of each depth, (its rows, d)
  std::vector<int32_t*> argmax;
  ForwardSaved forward{.recompute = args.recompute, .layers = {}};
  std::vector<MtpSaved> mtp(static_cast<size_t>(depths));
  ObjectiveSums sums;
  Stopwatch watch;
  for (int64_t k = 0; k <= depths; ++k) {
    rows.push_back(RowsOf(*args.batch, pieces, k));
    Rows& r = rows.back();
    caches.emplace_back(env, transformer, &r);
    normed.push_back(tape.Take<float>(r.size() * d));
    dnormed.push_back(tape.Take<float>(r.size() * d));
    argmax.push_back(tape.Take<int32_t>(r.size()));
    if (k == 0) {
      transformer.Forward(env, r.step(), &forward);
      transformer.FinalNorm(env, forward.out, r.size(), normed.back());
    } else if (r.size() > 0) {
      const size_t before = static_cast<size_t>(k) - 1;
      float* given = tape.Take<float>(r.size() * d);  // depth k - 1's normed output at the same places
      Gather(env, given, normed[before], PlacesIn(rows[before], r), d);
      MtpSaved& saved = mtp[before];
      saved.recompute = args.recompute;
      transformer.MtpForward(env, k, r.step(), given, &saved);
      transformer.MtpNorm(env, k, saved.out, r.size(), normed.back());
    }
    const double weight = k == 0 ? Over(1, scale.targets.main)
                                 : Over(scale.mtp_loss_weight / static_cast<double>(depths),
                                        scale.targets.mtp.empty() ? 0 : scale.targets.mtp[static_cast<size_t>(k) - 1]);
    sums.forward_seconds += watch.Lap();
    training.layer = -1;
    const double loss =
        HeadLoss(env, transformer, normed.back(), r.targets, weight, args.grads, dnormed.back(), argmax.back());
    (k == 0 ? sums.main : sums.mtp.emplace_back()) = loss;
    sums.head_seconds += watch.Lap();
  }
  sums.balance = training.balance;
  sums.load = std::move(training.load);
  sums.load.resize(static_cast<size_t>(transformer.cache_layers()));
  for (size_t k = 1; k < rows.size() && !env.planning(); ++k) {
    // Depth k at place i and the main model k places further predict the same token.
    int64_t accepted = 0, compared = 0;
    for (size_t i = 0; i < rows[k].ids.size(); ++i) {
      if (rows[k].targets[i] < 0) continue;
      ++compared;
      if (argmax[k][i] == argmax[0][rows[k].from[i] + static_cast<int64_t>(k)]) ++accepted;
    }
    sums.accepted.push_back(accepted);
    sums.compared.push_back(compared);
  }
  if (!args.grads) return sums;

  for (int64_t k = depths; k >= 1; --k) {
    const size_t at = static_cast<size_t>(k);
    const Rows& r = rows[at];
    if (r.size() == 0) continue;
    ArenaScope pass(arena);
    float* dhidden = arena.Take<float>(r.size() * d);
    transformer.MtpNormBackward(env, k, mtp[at - 1].out, dnormed[at], r.size(), dnormed[at], *args.grads);
    transformer.MtpBackward(env, k, r.step(), mtp[at - 1], dnormed[at], dhidden, *args.grads);
    ScatterAdd(env, dnormed[at - 1], dhidden, PlacesIn(rows[at - 1], r), d);
  }
  transformer.FinalNormBackward(env, forward.out, dnormed[0], rows[0].size(), dnormed[0], *args.grads);
  transformer.Backward(env, rows[0].step(), forward, dnormed[0], *args.grads);
  sums.backward_seconds += watch.Lap();
  return sums;
}

ObjectivePlan PlanObjective(const Transformer& transformer, Context& ctx, const ModelParams& grads, int64_t sequences,
                            int64_t length, Recompute recompute, Compute compute) {
  Arena arena = Arena::Planner(), tape = Arena::Planner();
  const std::vector<int32_t> ids(static_cast<size_t>(sequences * (length + 1)));
  const std::vector<std::vector<int32_t>> starts(static_cast<size_t>(sequences));
  // Isolation needs no less memory than its absence.
  const TrainSequences batch{.ids = ids, .sequences = sequences, .length = length, .isolate = true, .starts = starts};
  const ObjectiveScale scale{.targets = CountTargets(batch, transformer.mtp_depth()), .sequences = sequences};
  ForwardBackward(transformer, ctx, arena, tape,
                  {.batch = &batch, .scale = &scale, .grads = &grads, .recompute = recompute, .compute = compute});
  return {.arena = arena.HighWater(), .tape = tape.HighWater()};
}

}  // namespace fathom::model
