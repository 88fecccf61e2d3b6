// The rows of a run: made from a step's results, written to metrics.jsonl and TensorBoard.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "report/metrics.h"
#include "report/tensorboard.h"
#include "train/recipe.h"
#include "train/step.h"

namespace fathom::train {

struct StepFigures {
  int64_t step = 0, tokens = 0;
  StepValues values;
  const StepResult* result = nullptr;
  double grad_norm = 0, seconds = 0, mfu = 0;
  bool with_load = false;
  model::Fp8GradientErrors gradient_errors = {};  // if measured
  std::string skipped;                            // why, or empty
};

// (load of the busiest expert - mean load) / mean load.
double MaxVio(const std::vector<int64_t>& load);

nlohmann::json MetricsRow(const StepFigures& figures, const ParamStore& store);

class RunLog {
 public:
  // resumed: goes on after that step, which is 0 where nothing was saved.
  RunLog(const std::string& dir, int64_t step, bool resumed, bool tensorboard);
  void Write(const nlohmann::json& row);
  void Flush();
  const std::string& metrics_path() const { return metrics_.path(); }

 private:
  report::MetricsLog metrics_;
  std::unique_ptr<report::TensorBoardWriter> tensorboard_;
};

}  // namespace fathom::train
