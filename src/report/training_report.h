// The report of a training run, made from its metrics.jsonl (docs/report.md has the keys of a row).
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "report/html.h"

namespace fathom::report {

// What the rows do not say.
struct TrainingNotes {
  std::string title = "Training run", subtitle;
  std::vector<Fact> facts;               // shown after those that the rows give
  std::vector<std::string> layer_names;  // of the layers that have routed experts, in the rows' order; may be empty
  std::vector<TextBlock> samples;
  std::vector<TextBlock> texts;  // at the end: the recipe, ...
};

// Reads rows as they come and keeps what the charts need: 16 bytes a number, and of expert loads a few hundred rows.
class TrainingReport {
 public:
  void Add(const nlohmann::json& row);
  Report Make(const TrainingNotes& notes) const;

 private:
  struct Column {
    std::vector<double> x, y;
  };
  // Of keys that hold an array: a column for each place.
  using Columns = std::vector<Column>;
  struct Loads {
    double step = 0;
    std::vector<std::vector<float>> share;  // (layers, experts)
  };

  const Column* Find(const std::string& key) const;
  const Columns* FindAll(const std::string& key) const;
  void AddScalar(const std::string& key, double step, const nlohmann::json& value);
  void AddLoads(double step, const nlohmann::json& value);
  std::vector<Fact> Facts() const;
  LineChart Chart(const std::string& title, const std::string& y_label) const;
  std::vector<double> Mean(const Column& column) const;
  void AddCurve(LineChart& chart, const Column* column, const std::string& name, bool smooth) const;
  Section LossSection() const;
  Section ScheduleSection() const;
  Section SpeedSection() const;
  Section BalanceSection(const TrainingNotes& notes) const;
  HeatMap MaxVioMap(const Columns& layers) const;
  std::vector<HeatMap> LoadMaps(const TrainingNotes& notes) const;

  std::vector<std::pair<std::string, Column>> scalars_;
  std::vector<std::pair<std::string, Columns>> arrays_;
  std::vector<Loads> loads_;
  int64_t load_rows_ = 0, load_stride_ = 1;
  std::vector<Mark> marks_;
  std::set<double> skipped_;  // steps
  int64_t resumed_ = 0;
};

// The report's HTML for a run's metrics.jsonl. Throws Error where the file cannot be read.
std::string TrainingReportHtml(const std::string& metrics_path, const TrainingNotes& notes);

}  // namespace fathom::report
