// What training minimises (V3 report 2.1.2, 2.2): next-token cross-entropy, multi-token prediction, sequence-wise
// balance loss, and one forward and backward pass over some sequences of a batch.
#pragma once

#include <span>
#include <vector>

#include "model/transformer.h"

namespace fathom::model {

// S sequences of T + 1 ids: T inputs and the T ids after them. With `isolate`, documents begin at starts[s] (0 is
// implied; T, if the last target begins one): none sees another, positions begin at 0 in each, and no position predicts
// across a boundary.
struct TrainSequences {
  std::span<const int32_t> ids;  // (S, T + 1)
  int64_t sequences = 0;
  int64_t length = 0;  // T
  bool isolate = false;
  std::span<const std::vector<int32_t>> starts = {};  // (S,)
  std::span<const uint8_t> learned = {};              // beside ids: whether an id may be a target; empty: all are
};

// Predictions of a batch: of the main model, and of each MTP depth.
struct TargetCounts {
  int64_t main = 0;
  std::vector<int64_t> mtp;
  void Add(const TargetCounts& other);
};
TargetCounts CountTargets(const TrainSequences& batch, int64_t mtp_depth);

// The loss of a whole batch is
//   sum main / N + lambda / D sum over depths of (sum mtp_k / N_k) + alpha / S sum balance
// of which a pass over part of its sequences makes a share.
struct ObjectiveScale {
  TargetCounts targets;        // N, N_k of the whole batch
  int64_t sequences = 0;       // S of the whole batch
  double mtp_loss_weight = 0;  // lambda
  double aux_loss_alpha = 0;   // alpha
};

// Sums of a pass, to be added up over the passes of a batch.
struct ObjectiveSums {
  double main = 0;                // sums of cross-entropies (nats)
  std::vector<double> mtp;        // by depth
  double balance = 0;             // sum over sequences and layers of sum f P
  std::vector<int64_t> accepted;  // by depth: where its most likely token is the main model's for the same place
  std::vector<int64_t> compared;
  double forward_seconds = 0, head_seconds = 0, backward_seconds = 0;  // head: with its loss and gradients
  std::vector<std::vector<int64_t>> load;  // (layer, E); MTP blocks after the main ones, dense layers empty
  void Add(const ObjectiveSums& other);
};
struct Losses {
  double main = 0, mtp = 0, balance = 0, total = 0;
  std::vector<double> mtp_depth;
};
Losses LossesOf(const ObjectiveSums& sums, const ObjectiveScale& scale);

// Forward and backward: gradients of this share of the batch's loss are added to `grads` (null: loss only). Scratch
// from `arena`, what is kept between the passes from `tape`.
struct ObjectiveArgs {
  const TrainSequences* batch = nullptr;
  const ObjectiveScale* scale = nullptr;
  const ModelParams* grads = nullptr;
  Recompute recompute = Recompute::kPaper;
  Compute compute = Compute::kF32;
  bool dy_blocks = false;  // kFp8: activation gradients in blocks of 128x128
  const WatchFn* watch = nullptr;
  Fp8GradientErrors* gradient_errors = nullptr;
};
ObjectiveSums ForwardBackward(const Transformer& transformer, Context& ctx, Arena& arena, Arena& tape,
                              const ObjectiveArgs& args);

// Bytes of the two arenas for passes over `sequences` sequences of `length` tokens.
struct ObjectivePlan {
  int64_t arena = 0, tape = 0;
};
ObjectivePlan PlanObjective(const Transformer& transformer, Context& ctx, const ModelParams& grads, int64_t sequences,
                            int64_t length, Recompute recompute, Compute compute);

}  // namespace fathom::model
