// Measuring training steps of a model: random tokens, forward, backward and AdamW, the arithmetic peak between steps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/peak.h"
#include "train/param_store.h"

namespace fathom::cli {

struct TrainBenchPlan {
  int64_t sequences = 8, length = 512;  // of a step
  int64_t micro_batch = 8;
  bool full_recompute = false;
  std::string moments = "fp32";  // or bf16
  double seconds = 30;           // of measuring; five steps at least
};

struct TrainBenchResult {
  int64_t steps = 0;
  double seconds = 0;  // median of a step, and of its phases:
  double forward_seconds = 0, head_seconds = 0, backward_seconds = 0, optimizer_seconds = 0;
  double tokens_per_s = 0, mfu = 0;
  double flops_per_token = 0;
  kernels::Peaks peaks;
  std::string peak_unit;
  double peak_tera_per_s = 0;
  int64_t program_bytes = 0, store_bytes = 0, work_bytes = 0;  // the plan
  int64_t peak_bytes = 0;                                      // what the system saw
  int64_t overflows = 0;
  int64_t planned_bytes() const { return program_bytes + store_bytes + work_bytes; }
};

// Weights are random, whatever `params` the model has: the arithmetic does not depend on them. Throws Error where the
// memory does not suffice.
TrainBenchResult RunTrainBench(Context& ctx, const model::ModelConfig& config, model::Compute compute,
                               const TrainBenchPlan& plan, const std::function<void(const std::string&)>& on_case);

}  // namespace fathom::cli
