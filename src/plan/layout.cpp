#include "plan/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "plan/flops.h"

namespace fathom::plan {
namespace {

using train::ParallelRecipe;
using train::PipelineSchedule;

// Ends of the stages for a limit of work to each, the last holding `tail` beside its layers; empty if it takes more
// than `stages`. Each of the stages gets a layer at least.
std::vector<int64_t> Cut(const std::vector<double>& work, double tail, size_t stages, double limit) {
  std::vector<int64_t> ends;
  double sum = 0;
  const size_t n = work.size();
  for (size_t i = 0; i < n; ++i) {
    const size_t left = n - i;  // layers still to be placed, this one included
    const size_t open = stages - ends.size();
    if (open == 0) return {};
    const bool must = sum > 0 && left < open;  // the stages that remain need them
    if (sum > 0 && (sum + work[i] > limit || must)) {
      ends.push_back(static_cast<int64_t>(i));
      sum = 0;
    }
    sum += work[i];
  }
  // The heads and MTP modules stand behind the last layer.
  if (sum + tail > limit) return {};
  ends.push_back(static_cast<int64_t>(n));
  return ends.size() == stages ? ends : std::vector<int64_t>{};
}

}  // namespace

const char* Name(PipelineSchedule schedule) {
  switch (schedule) {
    case PipelineSchedule::k1F1B:
      return "1f1b";
    case PipelineSchedule::kZB1P:
      return "zb1p";
    default:
      return "dualpipe";
  }
}

std::vector<int64_t> Layout::StagesOf(int64_t rank) const {
  if (both_ends()) return {rank, parallel.pipeline - 1 - rank};
  return {rank};
}

std::string Layout::Describe() const {
  if (parallel.devices() == 1) return "one process";
  std::string out = fmt::format("PP{} x EP{} x DP{}", parallel.pipeline, parallel.expert, parallel.data);
  if (parallel.context > 1) out += fmt::format(" x CP{}", parallel.context);
  if (parallel.zero > 0) out += ", ZeRO-1";
  if (parallel.pipeline > 1) out += fmt::format(", {}", Name(parallel.schedule));
  return out + fmt::format(": {} devices", parallel.devices());
}

void CheckLayout(const model::ModelConfig& c, const ParallelRecipe& p) {
  if (p.pipeline > c.num_hidden_layers) {
    throw Error{"parallel.pipeline does not divide the model", fmt::format("{} ranks", p.pipeline),
                fmt::format("at most {}, a layer each", c.num_hidden_layers)};
  }
  if (p.schedule == PipelineSchedule::kDualPipe && p.pipeline > 1 && p.pipeline % 2 != 0) {
    throw Error{"parallel.pipeline does not suit parallel.schedule", fmt::format("{} ranks with dualpipe", p.pipeline),
                "an even number of ranks: micro-batches enter at both ends"};
  }
  if (p.expert > 1 && c.n_routed_experts == 0) {
    throw Error{"parallel.expert has nothing to spread", fmt::format("expert = {}", p.expert),
                "1: the model has no routed experts"};
  }
  if (c.n_routed_experts > 0 && c.n_routed_experts % p.expert != 0) {
    throw Error{"parallel.expert does not divide the experts",
                fmt::format("{} experts over {} devices", c.n_routed_experts, p.expert),
                fmt::format("a divisor of {}", c.n_routed_experts)};
  }
  if (p.data * p.context % p.expert != 0) {
    throw Error{
        "parallel.expert does not divide the devices of a pipeline rank",
        fmt::format("expert = {}, data x context = {} x {} = {}", p.expert, p.data, p.context, p.data * p.context),
        fmt::format("a divisor of {}", p.data * p.context)};
  }
}

Layout MakeLayout(const model::ModelConfig& c, const ParallelRecipe& p, int64_t length) {
  CheckLayout(c, p);
  std::vector<double> work;
  double tail = WorkOfHeads(c).Forward();
  for (int64_t layer = 0; layer < Layers(c); ++layer) {
    const double w = WorkOfLayer(c, layer, length, model::Recompute::kPaper).Forward();
    if (layer < c.num_hidden_layers) {
      work.push_back(w);
    } else {
      tail += w;
    }
  }
  // The least limit: by halving, between the mean and all.
  double all = tail, low = 0;
  for (double w : work) all += w;
  double high = all;
  const auto stages = static_cast<size_t>(p.pipeline);
  // A limit may be too large for exactly so many stages only if a stage would be left without a layer, which Cut
  // avoids.
  while (high - low > 1e-9 * all) {
    const double middle = (low + high) / 2;
    (Cut(work, tail, stages, middle).empty() ? low : high) = middle;
  }
  const std::vector<int64_t> ends = Cut(work, tail, stages, high);
  FATHOM_CHECK(!ends.empty());
  Layout layout{p, {}};
  int64_t first = 0;
  for (int64_t end : ends) {
    layout.chunks.push_back({first, end});
    first = end;
  }
  layout.chunks.front().embedding = true;
  layout.chunks.back().head = true;
  layout.chunks.back().last = Layers(c);
  return layout;
}

}  // namespace fathom::plan
