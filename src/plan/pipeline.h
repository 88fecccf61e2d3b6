// Pipeline schedules as lists of steps, the time they take and what stays alive (V3 report 3.2.1, table 2).
//
// Pure: a schedule is data. Communication takes no time here; the forward pass of a stage takes F, its backward pass B,
// of which W is for the weights' gradients, and a forward and a backward pass that overlap take FB.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "train/parallel_recipe.h"

namespace fathom::plan {

using train::PipelineSchedule;

enum class OpKind : uint8_t {
  kForward,
  kBackward,       // whole
  kBackwardInput,  // gradients of activations only; those of weights are put off
  kBackwardWeight,
  kOverlapped,  // a forward and a whole backward pass side by side
};

// Direction 0 enters at rank 0, direction 1 at the last rank. Micro-batches count from 0 in each direction.
struct PassOf {
  int64_t direction = 0, micro_batch = 0;
};
struct Op {
  OpKind kind = OpKind::kForward;
  PassOf forward;   // kForward, kOverlapped
  PassOf backward;  // the others
};

// What rank `rank` of `ranks` does with `micro_batches` of them, in order. DualPipe: as deepseek-ai/DualPipe
// (dualpipe.py) has it; ranks even, micro_batches even and at least 2 * ranks. ZB1P: the schedule ZB-H1 of Qi et al.
// (arXiv 2401.10241), which needs no more memory than 1F1B.
std::vector<Op> Steps(PipelineSchedule schedule, int64_t ranks, int64_t micro_batches, int64_t rank);
// "F0 F1 Bi1 W1 F1 FB01": by direction, for people and tests.
std::string ToString(const std::vector<Op>& steps);

struct PassTimes {
  double f = 1, b = 2, w = 1, fb = 3;
};

struct TimedOp {
  Op op;
  double begin = 0, end = 0;
};
struct Timeline {
  std::vector<std::vector<TimedOp>> ranks;
  double end = 0;
  std::vector<double> idle;  // (ranks,): end less what the rank worked
  // (ranks,): micro-batches alive in each direction where the sum of their weights is greatest. A micro-batch is alive
  // from its forward pass to the end of its backward pass, W included.
  std::vector<std::array<int64_t, 2>> alive;
};
// weights (ranks,): of a micro-batch of each direction at each rank, its bytes say; empty: 1.
Timeline Simulate(PipelineSchedule schedule, int64_t ranks, int64_t micro_batches, const PassTimes& times,
                  const std::vector<std::array<double, 2>>& weights = {});

// Time that every device waits: (P-1)(F+B), (P-1)(F+B-2W), (P/2-1)(FB+B-3W).
double Bubble(PipelineSchedule schedule, int64_t ranks, const PassTimes& times);
const char* BubbleFormula(PipelineSchedule schedule);
// What the schedule needs, rounded up to what it can run.
int64_t LeastMicroBatches(PipelineSchedule schedule, int64_t ranks);

}  // namespace fathom::plan
