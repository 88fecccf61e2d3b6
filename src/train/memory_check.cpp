#include "train/memory_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/file.h"
#include "train/step.h"

namespace fathom::train {
namespace {

constexpr double kMemoryReserve = 0.05;  // of the memory that is free, left to others

int64_t Usable(int64_t available) {
  return static_cast<int64_t>(static_cast<double>(available) * (1 - kMemoryReserve));
}

// Planning takes time and some bytes for every token: batches of more tokens are planned only where it is likely that
// they fit.
constexpr int64_t kPlannedTokens = 1 << 17;

// Bytes of a pass over `micro_batch` sequences: the very plan, or what two plans of small batches say of a large one
// (all that grows, grows by the sequence) if that is more than `most`.
struct Estimate {
  double bytes = 0;
  bool planned = true;
};
Estimate StepBytes(Context& ctx, const Recipe& recipe, const model::ModelConfig& config, const ParamStore& store,
                   int64_t micro_batch, model::Recompute recompute, double most) {
  const int64_t length = recipe.data.sequence_length;
  const auto plan = [&](int64_t sequences) {
    return static_cast<double>(StepRunner::PlanBytes(ctx, config, store, sequences, length, recompute));
  };
  const int64_t small = std::max<int64_t>(1, kPlannedTokens / 8 / length);
  if (micro_batch > 8 * small) {
    const double low = plan(small), high = plan(2 * small);
    const double all = low + (high - low) / static_cast<double>(small) * static_cast<double>(micro_batch - small);
    if (all > most) return {all, false};
  }
  return {plan(micro_batch), true};
}

std::string Human(double bytes) { return io::HumanBytes(static_cast<int64_t>(std::min(bytes, 9e18))); }

}  // namespace

StorePolicy PolicyOf(const Recipe& recipe) {
  constexpr model::Compute kCompute[] = {model::Compute::kBf16, model::Compute::kF32, model::Compute::kFp8};
  return {.compute = kCompute[static_cast<size_t>(recipe.train.precision)],
          .dy_blocks = recipe.train.fp8_gradient_tiles == GradientTiles::k128x128,
          .moments = MomentsOf(recipe.train) == MomentType::kBf16 ? DType::kBF16 : DType::kF32,
          .ema = recipe.optimizer.ema_decay > 0};
}

void CheckStateMemory(const Recipe& recipe, const model::ModelConfig& config, int64_t available) {
  if (available < 0) return;
  const int64_t store = ParamStore::Bytes(config, PolicyOf(recipe));
  const int64_t most = Usable(available);
  if (store <= most) return;
  StorePolicy less = PolicyOf(recipe);
  less.moments = DType::kBF16;
  less.ema = false;
  const int64_t least = ParamStore::Bytes(config, less);
  throw Error("the model's training state does not fit into memory",
              fmt::format("{} for weights, gradients and moments", io::HumanBytes(store)),
              fmt::format("at most {}, what is free", io::HumanBytes(most)),
              least <= most ? fmt::format("train.optimizer_moments = \"bf16\" and no optimizer.ema_decay need {}",
                                          io::HumanBytes(least))
                            : "a smaller model, or a machine with more memory");
}

int64_t CheckStepMemory(Context& ctx, const Recipe& recipe, const model::ModelConfig& config, const ParamStore& store,
                        int64_t available) {
  const double most =
      available < 0 ? 9e18 : static_cast<double>(std::max<int64_t>(0, Usable(available) - store.bytes()));
  const auto bytes = [&](int64_t micro_batch, model::Recompute recompute) {
    return StepBytes(ctx, recipe, config, store, micro_batch, recompute, most);
  };
  const Estimate work = bytes(recipe.train.micro_batch, recipe.train.recompute);
  if (work.bytes <= most) return static_cast<int64_t>(work.bytes);
  const std::string what = "a step's activations do not fit into memory";
  const std::string got = fmt::format("{}{} for train.micro_batch = {}", work.planned ? "" : "about ",
                                      Human(work.bytes), recipe.train.micro_batch);
  const std::string expected = fmt::format("at most {}, what is free beside weights and moments", Human(most));
  for (const model::Recompute recompute : {recipe.train.recompute, model::Recompute::kFull}) {
    for (int64_t m = recipe.train.micro_batch; m >= 1; m /= 2) {
      if (recipe.train.micro_batch % m != 0) continue;  // batch sizes are multiples of the micro-batch
      const Estimate less = bytes(m, recompute);
      if (less.bytes > most) continue;
      throw Error(what, got, expected,
                  fmt::format("train.micro_batch = {}{} needs {}", m,
                              recompute == recipe.train.recompute ? "" : " with train.recompute = \"full\"",
                              Human(less.bytes)));
    }
  }
  throw Error(what, got, expected, "a shorter data.sequence_length, or a machine with more memory");
}

}  // namespace fathom::train
