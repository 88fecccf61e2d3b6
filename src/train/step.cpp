#include "train/step.h"

#include <algorithm>

#include "core/nonfinite.h"

namespace fathom::train {
namespace {

model::ObjectivePlan Plan(Context& ctx, const model::ModelConfig& config, const ParamStore& store, int64_t micro_batch,
                          int64_t length, model::Recompute recompute) {
  const model::Transformer transformer(config, store.params(), 1);
  return model::PlanObjective(transformer, ctx, store.grads(), micro_batch, length, recompute, store.policy().compute);
}

model::TrainSequences Part(const model::TrainSequences& b, int64_t begin, int64_t count) {
  const int64_t width = b.length + 1;
  return {
      .ids = b.ids.subspan(static_cast<size_t>(begin * width), static_cast<size_t>(count * width)),
      .sequences = count,
      .length = b.length,
      .isolate = b.isolate,
      .starts = b.starts.empty() ? b.starts : b.starts.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
      .learned = b.learned.empty()
                     ? b.learned
                     : b.learned.subspan(static_cast<size_t>(begin * width), static_cast<size_t>(count * width))};
}

}  // namespace

int64_t StepRunner::PlanBytes(Context& ctx, const model::ModelConfig& config, const ParamStore& store,
                              int64_t micro_batch, int64_t length, model::Recompute recompute) {
  const model::ObjectivePlan plan = Plan(ctx, config, store, micro_batch, length, recompute);
  return plan.arena + plan.tape;
}

int64_t StepRunner::PlanTapeBytes(Context& ctx, const model::ModelConfig& config, const ParamStore& store,
                                  int64_t micro_batch, int64_t length, model::Recompute recompute,
                                  model::Compute compute) {
  const model::ModelParams params = model::MakeParams(config);  // the tape is no matter of their types
  const model::Transformer transformer(config, params, 1);
  return model::PlanObjective(transformer, ctx, store.grads(), micro_batch, length, recompute, compute).tape;
}

StepRunner::StepRunner(Context& ctx, const model::ModelConfig& config, ParamStore& store, int64_t micro_batch,
                       int64_t length, model::Recompute recompute)
    : StepRunner(ctx, config, store, micro_batch, length, recompute,
                 Plan(ctx, config, store, micro_batch, length, recompute)) {}

StepRunner::StepRunner(Context& ctx, const model::ModelConfig& config, ParamStore& store, int64_t micro_batch,
                       int64_t length, model::Recompute recompute, const model::ObjectivePlan& plan)
    : ctx_(ctx),
      store_(store),
      micro_batch_(micro_batch),
      recompute_(recompute),
      transformer_(config, store.params(), length),
      arena_(plan.arena),
      tape_(plan.tape) {}

StepResult StepRunner::Run(const model::TrainSequences& batch, double mtp_loss_weight, double aux_loss_alpha,
                           const Extras& extras) {
  FATHOM_CHECK(static_cast<int64_t>(batch.ids.size()) == batch.sequences * (batch.length + 1));
  const model::ObjectiveScale scale{.targets = model::CountTargets(batch, transformer_.mtp_depth()),
                                    .sequences = batch.sequences,
                                    .mtp_loss_weight = mtp_loss_weight,
                                    .aux_loss_alpha = aux_loss_alpha};
  StepResult result;
  for (int64_t s = 0; s < batch.sequences; s += micro_batch_) {
    const model::TrainSequences part = Part(batch, s, std::min(micro_batch_, batch.sequences - s));
    result.sums.Add(model::ForwardBackward(transformer_, ctx_, arena_, tape_,
                                           {.batch = &part,
                                            .scale = &scale,
                                            .grads = extras.backward ? &store_.grads() : nullptr,
                                            .recompute = recompute_,
                                            .compute = store_.policy().compute,
                                            .dy_blocks = store_.policy().dy_blocks,
                                            .watch = extras.watch,
                                            .gradient_errors = s == 0 ? extras.errors : nullptr}));
  }
  result.losses = model::LossesOf(result.sums, scale);
  result.targets = scale.targets;
  return result;
}

StepResult StepRunner::ForwardBackward(const model::TrainSequences& batch, double mtp_loss_weight,
                                       double aux_loss_alpha, model::Fp8GradientErrors* errors) {
  return Run(batch, mtp_loss_weight, aux_loss_alpha, {.errors = errors});
}

std::string StepRunner::FirstNonFinite(const model::TrainSequences& batch, double mtp_loss_weight,
                                       double aux_loss_alpha) {
  std::string first;
  const model::WatchFn watch = [&](const std::string& name, const float* x, int64_t m, int64_t n, const int32_t* rows) {
    if (!first.empty()) return;
    if (!rows && kernels::FirstNonFinite(ctx_, x, m * n) >= 0) first = name;
    for (int64_t i = 0; rows && first.empty() && i < m; ++i) {
      if (FirstNonFiniteOf(x + rows[i] * n, DType::kF32, n) >= 0) first = name;
    }
  };
  Run(batch, mtp_loss_weight, aux_loss_alpha, {.watch = &watch});
  return first;
}

StepResult StepRunner::Evaluate(const model::TrainSequences& batch) { return Run(batch, 0, 0, {.backward = false}); }

}  // namespace fathom::train
