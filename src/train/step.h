// The arithmetic of a training step: a batch cut into micro-batches, gradients accumulated, in planned memory.
#pragma once

#include <cstdint>
#include <vector>

#include "core/context.h"
#include "model/objective.h"
#include "train/param_store.h"

namespace fathom::train {

struct StepResult {
  model::Losses losses;
  model::ObjectiveSums sums;    // of the whole batch,
  model::TargetCounts targets;  // as these
};

class StepRunner {
 public:
  // Plans and takes the memory of passes over at most `micro_batch` sequences of `length`. `store` outlives this.
  StepRunner(Context& ctx, const model::ModelConfig& config, ParamStore& store, int64_t micro_batch, int64_t length,
             model::Recompute recompute);

  // Losses of the batch; its gradients are added to the store's.
  StepResult ForwardBackward(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha);
  // Losses only.
  StepResult Evaluate(const model::TrainSequences& batch);

  const model::Transformer& transformer() const { return transformer_; }
  int64_t bytes() const { return arena_.Capacity() + tape_.Capacity(); }
  int64_t overflows() const { return arena_.Overflows() + tape_.Overflows(); }
  // What the two arenas would take.
  static int64_t PlanBytes(Context& ctx, const model::ModelConfig& config, const ParamStore& store, int64_t micro_batch,
                           int64_t length, model::Recompute recompute);

 private:
  StepRunner(Context& ctx, const model::ModelConfig& config, ParamStore& store, int64_t micro_batch, int64_t length,
             model::Recompute recompute, const model::ObjectivePlan& plan);
  StepResult Run(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha, bool backward);

  Context& ctx_;
  ParamStore& store_;
  int64_t micro_batch_;
  model::Recompute recompute_;
  model::Transformer transformer_;
  Arena arena_, tape_;
};

}  // namespace fathom::train
