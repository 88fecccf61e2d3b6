// The plan as a report: schedules as curves, memory as bars, the pipeline as a picture.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "plan/plan_page.h"

namespace fathom::plan {
namespace {

using report::LineChart;
using report::Series;
using report::SpanChart;

constexpr int kSamples = 600;

// Where a stage's curves are looked at: evenly, at every corner and just before it.
std::vector<int64_t> Places(const StagePlan& s) {
  std::set<int64_t> places;
  for (int i = 0; i <= kSamples; ++i)
    places.insert(static_cast<int64_t>(D(s.tokens) * static_cast<double>(i) / static_cast<double>(kSamples)));
  for (int64_t corner : Corners(s)) {
    places.insert(corner);
    if (corner > 0) places.insert(corner - 1);
  }
  return {places.begin(), places.end()};
}

report::Section ScheduleSection(const StagePlan& s) {
  report::Section section;
  section.title = fmt::format("Schedules of {}", s.name);
  section.note = fmt::format("{} tokens, {} steps of up to {} tokens.", Short(D(s.tokens)), Grouped(s.steps),
                             Grouped(s.tokens_per_step()));
  Series lr, batch, lambda, gamma;
  lr.name = "learning rate";
  batch.name = "batch";
  lambda.name = "λ";
  gamma.name = "γ";
  const StageSchedules schedules(s.recipe);
  for (int64_t tokens : Places(s)) {
    const ValuesAt v = schedules.At(tokens);
    const auto add = [&](Series& to, double y) {
      to.x.push_back(D(tokens));
      to.y.push_back(y);
    };
    add(lr, v.lr);
    add(batch, D(v.batch_size));
    add(lambda, v.mtp_loss_weight);
    add(gamma, v.bias_update_speed);
  }
  std::string constant;
  const auto chart = [&](const std::string& title, const Series& series) {
    if (std::all_of(series.y.begin(), series.y.end(), [&](double y) { return y == series.y[0]; })) {
      constant += fmt::format("{}{} {:g}", constant.empty() ? "" : "; ", title, series.y[0]);
      return;
    }
    LineChart c;
    c.title = title;
    c.x_label = "tokens";
    c.series = {series};
    c.zero = true;
    section.charts.emplace_back(c);
  };
  chart("Learning rate", lr);
  chart("Sequences a step", batch);
  chart("λ, weight of the MTP loss", lambda);
  chart("γ, speed of the router's bias", gamma);
  section.texts.push_back({"Constant", constant});
  return section;
}

report::Section StagesSection(const Plan& plan) {
  report::Section section;
  section.title = "Time and cost";
  section.note = "MFU counts forward and backward with causal attention and MTP, and nothing twice.";
  report::Table table;
  table.header = {"stage", "tokens", "sequence", "steps", "a step", "MFU", "device-hours", "time", "cost", "bubble"};
  for (const StagePlan& s : plan.stages) {
    const std::string hours =
        s.device_hours < 100 ? fmt::format("{:.2f}", s.device_hours) : Grouped(std::llround(s.device_hours));
    const std::string cost =
        fmt::format("${}", s.cost_usd < 100 ? fmt::format("{:.2f}", s.cost_usd) : Grouped(std::llround(s.cost_usd)));
    if (s.stated) {
      table.rows.push_back({s.name, "", "", "", "", "stated", hours, "", cost, ""});
      continue;
    }
    table.rows.push_back({s.name, Short(D(s.tokens)), Grouped(s.sequence_length), Grouped(s.steps),
                          Duration(s.step_seconds), fmt::format("{:.2f} %", 100 * s.mfu), hours,
                          Duration(s.hours * 3600), cost, fmt::format("{:.2f} %", 100 * s.pipeline.bubble_share)});
  }
  section.tables.push_back(table);
  report::Table work;
  work.header = {"operations a token", "forward, products", "forward, attention", "backward, activations",
                 "backward, weights",  "the model's own",   "made again"};
  for (const StagePlan& s : plan.stages) {
    if (s.stated) continue;
    work.rows.push_back({s.name, Short(s.work.linear), Short(s.work.attention), Short(s.work.BackwardInput()),
                         Short(s.work.BackwardWeight()), Short(s.work.Train()), Short(s.work.Recomputed())});
  }
  section.tables.push_back(work);
  return section;
}

report::Section MachinesSection(const Plan& plan) {
  report::Section section;
  section.title = "Which machine";
  report::Table table;
  table.header = {"machine", "a device needs", "has", "fits", "time", "layout"};
  for (const MachineFit& f : plan.machines) {
    table.rows.push_back({f.machine.name, fmt::format("{:.1f} GiB", f.memory_bytes / kGib),
                          fmt::format("{:g} GiB", f.machine.memory_gib), f.fits ? "yes" : "no",
                          Duration(f.hours * 3600), f.layout});
  }
  section.tables.push_back(table);
  std::string notes;
  for (const std::string& note : plan.notes) notes += (notes.empty() ? "" : "\n") + note;
  section.texts.push_back({"Notes", notes});
  return section;
}

}  // namespace

std::vector<int64_t> Corners(const StagePlan& s) {
  std::set<int64_t> corners = {0, s.tokens};
  const train::StepSchedule steps(s.recipe);
  const auto tokens_of_step = [&](int64_t tokens) { return steps.At(tokens).tokens; };
  const train::ScheduleRecipe& r = s.recipe.schedule;
  for (const train::Schedule* schedule : {&r.lr, &r.batch_size, &r.mtp_loss_weight, &r.bias_update_speed}) {
    int64_t at = 0;
    for (const train::Segment& segment : train::ResolveSteps(*schedule, "schedule", tokens_of_step).segments) {
      at = segment.until > 0 ? segment.until : at + segment.tokens;
      if (at < s.tokens) corners.insert(at);
    }
  }
  return {corners.begin(), corners.end()};
}

SpanChart MemoryChart(const StagePlan& s, const Machine& machine) {
  SpanChart chart;
  chart.title = fmt::format("Memory of a device, {}", s.name);
  chart.x_label = "GiB";
  chart.limit = machine.memory_gib;
  chart.limit_name = "there is";
  const std::vector<MemoryRow> names = Rows({});
  for (size_t i = 0; i < names.size(); ++i) {
    const bool used =
        std::any_of(s.memory.begin(), s.memory.end(), [&](const DeviceMemory& m) { return Rows(m)[i].bytes > 0; });
    chart.kinds.push_back({used ? names[i].name : "", static_cast<int>(i % 8), i >= 8});
  }
  for (size_t rank = 0; rank < s.memory.size(); ++rank) {
    chart.rows.push_back(s.memory.size() > 1 ? fmt::format("rank {}", rank) : "device");
    double at = 0;
    const std::vector<MemoryRow> rows = Rows(s.memory[rank]);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].bytes <= 0) continue;
      const double end = at + rows[i].bytes / kGib;
      chart.spans.push_back({static_cast<int64_t>(rank), at, end, static_cast<int64_t>(i), ""});
      at = end;
    }
  }
  return chart;
}

SpanChart PipelineChart(const StagePlan& s) {
  constexpr int64_t kMostRanks = 32;
  SpanChart chart;
  const train::ParallelRecipe& p = s.layout.parallel;
  if (p.pipeline == 1 || p.pipeline > kMostRanks) return chart;
  const int64_t least = LeastMicroBatches(p.schedule, p.pipeline);
  const int64_t shown = std::max(least, std::min(s.pipeline.most + s.pipeline.most % 2, p.pipeline + 4));
  const PassTimes& t = s.pipeline.seconds;
  const PassTimes times{1e3 * t.f, 1e3 * t.b, 1e3 * t.w, 1e3 * t.fb};
  const Timeline line = Simulate(p.schedule, p.pipeline, shown, times);
  chart.title = fmt::format("{} on {} ranks, {} micro-batches of the {} of a step; {} ms", Name(p.schedule), p.pipeline,
                            shown, s.pipeline.most, std::llround(line.end));
  chart.x_label = "ms";
  const bool both = s.layout.both_ends();
  chart.kinds = {{both ? "forward, from rank 0" : "forward", 0, false},
                 {both ? "backward of these" : "backward", 1, false},
                 {both ? "forward, from the last rank" : "", 5, true},
                 {both ? "backward of these" : "", 4, true},
                 {p.schedule == PipelineSchedule::k1F1B ? "" : "weights' gradients, put off", 2, false},
                 {both ? "both at once" : "", 3, false}};
  for (size_t rank = 0; rank < line.ranks.size(); ++rank) {
    chart.rows.push_back(fmt::format("rank {}", rank));
    for (const TimedOp& op : line.ranks[rank]) {
      const PassOf& f = op.op.forward;
      const PassOf& b = op.op.backward;
      const auto add = [&](int64_t kind, const std::string& label) {
        chart.spans.push_back({static_cast<int64_t>(rank), op.begin, op.end, kind, label});
      };
      switch (op.op.kind) {
        case OpKind::kForward:
          add(f.direction == 0 ? 0 : 2, fmt::format("{}", f.micro_batch));
          break;
        case OpKind::kOverlapped:
          add(5, fmt::format("{}+{}", f.micro_batch, b.micro_batch));
          break;
        case OpKind::kBackwardWeight:
          add(4, fmt::format("{}", b.micro_batch));
          break;
        default:
          add(b.direction == 0 ? 1 : 3, fmt::format("{}", b.micro_batch));
      }
    }
  }
  return chart;
}

report::Report MakeReport(const Plan& plan) {
  report::Report out;
  out.title = fmt::format("Plan of {}", plan.recipe);
  out.subtitle = fmt::format("{}: {} device{}", plan.machine.name, Grouped(plan.machine.devices),
                             plan.machine.devices == 1 ? "" : "s");
  const StagePlan& first = plan.stages.front();
  out.facts = {{"parameters", Short(D(plan.parameters.main))},
               {"used for a token", Short(D(plan.parameters.activated))},
               {"tokens", Short(D(first.tokens))},
               {"device-hours", Short(plan.device_hours)},
               {"time", Duration(plan.hours * 3600)},
               {"cost", fmt::format("${}", Short(plan.cost_usd))},
               {"layout", first.layout.Describe()},
               {"memory", plan.fits ? "fits" : "does not fit"}};
  out.sections.push_back(StagesSection(plan));
  for (const StagePlan& s : plan.stages) {
    if (!s.stated) out.sections.push_back(ScheduleSection(s));
  }
  report::Section memory;
  memory.title = "Memory";
  memory.note =
      "A bar for the devices of each pipeline rank. What is kept for the backward passes in flight: "
      "activations, and of these in FP8 or E5M6 the cache.";
  report::Section pipeline;
  pipeline.title = "Pipeline";
  pipeline.note =
      "Times from the operations of the slowest stage, messages take none. Numbers are those of micro-batches.";
  for (const StagePlan& s : plan.stages) {
    if (s.stated) continue;
    memory.charts.emplace_back(MemoryChart(s, plan.machine));
    if (&s == &first) pipeline.charts.emplace_back(PipelineChart(s));
  }
  out.sections.push_back(memory);
  out.sections.push_back(pipeline);
  out.sections.push_back(MachinesSection(plan));
  return out;
}

}  // namespace fathom::plan
