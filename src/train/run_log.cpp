#include "train/run_log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "core/machine.h"

namespace fathom::train {
namespace {

using nlohmann::json;

double Share(int64_t part, int64_t all) { return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0; }

}  // namespace

double MaxVio(const std::vector<int64_t>& load) {
  if (load.empty()) return 0;
  const double mean =
      static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0})) / static_cast<double>(load.size());
  const double most = static_cast<double>(*std::max_element(load.begin(), load.end()));
  return mean > 0 ? (most - mean) / mean : 0;
}

json MetricsRow(const StepFigures& f, const ParamStore& store) {
  const model::ObjectiveSums& sums = f.result->sums;
  const model::Losses& losses = f.result->losses;
  json row{{"step", f.step},
           {"tokens", f.tokens},
           {"loss", losses.main},
           {"balance_loss", losses.balance},
           {"lr", f.values.lr},
           {"batch_size", f.values.batch_size},
           {"mtp_loss_weight", f.values.mtp_loss_weight},
           {"bias_update_speed", f.values.bias_update_speed},
           {"grad_norm", f.grad_norm},
           {"step_s", f.seconds},
           {"tokens_per_s", static_cast<double>(f.values.tokens) / f.seconds},
           {"mfu", f.mfu},
           {"memory_bytes", ResidentBytes()}};
  if (!losses.mtp_depth.empty()) {
    row["mtp_loss"] = losses.mtp_depth;
    const auto sum = [](const std::vector<int64_t>& v) { return std::accumulate(v.begin(), v.end(), int64_t{0}); };
    row["mtp_acceptance"] = Share(sum(sums.accepted), sum(sums.compared));
  }
  json vio = json::array(), loads = json::array();
  double least = INFINITY, greatest = -INFINITY;
  for (size_t l = 0; l < sums.load.size(); ++l) {
    const std::vector<int64_t>& load = sums.load[l];
    if (load.empty()) continue;
    vio.push_back(report::Rounded(MaxVio(load), 4));
    if (f.with_load) {
      const int64_t all = std::accumulate(load.begin(), load.end(), int64_t{0});
      json shares = json::array();
      for (int64_t n : load) shares.push_back(report::Rounded(Share(n, all), 4));
      loads.push_back(std::move(shares));
    }
    if (const float* bias = store.RouterBias(static_cast<int64_t>(l))) {
      const auto [low, high] = std::minmax_element(bias, bias + load.size());
      least = std::min<double>(least, *low);
      greatest = std::max<double>(greatest, *high);
    }
  }
  if (!vio.empty()) row["max_vio"] = std::move(vio);
  if (!loads.empty()) row["load"] = std::move(loads);
  if (std::isfinite(least)) {
    row["bias_min"] = least;
    row["bias_max"] = greatest;
  }
  if (f.gradient_errors.tensors > 0) {
    const auto count = static_cast<double>(f.gradient_errors.tensors);
    row["fp8/dy_error_1x128"] = report::Rounded(f.gradient_errors.tiles / count, 5);
    row["fp8/dy_error_128x128"] = report::Rounded(f.gradient_errors.blocks / count, 5);
  }
  if (!f.skipped.empty()) row["skipped"] = f.skipped;
  return row;
}

RunLog::RunLog(const std::string& dir, int64_t step, bool resumed, bool tensorboard)
    : metrics_(resumed ? report::MetricsLog::Resume((std::filesystem::path(dir) / "metrics.jsonl").string(), step)
                       : report::MetricsLog::Create((std::filesystem::path(dir) / "metrics.jsonl").string())) {
  if (tensorboard) {
    tensorboard_ = std::make_unique<report::TensorBoardWriter>((std::filesystem::path(dir) / "tensorboard").string(),
                                                               resumed ? step + 1 : 0);
  }
}

void RunLog::Write(const json& row) {
  metrics_.Append(row);
  if (!tensorboard_ || !row.contains("step")) return;
  const int64_t step = row["step"];
  for (const auto& [key, value] : row.items()) {
    if (key == "step" || key == "load") continue;
    if (value.is_number()) tensorboard_->Scalar(step, key, value.get<double>());
    for (size_t i = 0; value.is_array() && i < value.size(); ++i) {
      if (value[i].is_number()) tensorboard_->Scalar(step, key + "/" + std::to_string(i), value[i].get<double>());
    }
  }
}

void RunLog::Flush() {
  if (tensorboard_) tensorboard_->Flush();
}

}  // namespace fathom::train
