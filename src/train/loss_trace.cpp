#include "train/loss_trace.h"

#include <fmt/format.h>

#include <algorithm>

namespace fathom::train {
namespace {

void Check(const model::ModelConfig& config, const std::vector<std::vector<int32_t>>& sequences) {
  if (sequences.empty()) throw Error("no sequences", "", "at least one line of token ids");
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].size() < 2) {
      throw Error(fmt::format("sequence {} has nothing to predict", i), fmt::format("{} ids", sequences[i].size()),
                  "at least 2: the last is a target only");
    }
    if (static_cast<int64_t>(sequences[i].size()) - 1 > config.max_position_embeddings) {
      throw Error(fmt::format("sequence {} is longer than the model's context", i),
                  fmt::format("{} ids", sequences[i].size()),
                  fmt::format("at most {} (max_position_embeddings) and one target", config.max_position_embeddings));
    }
    for (int32_t id : sequences[i]) {
      if (id < 0 || id >= config.vocab_size) {
        throw Error("token id out of range", fmt::format("{}", id),
                    fmt::format("0 to {} (vocab_size - 1)", config.vocab_size - 1));
      }
    }
  }
}

}  // namespace

LossTrace TraceLoss(Context& ctx, const model::ModelConfig& config, const model::ModelParams& params,
                    const std::vector<std::vector<int32_t>>& sequences, const LossTraceOptions& o) {
  Check(config, sequences);
  LossTrace out;
  out.store = std::make_unique<ParamStore>(config, StorePolicy{.compute = o.compute, .optimizer = o.steps > 0});
  ParamStore& store = *out.store;
  store.Assign(ctx, params);
  const size_t longest = std::max_element(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) {
                           return a.size() < b.size();
                         })->size();
  const int64_t length = static_cast<int64_t>(longest) - 1, count = static_cast<int64_t>(sequences.size());
  const model::Transformer transformer(config, store.params(), length);
  const model::ObjectivePlan plan =
      model::PlanObjective(transformer, ctx, store.grads(), 1, length, o.recompute, o.compute);
  Arena arena(plan.arena), tape(plan.tape);

  for (int64_t step = 0; step < std::max<int64_t>(o.steps, 1); ++step) {
    model::Losses mean;
    model::ObjectiveSums all;
    for (const std::vector<int32_t>& ids : sequences) {
      const model::TrainSequences one{
          .ids = ids, .sequences = 1, .length = static_cast<int64_t>(ids.size()) - 1, .starts = {}};
      const model::TargetCounts targets = model::CountTargets(one, transformer.mtp_depth());
      model::ObjectiveScale share{.targets = targets,  // of the mean over sequences of their own means
                                  .sequences = count,
                                  .mtp_loss_weight = o.mtp_loss_weight,
                                  .aux_loss_alpha = o.aux_loss_alpha};
      share.targets.main *= count;
      for (int64_t& n : share.targets.mtp) n *= count;
      const model::ObjectiveSums sums = model::ForwardBackward(
          transformer, ctx, arena, tape,
          {.batch = &one, .scale = &share, .grads = &store.grads(), .recompute = o.recompute, .compute = o.compute});
      const model::Losses part = model::LossesOf(sums, share);
      mean.main += part.main;
      mean.mtp += part.mtp;
      mean.balance += part.balance;
      mean.total += part.total;
      all.Add(sums);
    }
    const std::pair<const char*, double> losses[] = {
        {"main", mean.main}, {"mtp", mean.mtp}, {"balance", mean.balance}, {"total", mean.total}};
    for (const auto& [name, value] : losses) {
      if (step == 0) out.values[fmt::format("loss.{}", name)] = {static_cast<float>(value)};
      if (o.steps > 0) out.values[fmt::format("steps.{}", name)].push_back(static_cast<float>(value));
    }
    if (o.steps == 0) break;
    const double norm = GradientNorm(ctx, store);
    out.values["steps.grad_norm"].push_back(static_cast<float>(norm));
    AdamwOptions adamw = o.adamw;
    adamw.step = step + 1;
    AdamwStep(ctx, store, adamw, norm);
    UpdateRouterBias(store, all.load, o.bias_update_speed);
  }
  return out;
}

}  // namespace fathom::train
