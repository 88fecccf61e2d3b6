// The page that `fathom plan` prints.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "plan/plan_page.h"

namespace fathom::plan {
namespace {

std::string Percent(double share) { return fmt::format("{:.2f} %", 100 * share); }
std::string Dollars(double usd) {
  return usd >= 1000 ? fmt::format("${}", Grouped(std::llround(usd))) : fmt::format("${:.2f}", usd);
}
std::string Hours(double hours) { return hours >= 100 ? Grouped(std::llround(hours)) : fmt::format("{:.2f}", hours); }

// Letters that a terminal shows, of UTF-8.
size_t Letters(const std::string& s) {
  return static_cast<size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Columns as wide as their widest cell; the first stands left, the others right.
std::string Aligned(const std::vector<std::vector<std::string>>& rows, size_t left = 1) {
  std::vector<size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], Letters(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = "  ";
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(width[i] - Letters(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (i < left ? row[i] + pad : pad + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

// A bar of eighths of a letter.
std::string Bar(double share, int width) {
  static const char* const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width * 8));
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) out += "█";
  return out + parts[eighths % 8];
}

std::string ModelText(const Plan& plan) {
  const model::ModelConfig& c = plan.config;
  std::string layers = fmt::format("{} layers", c.num_hidden_layers);
  if (c.num_nextn_predict_layers > 0)
    layers += fmt::format(" + {} for multi-token prediction", c.num_nextn_predict_layers);
  const StagePlan& first = plan.stages.front();
  std::vector<std::vector<std::string>> rows = {
      {"model", fmt::format("{} parameters, {} used for a token; {}", Short(D(plan.parameters.main)),
                            Short(D(plan.parameters.activated)), layers)},
      {"machine",
       fmt::format("{}: {} device{} of {:g} GiB, {:g} TFLOP/s BF16, ${:g} an hour each", plan.machine.name,
                   Grouped(plan.machine.devices), plan.machine.devices == 1 ? "" : "s", plan.machine.memory_gib,
                   plan.machine.peak_bf16_tflops, plan.machine.usd_per_device_hour)}};
  for (const StagePlan& s : plan.stages) {
    if (s.stated || (&s != &first && s.layout.Describe() == first.layout.Describe())) continue;
    rows.push_back({&s == &first ? "layout" : "", s.layout.Describe() + (&s == &first ? "" : " (" + s.name + ")")});
  }
  return Aligned(rows, 2);
}

std::string StagesText(const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {
      {"", "tokens", "sequence", "batch", "steps", "a step", "MFU", "device-hours", "time", "cost"}};
  for (const StagePlan& s : plan.stages) {
    if (s.stated) {
      rows.push_back({s.name, "", "", "", "", "", "stated", Hours(s.device_hours), "", Dollars(s.cost_usd)});
      continue;
    }
    rows.push_back(
        {s.name, Short(D(s.tokens)), Grouped(s.sequence_length),
         s.first_batch == s.last_batch ? Grouped(s.last_batch) : Grouped(s.first_batch) + "-" + Grouped(s.last_batch),
         Grouped(s.steps), Duration(s.step_seconds), Percent(s.mfu), Hours(s.device_hours), Duration(s.hours * 3600),
         Dollars(s.cost_usd)});
  }
  rows.push_back(
      {"all", "", "", "", "", "", "", Hours(plan.device_hours), Duration(plan.hours * 3600), Dollars(plan.cost_usd)});
  std::string out = Aligned(rows);
  const StagePlan& first = plan.stages.front();
  if (first.stated) return out;
  out += fmt::format(
      "  {}: {} tokens a step; {} device-hours and {:.2f} days a trillion tokens; {:.0f} tokens a second "
      "and device\n",
      first.name, Grouped(first.tokens_per_step()), Grouped(std::llround(first.DeviceHoursPerTrillion())),
      first.DaysPerTrillion(), first.tokens_per_device_second);
  out += fmt::format("  MFU: forward and backward, causal attention and MTP counted, nothing twice, of the {} peak{}\n",
                     Name(first.mfu_of_machine ? train::PeakKind::kBf16 : first.recipe.plan.mfu_peak),
                     first.mfu_of_machine ? "; the machine file's, the recipe states none" : "");
  double others = 0, as_first = 0;
  for (const StagePlan& s : plan.stages) {
    if (s.stated || &s == &first || s.mfu == first.mfu) continue;
    others += s.device_hours;
    as_first += s.hours_at_first_mfu;
  }
  if (others > 0) {
    out += fmt::format("  the later stages' {} device-hours would be {} at {}'s MFU\n", Hours(others), Hours(as_first),
                       first.name);
  }
  return out;
}

std::string SchedulesText(const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {{"", "tokens", "lr", "batch", "λ (MTP)", "γ (bias)"}};
  for (const StagePlan& s : plan.stages) {
    if (s.stated) continue;
    const StageSchedules schedules(s.recipe);
    bool first = true;
    for (int64_t tokens : Corners(s)) {
      const ValuesAt v = schedules.At(tokens);
      rows.push_back({first ? s.name : "", Short(D(tokens)), fmt::format("{:.3g}", v.lr), Grouped(v.batch_size),
                      fmt::format("{:g}", v.mtp_loss_weight), fmt::format("{:g}", v.bias_update_speed)});
      first = false;
    }
  }
  return Aligned(rows);
}

// A table with a column for each stage that is reckoned.
class StageTable {
 public:
  explicit StageTable(const Plan& plan) : plan_(plan), rows_{{""}} {
    for (const StagePlan& s : plan.stages) {
      if (!s.stated) rows_[0].push_back(s.name);
    }
  }
  void Row(const std::string& name, const std::function<std::string(const StagePlan&)>& cell) {
    rows_.push_back({name});
    for (const StagePlan& s : plan_.stages) {
      if (!s.stated) rows_.back().push_back(cell(s));
    }
  }
  std::string text() const { return Aligned(rows_); }

 private:
  const Plan& plan_;
  std::vector<std::vector<std::string>> rows_;
};

std::string WorkText(const Plan& plan) {
  StageTable table(plan);
  const auto row = [&](const char* name, double (*value)(const StagePlan&)) {
    table.Row(name, [value](const StagePlan& s) { return Short(value(s)); });
  };
  row("forward, products", [](const StagePlan& s) { return s.work.linear; });
  row("forward, attention", [](const StagePlan& s) { return s.work.attention; });
  row("backward, of activations", [](const StagePlan& s) { return s.work.BackwardInput(); });
  row("backward, of weights", [](const StagePlan& s) { return s.work.BackwardWeight(); });
  row("the model's own, in all", [](const StagePlan& s) { return s.work.Train(); });
  row("made again in backward", [](const StagePlan& s) { return s.work.Recomputed(); });
  table.Row("MFU", [](const StagePlan& s) { return Percent(s.mfu); });
  table.Row("with what is made again",
            [](const StagePlan& s) { return Percent(s.mfu * (1 + s.work.Recomputed() / s.work.Train())); });
  return table.text();
}

std::string PipelineText(const Plan& plan) {
  StageTable table(plan);
  const auto time = [](double seconds) { return seconds > 0 ? fmt::format("{:.1f} ms", 1e3 * seconds) : "0"; };
  table.Row("micro-batches a step", [](const StagePlan& s) {
    return s.pipeline.least == s.pipeline.most ? fmt::format("{}", s.pipeline.most)
                                               : fmt::format("{}-{}", s.pipeline.least, s.pipeline.most);
  });
  table.Row("F, of the slowest stage", [&](const StagePlan& s) { return time(s.pipeline.seconds.f); });
  table.Row("B", [&](const StagePlan& s) { return time(s.pipeline.seconds.b); });
  table.Row("of it W", [&](const StagePlan& s) { return time(s.pipeline.seconds.w); });
  table.Row("messages to experts beside F", [&](const StagePlan& s) { return time(s.pipeline.exchange_seconds); });
  table.Row("bubble a step", [&](const StagePlan& s) { return time(s.pipeline.bubble_seconds); });
  table.Row("share of the step", [](const StagePlan& s) { return Percent(s.pipeline.bubble_share); });
  table.Row("MFU outside it", [](const StagePlan& s) { return Percent(s.mfu / (1 - s.pipeline.bubble_share)); });
  table.Row("mean stage / slowest", [](const StagePlan& s) { return fmt::format("{:.3f}", s.pipeline.balance); });
  const train::PipelineSchedule schedule = plan.stages.front().layout.parallel.schedule;
  return fmt::format("  {}, bubble {}\n", Name(schedule), BubbleFormula(schedule)) + table.text();
}

std::string MemoryText(const Plan& plan, const StagePlan& s) {
  const size_t rank = Fullest(s);
  const DeviceMemory& m = s.memory[rank];
  const double have = plan.machine.memory_bytes(), scale = std::max(have, s.memory_bytes);
  std::vector<std::vector<std::string>> rows;
  for (const MemoryRow& row : Rows(m)) {
    if (row.bytes > 0) rows.push_back({row.name, fmt::format("{:.2f}", row.bytes / kGib), Bar(row.bytes / scale, 48)});
  }
  rows.push_back({"all", fmt::format("{:.2f}", s.memory_bytes / kGib), Bar(s.memory_bytes / scale, 48)});
  rows.push_back({"there is", fmt::format("{:.2f}", have / kGib), Bar(have / scale, 48)});
  for (auto& row : rows) {
    const size_t width = 9;
    row[1] = std::string(width - std::min(width, row[1].size()), ' ') + row[1];
  }
  std::string out = Aligned(rows, 3);
  const std::string where =
      s.layout.parallel.pipeline > 1 ? fmt::format("the fullest devices, of pipeline rank {}: ", rank) : "";
  out += fmt::format("  {}{}\n", where,
                     s.fits ? "it fits" : "IT DOES NOT FIT (5 % of a device's memory is left to others)");
  if (s.host_bytes > 0) {
    out += fmt::format("  averaged weights lie in the hosts' memory: {:.1f} of {:g} GiB a node\n", s.host_bytes / kGib,
                       plan.machine.host_memory_gib);
  }
  return out;
}

std::string MachinesText(const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {{"", "a device needs", "has", "fits", "time", "cost", "", "layout"}};
  const MachineFit* least = nullptr;
  for (const MachineFit& f : plan.machines) {
    rows.push_back({f.machine.name, fmt::format("{:.1f} GiB", f.memory_bytes / kGib),
                    fmt::format("{:g} GiB", f.machine.memory_gib), f.fits ? "yes" : "no", Duration(f.hours * 3600),
                    Dollars(f.cost_usd), "", f.layout});
    const auto price = [](const MachineFit& m) { return m.machine.usd_per_device_hour * D(m.machine.devices); };
    if (f.fits && (least == nullptr || price(f) < price(*least))) least = &f;
  }
  size_t widest = 0;
  for (const auto& row : rows) widest = std::max(widest, Letters(row.back()));
  for (auto& row : rows) row.back() += std::string(widest - Letters(row.back()), ' ');
  std::string out = Aligned(rows);
  out += least == nullptr ? "  none of these machines holds it\n"
                          : fmt::format("  the smallest of these that holds it: {}\n", least->machine.name);
  return out;
}

}  // namespace

std::string Grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += ',';
    out += digits[i];
  }
  return out;
}

std::string Short(double n) {
  if (n < 1e4) return fmt::format("{:g}", n);
  static const char* const units[] = {"", "k", "M", "G", "T", "P", "E"};
  const auto group = std::min<size_t>(6, static_cast<size_t>(std::floor(std::log10(n) / 3 + 1e-12)));
  return fmt::format("{:.4g}{}", n / std::pow(1000, static_cast<double>(group)), units[group]);
}

std::string Duration(double seconds) {
  if (seconds < 1e-2) return fmt::format("{:.2g} ms", 1e3 * seconds);
  if (seconds < 1) return fmt::format("{:.0f} ms", 1e3 * seconds);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.1f} min", seconds / 60);
  if (seconds < 48 * 3600.0) return fmt::format("{:.1f} h", seconds / 3600);
  if (seconds < 1000 * 86400.0) return fmt::format("{:.1f} days", seconds / 86400);
  return Short(std::round(seconds / (365.25 * 86400))) + " years";
}

std::vector<MemoryRow> Rows(const DeviceMemory& m) {
  return {{"weights, FP8", m.weights_fp8},  {"weights, BF16", m.weights_bf16}, {"weights, FP32", m.weights_f32},
          {"gradients, FP32", m.gradients}, {"masters, FP32", m.masters},      {"moments", m.moments},
          {"activations", m.activations},   {"cache, FP8/E5M6", m.cache},      {"workspace", m.workspace}};
}

size_t Fullest(const StagePlan& s) {
  const auto at = std::max_element(s.memory.begin(), s.memory.end(),
                                   [](const DeviceMemory& a, const DeviceMemory& b) { return a.Total() < b.Total(); });
  return static_cast<size_t>(at - s.memory.begin());
}

std::string Text(const ValuesAt& v) {
  return fmt::format("At {} tokens ({})\n", Grouped(v.tokens), v.stage) +
         Aligned({{"learning rate", fmt::format("{:g}", v.lr)},
                  {"batch", Grouped(v.batch_size) + " sequences"},
                  {"λ, weight of the MTP loss", fmt::format("{:g}", v.mtp_loss_weight)},
                  {"γ, speed of the router's bias", fmt::format("{:g}", v.bias_update_speed)}},
                 2);
}

std::string Text(const Plan& plan) {
  std::string out = fmt::format("Plan of {}\n", plan.recipe) + ModelText(plan);
  out += "\nStages\n" + StagesText(plan);
  out += "\nSchedules\n" + SchedulesText(plan);
  out += "\nOperations a token\n" + WorkText(plan);
  bool pipeline = false;
  for (const StagePlan& s : plan.stages) {
    if (s.stated) continue;
    pipeline = pipeline || s.layout.parallel.pipeline > 1;
    const std::string of = plan.stages.size() > 1 ? ", " + s.name : "";
    out += fmt::format("\nMemory of a device, GiB{}\n", of) + MemoryText(plan, s);
  }
  if (pipeline) out += "\nPipeline\n" + PipelineText(plan);
  out += "\nMachines\n" + MachinesText(plan);
  if (!plan.notes.empty()) out += "\nNotes\n";
  for (const std::string& note : plan.notes) out += "  " + note + "\n";
  return out;
}

}  // namespace fathom::plan
