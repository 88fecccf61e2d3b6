// A plan for people and programs: text, JSON, a report with pictures.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "report/html.h"

namespace fathom::plan {

constexpr double kGib = 0x1p30;

std::string Text(const Plan& plan);
std::string Text(const ValuesAt& at);

// docs/plan.md has the keys.
nlohmann::json Json(const Plan& plan);
nlohmann::json Json(const ValuesAt& at);

report::Report MakeReport(const Plan& plan);
// What each pipeline rank does with a few micro-batches; without a pipeline no spans.
report::SpanChart PipelineChart(const StagePlan& stage);
report::SpanChart MemoryChart(const StagePlan& stage, const Machine& machine);

// "671,026,419,200"
std::string Grouped(int64_t n);
// "14.8T", "2.664M"
std::string Short(double n);
// "54.2 days", "3.2 h", "41.0 s"
std::string Duration(double seconds);

// The kinds of memory, in the order of pages and pictures.
struct MemoryRow {
  std::string name;
  double bytes = 0;
};
std::vector<MemoryRow> Rows(const DeviceMemory& memory);

// The rank whose devices are fullest.
size_t Fullest(const StagePlan& stage);

// The tokens of a stage where a schedule changes its course, from 0 to the end.
std::vector<int64_t> Corners(const StagePlan& stage);

}  // namespace fathom::plan
