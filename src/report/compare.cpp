#include "report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/metrics.h"

namespace fathom::report {
namespace {

double NumberAt(const nlohmann::json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_number() ? at->get<double>() : NAN;
}

}  // namespace

RunCurve ReadRunCurve(const std::string& metrics_path, const std::string& name) {
  RunCurve run{.name = name, .x = {}, .loss = {}, .validation = NAN};
  std::vector<double> speeds;
  ForEachRow(metrics_path, [&](const nlohmann::json& row) {
    if (!row.contains("step")) return;
    const double tokens = NumberAt(row, "tokens"), speed = NumberAt(row, "tokens_per_s");
    run.x.push_back(std::isfinite(tokens) ? tokens : NumberAt(row, "step"));
    run.loss.push_back(row.contains("skipped") ? NAN : NumberAt(row, "loss"));
    if (std::isfinite(speed)) speeds.push_back(speed);
    const double validation = NumberAt(row, "val_loss");
    if (std::isfinite(validation)) run.validation = validation;
  });
  if (std::none_of(run.loss.begin(), run.loss.end(), [](double v) { return std::isfinite(v); })) {
    throw Error(metrics_path + " has no loss", fmt::format("{} rows of steps", run.loss.size()),
                "metrics.jsonl of a run that made a step");
  }
  std::sort(speeds.begin(), speeds.end());
  run.tokens_per_s = speeds.empty() ? NAN : speeds[speeds.size() / 2];
  return run;
}

std::vector<double> Ema(const std::vector<double>& values, double decay) {
  std::vector<double> out;
  double mean = NAN;
  for (double v : values) {
    if (std::isfinite(v)) mean = std::isfinite(mean) ? decay * mean + (1 - decay) * v : v;
    out.push_back(mean);
  }
  return out;
}

double TailMean(const std::vector<double>& values, double share) {
  const auto count = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  double sum = 0, n = 0;
  for (size_t i = values.size() - std::min(count, values.size()); i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    sum += values[i];
    n += 1;
  }
  return n > 0 ? sum / n : NAN;
}

LineChart LossCurves(const std::vector<RunCurve>& runs) {
  LineChart chart;
  chart.title = fmt::format("Training loss, running mean (EMA {})", kCompareDecay);
  chart.x_label = "tokens";
  chart.y_label = "loss";
  chart.wide = chart.log_y = true;
  for (const RunCurve& run : runs) {
    Series& s = chart.series.emplace_back();
    s.name = run.name;
    s.x = run.x;
    s.y = Ema(run.loss, kCompareDecay);
  }
  return chart;
}

LineChart LossDifferences(const std::vector<RunCurve>& runs) {
  LineChart chart;
  chart.x_label = "tokens";
  chart.y_label = std::string(1, '%');
  chart.wide = true;
  if (runs.empty()) return chart;
  chart.title = fmt::format("Difference of the running means from {}", runs.front().name);
  const std::vector<double> first = Ema(runs.front().loss, kCompareDecay);
  for (size_t r = 1; r < runs.size(); ++r) {
    const std::vector<double> other = Ema(runs[r].loss, kCompareDecay);
    Series& s = chart.series.emplace_back();
    s.name = runs[r].name;
    s.color = static_cast<int>(r);
    for (size_t i = 0; i < std::min(first.size(), other.size()); ++i) {
      s.x.push_back(runs[r].x[i]);
      s.y.push_back(100 * (other[i] / first[i] - 1));
    }
  }
  return chart;
}

}  // namespace fathom::report
