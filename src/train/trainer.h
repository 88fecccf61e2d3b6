// A training run: data, steps, metrics, checkpoints, validation, the exported model at its end.
//
//   RUN/recipe.toml            the recipe as it runs, defaults written out
//   RUN/metrics.jsonl          a row a step (docs/report.md)
//   RUN/tensorboard/           events
//   RUN/checkpoints/step-N/    full state (docs/training-state.md)
//   RUN/report.html            drawn anew with every checkpoint
//   RUN/final/, RUN/final-ema/ the model in the Hugging Face layout
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/context.h"
#include "train/recipe.h"

namespace fathom::train {

// What a run says while it works. All are called on the thread that runs it, and may be empty.
struct RunEvents {
  std::function<void(const std::string& line)> on_info;     // what was planned, saved, resumed
  std::function<void(const std::string& line)> on_warning;  // corpus, damaged checkpoints, skipped steps
  // After a step: its row of metrics, steps done and to do, seconds since the run began here.
  std::function<void(const nlohmann::json& row, int64_t step, int64_t steps, double seconds)> on_step;
  std::function<bool()> should_stop;  // asked between steps: the state is saved and the run ends
};

struct RunResult {
  bool finished = false;  // else it was asked to stop
  int64_t step = 0;
  std::string final_dir;  // if finished
};

// Runs a recipe in `out_dir` to its end, or goes on with what is there if `resume`. Throws Error: an out_dir that is
// not empty without `resume`, a recipe that differs from the run's where it must not, memory that does not suffice
// (with what would), data or checkpoints that cannot be read or written, bad steps in a row. Whatever is thrown, the
// last checkpoint holds.
RunResult RunTraining(Context& ctx, const Recipe& recipe, const std::string& out_dir, bool resume,
                      const RunEvents& events);

}  // namespace fathom::train
