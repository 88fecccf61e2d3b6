#include "report/training_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "io/file.h"
#include "report/metrics.h"

namespace fathom::report {
namespace {

using nlohmann::json;

constexpr size_t kMaxLoadRows = 400;  // columns of a load map: no screen shows more
constexpr size_t kMaxMarks = 200;
constexpr size_t kMaxLoadMaps = 12;
constexpr size_t kMaxLines = 8;  // lines of a chart that can be told apart

constexpr std::array<std::string_view, 19> kScalars = {"fp8/dy_error_1x128",
                                                       "fp8/dy_error_128x128",
                                                       "tokens",
                                                       "loss",
                                                       "mtp_acceptance",
                                                       "balance_loss",
                                                       "lr",
                                                       "batch_size",
                                                       "mtp_loss_weight",
                                                       "bias_update_speed",
                                                       "grad_norm",
                                                       "tokens_per_s",
                                                       "mfu",
                                                       "bias_min",
                                                       "bias_max",
                                                       "memory_bytes",
                                                       "step_s",
                                                       "val_loss",
                                                       "ema_val_loss"};
constexpr std::array<std::string_view, 3> kArrays = {"mtp_loss", "max_vio", "val_mtp_loss"};

double Number(const json& value) { return value.is_number() ? value.get<double>() : NAN; }

// The mean of a window around each value: a fiftieth of the run, less where the curve is steep at the beginning; cut
// off at the end. Missing values pass.
std::vector<double> Smoothed(const std::vector<double>& values) {
  const auto n = static_cast<int64_t>(values.size()), widest = std::max<int64_t>(2, n / 100);
  std::vector<double> sums(values.size() + 1), counts(values.size() + 1);
  for (size_t i = 0; i < values.size(); ++i) {
    const bool finite = std::isfinite(values[i]);
    sums[i + 1] = sums[i] + (finite ? values[i] : 0);
    counts[i + 1] = counts[i] + (finite ? 1 : 0);
  }
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t half = std::min(widest, i / 6);
    const auto begin = static_cast<size_t>(i - half), end = static_cast<size_t>(std::min(n, i + half + 1));
    const double count = counts[end] - counts[begin];
    out.push_back(count > 0 ? (sums[end] - sums[begin]) / count : NAN);
  }
  return out;
}

std::vector<double> Finite(const std::vector<double>& values) {
  std::vector<double> out;
  std::copy_if(values.begin(), values.end(), std::back_inserter(out), [](double v) { return std::isfinite(v); });
  return out;
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

bool Varies(const std::vector<double>& values) {
  const std::vector<double> v = Finite(values);
  return !v.empty() && *std::min_element(v.begin(), v.end()) != *std::max_element(v.begin(), v.end());
}

std::string Grouped(double value) {
  const std::string digits = fmt::format("{:.0f}", value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string Duration(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{:.1f} s", seconds);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string LayerName(const TrainingNotes& notes, size_t layer) {
  return layer < notes.layer_names.size() ? notes.layer_names[layer] : fmt::format("MoE layer {}", layer);
}

// `count` numbers below `all`, the first and the last among them.
std::vector<size_t> EvenlyChosen(size_t all, size_t count) {
  std::vector<size_t> chosen(std::min(all, count));
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = chosen.size() < all ? i * (all - 1) / (count - 1) : i;
  return chosen;
}

}  // namespace

const TrainingReport::Column* TrainingReport::Find(const std::string& key) const {
  for (const auto& [name, column] : scalars_) {
    if (name == key) return &column;
  }
  return nullptr;
}

const TrainingReport::Columns* TrainingReport::FindAll(const std::string& key) const {
  for (const auto& [name, columns] : arrays_) {
    if (name == key) return &columns;
  }
  return nullptr;
}

void TrainingReport::AddScalar(const std::string& key, double step, const json& value) {
  Column* column = const_cast<Column*>(Find(key));
  if (column == nullptr) column = &scalars_.emplace_back(key, Column{}).second;
  column->x.push_back(step);
  column->y.push_back(Number(value));
}

// Every load_stride_-th row that has loads is kept; when there are too many, every other one goes.
void TrainingReport::AddLoads(double step, const json& value) {
  if (load_rows_++ % load_stride_ != 0) return;
  Loads loads{step, {}};
  for (const json& layer : value) {
    if (!layer.is_array()) return;
    std::vector<float>& shares = loads.share.emplace_back();
    for (const json& share : layer) shares.push_back(static_cast<float>(Number(share)));
  }
  loads_.push_back(std::move(loads));
  if (loads_.size() <= kMaxLoadRows) return;
  std::vector<Loads> kept;
  for (size_t i = 0; i < loads_.size(); i += 2) kept.push_back(std::move(loads_[i]));
  loads_ = std::move(kept);
  load_stride_ *= 2;
}

void TrainingReport::Add(const json& row) {
  const auto resumed = row.find("resumed_from");
  if (resumed != row.end() && resumed->is_number()) {
    ++resumed_;
    if (marks_.size() < kMaxMarks) marks_.push_back({resumed->get<double>(), "resumed", false});
  }
  const auto at = row.find("step");
  if (at == row.end() || !at->is_number()) return;
  const double step = at->get<double>();
  for (const std::string_view key : kScalars) {
    const auto value = row.find(key);
    if (value != row.end() && !value->is_array()) AddScalar(std::string(key), step, *value);
  }
  for (const std::string_view key : kArrays) {
    const auto values = row.find(key);
    if (values == row.end() || !values->is_array()) continue;
    auto* columns = const_cast<Columns*>(FindAll(std::string(key)));
    if (columns == nullptr) columns = &arrays_.emplace_back(std::string(key), Columns{}).second;
    if (columns->size() < values->size()) columns->resize(values->size());
    for (size_t i = 0; i < values->size(); ++i) {
      (*columns)[i].x.push_back(step);
      (*columns)[i].y.push_back(Number((*values)[i]));
    }
  }
  const auto load = row.find("load");
  if (load != row.end() && load->is_array()) AddLoads(step, *load);
  const auto skipped = row.find("skipped");
  if (skipped != row.end() && skipped->is_string() && !skipped->get_ref<const std::string&>().empty()) {
    skipped_.insert(step);
    if (marks_.size() < kMaxMarks) marks_.push_back({step, "skipped", true});
  }
}

LineChart TrainingReport::Chart(const std::string& title, const std::string& y_label) const {
  LineChart chart;
  chart.title = title;
  chart.x_label = "step";
  chart.y_label = y_label;
  return chart;
}

// The running mean, without the steps that were skipped.
std::vector<double> TrainingReport::Mean(const Column& column) const {
  std::vector<double> values = column.y;
  for (size_t i = 0; i < values.size(); ++i) {
    if (skipped_.count(column.x[i])) values[i] = NAN;
  }
  return Smoothed(values);
}

// smooth: the values in the background and their mean before them, both of one colour.
void TrainingReport::AddCurve(LineChart& chart, const Column* column, const std::string& name, bool smooth) const {
  if (column == nullptr || Finite(column->y).empty()) return;
  Series s;
  s.x = column->x;
  s.y = column->y;
  s.name = name;
  for (const Series& other : chart.series) s.color = std::max(s.color, other.color);
  ++s.color;
  if (smooth) {
    Series raw = s;
    raw.faint = true;
    raw.name.clear();
    chart.series.push_back(std::move(raw));
    s.y = Mean(*column);
  }
  chart.series.push_back(std::move(s));
}

std::vector<Fact> TrainingReport::Facts() const {
  std::vector<Fact> facts;
  const auto values = [&](const char* key) {
    const Column* column = Find(key);
    return column == nullptr ? std::vector<double>{} : Finite(column->y);
  };
  const auto add = [&](const char* name, const std::string& value) { facts.push_back({name, value}); };
  const Column* loss = Find("loss");
  if (loss != nullptr && !loss->x.empty()) add("Steps", Grouped(loss->x.back()));
  if (const auto v = values("tokens"); !v.empty()) add("Tokens seen", Grouped(v.back()));
  if (loss != nullptr && !values("loss").empty())
    add("Training loss at the end", fmt::format("{:.4f}", Mean(*loss).back()));
  if (const auto v = values("val_loss"); !v.empty()) add("Validation loss at the end", fmt::format("{:.4f}", v.back()));
  if (const Columns* mtp = FindAll("mtp_loss"); mtp != nullptr && !mtp->empty()) {
    if (!Finite(mtp->front().y).empty()) add("MTP loss at the end", fmt::format("{:.4f}", Mean(mtp->front()).back()));
  }
  if (const auto v = values("tokens_per_s"); !v.empty()) add("Tokens a second (median)", Grouped(Median(v)));
  if (const auto v = values("mfu"); !v.empty()) add("MFU (median)", fmt::format("{:.1f} %", 100 * Median(v)));
  if (const auto v = values("step_s"); !v.empty())
    add("Time in steps", Duration(std::accumulate(v.begin(), v.end(), 0.0)));
  if (const auto v = values("memory_bytes"); !v.empty()) {
    add("Peak memory", io::HumanBytes(static_cast<int64_t>(*std::max_element(v.begin(), v.end()))));
  }
  for (const auto& [key, name] :
       {std::pair("batch_size", "Batch (sequences)"), std::pair("mtp_loss_weight", "MTP loss weight"),
        std::pair("bias_update_speed", "Bias update speed")}) {
    const auto v = values(key);
    if (!v.empty() && !Varies(v)) add(name, fmt::format("{:g}", v.back()));
  }
  if (!skipped_.empty()) add("Steps skipped", Grouped(static_cast<double>(skipped_.size())));
  if (resumed_ > 0) add("Resumed", resumed_ == 1 ? "once" : fmt::format("{} times", resumed_));
  return facts;
}

Section TrainingReport::LossSection() const {
  Section section;
  section.title = "Loss";
  section.note = "Nats a token. Faint: single steps; strong: their running mean.";
  LineChart loss = Chart("Loss", "loss");
  loss.wide = true;
  loss.marks = marks_;
  AddCurve(loss, Find("loss"), "training", true);
  const auto points = [&](const char* key, const char* name) {
    const size_t before = loss.series.size();
    AddCurve(loss, Find(key), name, false);
    if (loss.series.size() > before) loss.series.back().points = true;
  };
  points("val_loss", "validation");
  points("ema_val_loss", "validation, averaged weights");
  section.charts.push_back(loss);

  LineChart mtp = Chart("MTP loss", "loss");
  const Columns* depths = FindAll("mtp_loss");
  for (size_t d = 0; depths != nullptr && d < std::min(depths->size(), kMaxLines); ++d) {
    AddCurve(mtp, &(*depths)[d], fmt::format("depth {}", d + 1), true);
  }
  const Columns* measured = FindAll("val_mtp_loss");
  for (size_t d = 0; measured != nullptr && d < std::min(measured->size(), kMaxLines); ++d) {
    AddCurve(mtp, &(*measured)[d], fmt::format("validation, depth {}", d + 1), false);
    if (!mtp.series.empty()) mtp.series.back().points = true;
  }
  section.charts.push_back(mtp);
  LineChart acceptance = Chart("MTP acceptance: its first choice is the main model's", "share");
  acceptance.zero = true;
  AddCurve(acceptance, Find("mtp_acceptance"), "", true);
  section.charts.push_back(acceptance);

  LineChart norm = Chart("Gradient norm, before clipping", "norm");
  norm.log_y = true;
  for (const Mark& m : marks_) {
    if (m.fault) norm.marks.push_back(m);
  }
  AddCurve(norm, Find("grad_norm"), "", true);
  section.charts.push_back(norm);

  LineChart errors = Chart("FP8: what quantising activation gradients changes, relative norm", "share");
  errors.zero = true;
  AddCurve(errors, Find("fp8/dy_error_1x128"), "tiles of 1x128", false);
  AddCurve(errors, Find("fp8/dy_error_128x128"), "blocks of 128x128", false);
  section.charts.push_back(errors);
  return section;
}

Section TrainingReport::ScheduleSection() const {
  Section section;
  section.title = "Schedules";
  for (const auto& [key, title] : {std::pair("lr", "Learning rate"), std::pair("batch_size", "Batch size, sequences"),
                                   std::pair("mtp_loss_weight", "Weight of the MTP loss (\xCE\xBB)"),
                                   std::pair("bias_update_speed", "Speed of the router's bias (\xCE\xB3)")}) {
    const Column* column = Find(key);
    if (column == nullptr || !Varies(column->y)) continue;  // constants are among the facts
    LineChart chart = Chart(title, "");
    chart.zero = true;
    AddCurve(chart, column, "", false);
    section.charts.push_back(chart);
  }
  return section;
}

Section TrainingReport::SpeedSection() const {
  Section section;
  section.title = "Speed and memory";
  const auto scaled = [&](const char* key, double factor) {
    Column column;
    if (const Column* c = Find(key)) column = *c;
    for (double& v : column.y) v *= factor;
    return column;
  };
  struct Plot {
    const char *key, *title, *unit;
    double factor;
    bool smooth;
  };
  for (const Plot& p :
       {Plot{"tokens_per_s", "Tokens a second", "", 1, true},
        Plot{"mfu", "MFU, % of the measured peak", "%", 100, true}, Plot{"step_s", "Time of a step", "s", 1, true},
        Plot{"memory_bytes", "Memory", "MB", 1e-6, false}}) {
    LineChart chart = Chart(p.title, p.unit);
    chart.zero = true;
    const Column column = scaled(p.key, p.factor);
    AddCurve(chart, &column, "", p.smooth);
    section.charts.push_back(chart);
  }
  return section;
}

// share * experts: 1 is an expert's fair load.
std::vector<HeatMap> TrainingReport::LoadMaps(const TrainingNotes& notes) const {
  std::vector<HeatMap> maps;
  if (loads_.empty()) return maps;
  const std::vector<std::vector<float>>& last = loads_.back().share;
  size_t most = 0;
  for (const auto& layer : last) most = std::max(most, layer.size());
  const auto empty_map = [&](size_t rows, size_t columns) {
    HeatMap map;
    map.rows = static_cast<int64_t>(rows);
    map.values.assign(rows * columns, NAN);
    map.value_label = "load / fair share";
    return map;
  };
  if (last.size() > 1 && most > 0) {
    HeatMap map = empty_map(last.size(), most);
    map.title = fmt::format("All layers at step {:.0f}", loads_.back().step);
    map.x_label = "expert";
    map.y_label = "MoE layer";
    for (size_t e = 0; e < most; ++e) map.x.push_back(static_cast<double>(e));
    for (size_t l = 0; l < last.size(); ++l) {
      for (size_t e = 0; e < last[l].size(); ++e) {
        map.values[l * most + e] = static_cast<double>(last[l][e]) * static_cast<double>(last[l].size());
      }
    }
    maps.push_back(std::move(map));
  }
  if (loads_.size() < 2) return maps;
  for (const size_t l : EvenlyChosen(last.size(), kMaxLoadMaps)) {
    const size_t experts = last[l].size();
    if (experts == 0) continue;
    HeatMap map = empty_map(experts, loads_.size());
    map.title = LayerName(notes, l);
    map.x_label = "step";
    map.y_label = "expert";
    for (size_t c = 0; c < loads_.size(); ++c) {
      map.x.push_back(loads_[c].step);
      if (l >= loads_[c].share.size()) continue;
      const std::vector<float>& share = loads_[c].share[l];
      for (size_t e = 0; e < std::min(experts, share.size()); ++e) {
        map.values[e * loads_.size() + c] = static_cast<double>(share[e]) * static_cast<double>(experts);
      }
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

// The mean MaxVio of each layer (rows) in equal parts of the run (columns).
HeatMap TrainingReport::MaxVioMap(const Columns& layers) const {
  HeatMap map;
  map.title = "MaxVio of each layer";
  map.x_label = "step";
  map.y_label = "MoE layer";
  map.value_label = "MaxVio";
  map.low = map.middle = 0.1;
  map.high = 10;
  map.rows = static_cast<int64_t>(layers.size());
  const size_t steps = layers.front().x.size(), columns = std::min<size_t>(steps, 200);
  for (size_t c = 0; c < columns; ++c) map.x.push_back(layers.front().x[(2 * c + 1) * steps / (2 * columns)]);
  for (const Column& layer : layers) {
    for (size_t c = 0; c < columns; ++c) {
      double sum = 0, count = 0;
      for (size_t i = c * steps / columns; i < std::min((c + 1) * steps / columns, layer.y.size()); ++i) {
        if (!std::isfinite(layer.y[i])) continue;
        sum += layer.y[i];
        count += 1;
      }
      map.values.push_back(count > 0 ? sum / count : NAN);
    }
  }
  return map;
}

Section TrainingReport::BalanceSection(const TrainingNotes& notes) const {
  Section section;
  section.title = "Balance of the experts";
  section.note =
      "MaxVio: how far the load of the busiest expert is above its fair share (0: none is, 1: twice the share).";
  if (const Columns* layers = FindAll("max_vio"); layers != nullptr && !layers->empty()) {
    LineChart chart = Chart("MaxVio", "");
    chart.zero = true;
    if (layers->size() <= kMaxLines) {
      for (size_t l = 0; l < layers->size(); ++l) {
        Series s;
        s.name = LayerName(notes, l);
        s.x = (*layers)[l].x;
        s.y = Mean((*layers)[l]);
        chart.series.push_back(std::move(s));
      }
    } else {
      Column greatest = layers->front(), mean = layers->front();
      for (size_t i = 0; i < mean.y.size(); ++i) {
        double sum = 0;
        for (const Column& layer : *layers) {
          if (i >= layer.y.size()) continue;
          greatest.y[i] = std::max(greatest.y[i], layer.y[i]);
          sum += layer.y[i];
        }
        mean.y[i] = sum / static_cast<double>(layers->size());
      }
      AddCurve(chart, &greatest, "the layer with the most", true);
      AddCurve(chart, &mean, "mean of the layers", true);
    }
    section.charts.push_back(chart);
    if (layers->size() > kMaxLines) section.charts.push_back(MaxVioMap(*layers));
  }
  LineChart bias = Chart("Bias of the router: least and greatest", "");
  AddCurve(bias, Find("bias_max"), "greatest", false);
  AddCurve(bias, Find("bias_min"), "least", false);
  section.charts.push_back(bias);
  LineChart balance = Chart("Sequence-wise balance loss, not scaled", "");
  AddCurve(balance, Find("balance_loss"), "", true);
  section.charts.push_back(balance);
  for (HeatMap& map : LoadMaps(notes)) section.charts.push_back(std::move(map));
  return section;
}

Report TrainingReport::Make(const TrainingNotes& notes) const {
  Report report;
  report.title = notes.title;
  report.subtitle = notes.subtitle;
  report.facts = Facts();
  report.facts.insert(report.facts.end(), notes.facts.begin(), notes.facts.end());
  report.sections = {LossSection(), BalanceSection(notes), ScheduleSection(), SpeedSection()};
  Section samples, texts;
  samples.title = "Samples";
  samples.texts = notes.samples;
  texts.title = "Particulars";
  texts.texts = notes.texts;
  report.sections.push_back(samples);
  report.sections.push_back(texts);
  return report;
}

std::string TrainingReportHtml(const std::string& metrics_path, const TrainingNotes& notes) {
  TrainingReport report;
  ForEachRow(metrics_path, [&](const json& row) { report.Add(row); });
  return Html(report.Make(notes));
}

}  // namespace fathom::report
