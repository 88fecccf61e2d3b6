#include "cli/bench_train.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/machine.h"
#include "core/rng.h"
#include "core/stopwatch.h"
#include "io/file.h"
#include "train/flops.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace fathom::cli {
namespace {

constexpr int64_t kFewestSteps = 5;

}  // namespace

TrainBenchResult RunTrainBench(Context& ctx, const model::ModelConfig& config, model::Compute compute,
                               const TrainBenchPlan& plan, const std::function<void(const std::string&)>& on_case) {
  if (plan.length > config.max_position_embeddings) {
    throw Error("--train-length is longer than the model's context", fmt::format("{}", plan.length),
                fmt::format("at most {} (max_position_embeddings)", config.max_position_embeddings));
  }
  TrainBenchResult r;
  r.program_bytes = ResidentBytes();
  const train::StorePolicy policy{.compute = compute, .moments = plan.moments == "bf16" ? DType::kBF16 : DType::kF32};
  r.store_bytes = train::ParamStore::Bytes(config, policy);
  const int64_t available = AvailableMemory();
  if (available >= 0 && r.store_bytes > available) {
    throw Error("the training state does not fit into memory", io::HumanBytes(r.store_bytes),
                "at most " + io::HumanBytes(available), "--moments bf16, or a smaller model");
  }
  on_case("initialising");
  train::ParamStore store(config, policy);
  store.Init(ctx, 1, config.initializer_range);
  train::StepRunner runner(ctx, config, store, std::min(plan.micro_batch, plan.sequences), plan.length,
                           plan.full_recompute ? model::Recompute::kFull : model::Recompute::kPaper);
  r.work_bytes = runner.bytes();

  kernels::ArithmeticMeter meter(ctx);
  Rng rng(7);
  std::vector<int32_t> ids(static_cast<size_t>(plan.sequences * (plan.length + 1)));
  std::vector<double> seconds, forward, head, backward, optimizer;
  double measured = 0;
  for (int64_t step = 0; step <= kFewestSteps || measured < plan.seconds; ++step) {
    on_case(fmt::format("training step {}", step + 1));
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.NextBelow(config.vocab_size));
    Stopwatch whole, part;
    const train::StepResult result = runner.ForwardBackward(
        {.ids = ids, .sequences = plan.sequences, .length = plan.length, .starts = {}}, 0.3, 1e-4);
    part.Lap();
    const double norm = train::GradientNorm(ctx, store);
    train::AdamwStep(ctx, store, {.lr = 1e-4, .step = step + 1}, norm);
    train::UpdateRouterBias(store, result.sums.load, 1e-3);
    const double update = part.Lap(), all = whole.Lap();
    meter.Piece();
    if (step == 0) continue;  // pages are touched for the first time
    measured += all;
    seconds.push_back(all);
    forward.push_back(result.sums.forward_seconds);
    head.push_back(result.sums.head_seconds);
    backward.push_back(result.sums.backward_seconds);
    optimizer.push_back(update);
  }
  r.steps = static_cast<int64_t>(seconds.size());
  r.seconds = kernels::Median(seconds);
  r.forward_seconds = kernels::Median(forward);
  r.head_seconds = kernels::Median(head);
  r.backward_seconds = kernels::Median(backward);
  r.optimizer_seconds = kernels::Median(optimizer);
  r.tokens_per_s = static_cast<double>(plan.sequences * plan.length) / r.seconds;
  r.flops_per_token = train::TrainFlopsPerToken(config, plan.length);
  const kernels::ArithmeticMeter::Figure peak = compute == model::Compute::kBf16 ? meter.bf16() : meter.f32();
  r.peaks = kernels::Summary(kernels::ReadMeter(ctx), meter);
  r.peak_unit = peak.unit;
  r.peak_tera_per_s = peak.tera_per_s;
  r.mfu = r.flops_per_token * r.tokens_per_s / (peak.tera_per_s * 1e12);
  r.peak_bytes = PeakResidentBytes();
  r.overflows = runner.overflows();
  return r;
}

}  // namespace fathom::cli
