// What a recipe says about many devices: the layout of its processes and how a plan is reckoned. A run of one process
// trains; other layouts are planned only (docs/plan.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fathom::train {

// V3 report 3.2.1, table 2.
enum class PipelineSchedule : uint8_t { k1F1B, kZB1P, kDualPipe };

// pipeline x data x context devices. The experts of a layer are spread over `expert` of the data x context devices that
// share a pipeline rank.
struct ParallelRecipe {
  int64_t pipeline = 1;  // ranks that the layers are cut into
  int64_t expert = 1;    // devices that share the routed experts of a layer
  int64_t data = 1;      // groups of devices that take other sequences
  int64_t context = 1;   // devices that share each sequence
  int64_t zero = 1;      // 1: masters and moments are spread over the devices that hold the same weights; 0: not
  PipelineSchedule schedule = PipelineSchedule::k1F1B;

  int64_t devices() const { return pipeline * data * context; }
};

enum class PeakKind : uint8_t { kBf16, kFp8, kFp32 };

struct PlanRecipe {
  std::string machine;                  // its file; --machine instead of it
  std::optional<double> mfu;            // without it: the machine's
  PeakKind mfu_peak = PeakKind::kBf16;  // the peak that mfu is a share of
  double device_hours = 0;              // stated: the stage's cost is not reckoned
};

}  // namespace fathom::train
