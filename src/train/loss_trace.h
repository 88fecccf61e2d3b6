// Losses, gradients and optimiser steps on given sequences, without data or recipe: for comparing implementations.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/objective.h"
#include "train/optimizer.h"

namespace fathom::train {

struct LossTraceOptions {
  model::Compute compute = model::Compute::kF32;  // kF32 or kBf16
  model::Recompute recompute = model::Recompute::kPaper;
  double mtp_loss_weight = 0.3;  // lambda
  double aux_loss_alpha = 1e-4;
  int64_t steps = 0;  // 0: losses and gradients only
  AdamwOptions adamw = {.lr = 1e-3};
  double bias_update_speed = 1e-3;  // gamma
};

struct LossTrace {
  // loss.{main,mtp,balance,total} (1,): averages over the sequences, before any step; balance unscaled, summed over the
  // layers. With steps: steps.{main,mtp,balance,total,grad_norm} (N,), before each step, the norm before clipping.
  std::map<std::string, std::vector<float>> values;
  // Without steps: the gradients of the averaged total loss. The router bias has none, and the MTP layers' copies of
  // embedding and head are not parameters.
  std::unique_ptr<ParamStore> store;
};

// sequences: each T + 1 ids, T of its own. Throws Error for ids out of range or a sequence of fewer than two.
LossTrace TraceLoss(Context& ctx, const model::ModelConfig& config, const model::ModelParams& params,
                    const std::vector<std::vector<int32_t>>& sequences, const LossTraceOptions& options);

}  // namespace fathom::train
