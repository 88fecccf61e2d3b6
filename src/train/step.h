// The arithmetic of a training step: a batch cut into micro-batches, gradients accumulated, in planned memory.
#pragma once

#include <cstdint>
#include <string>
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

  // Losses of the batch; its gradients are added to the store's. errors: those of the first micro-batch are added.
  StepResult ForwardBackward(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha,
                             model::Fp8GradientErrors* errors = nullptr);
  // Runs the batch again, adding to the gradients, and names the first activation or gradient of one that holds a NaN
  // or an infinity: "layers.3.mlp.experts.5.down_proj gradient". Empty: there is none.
  std::string FirstNonFinite(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha);
  // Losses only.
  StepResult Evaluate(const model::TrainSequences& batch);

  const model::Transformer& transformer() const { return transformer_; }
  int64_t bytes() const { return arena_.Capacity() + tape_.Capacity(); }
  int64_t overflows() const { return arena_.Overflows() + tape_.Overflows(); }
  int64_t tape_bytes() const { return tape_.Capacity(); }  // of them, what waits for the backward pass
  // What would wait in arithmetic of `compute`, by the store's gradients.
  static int64_t PlanTapeBytes(Context& ctx, const model::ModelConfig& config, const ParamStore& store,
                               int64_t micro_batch, int64_t length, model::Recompute recompute, model::Compute compute);
  // What the two arenas would take.
  static int64_t PlanBytes(Context& ctx, const model::ModelConfig& config, const ParamStore& store, int64_t micro_batch,
                           int64_t length, model::Recompute recompute);

 private:
  StepRunner(Context& ctx, const model::ModelConfig& config, ParamStore& store, int64_t micro_batch, int64_t length,
             model::Recompute recompute, const model::ObjectivePlan& plan);
  struct Extras {
    bool backward = true;
    model::Fp8GradientErrors* errors = nullptr;
    const model::WatchFn* watch = nullptr;
  };
  StepResult Run(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha,
                 const Extras& extras);

  Context& ctx_;
  ParamStore& store_;
  int64_t micro_batch_;
  model::Recompute recompute_;
  model::Transformer transformer_;
  Arena arena_, tape_;
};

}  // namespace fathom::train
