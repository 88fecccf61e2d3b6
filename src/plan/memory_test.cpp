#include "plan/memory.h"

#include <gtest/gtest.h>

#include "model/params.h"
#include "plan/flops.h"
#include "plan/pipeline.h"
#include "plan/test_config.h"
#include "train/memory_check.h"
#include "train/step.h"

namespace fathom::plan {
namespace {

using model::Recompute;
using train::Precision;

double State(const DeviceMemory& m) { return m.Weights() + m.gradients + m.masters + m.moments + m.ema; }
double Step(const DeviceMemory& m) { return m.activations + m.cache + m.workspace; }

train::Recipe RecipeOf(Precision precision, bool small_moments) {
  train::Recipe recipe;
  recipe.train.precision = precision;
  recipe.train.optimizer_moments = small_moments ? train::MomentType::kBf16 : train::MomentType::kFp32;
  recipe.optimizer.ema_decay = small_moments ? 0.9 : 0;
  return recipe;
}

// One process: weights, gradients, masters and moments are those of the trainer, but for the alignment of each piece of
// a tensor to 64 bytes and, in FP8, for scales of blocks that are not full.
TEST(PlanMemory, TheTrainersState) {
  for (const char* name : {"tiny-1m", "fathom-16m", "bench-train-106m"}) {
    const model::ModelConfig c = Config(name);
    const Layout layout = MakeLayout(c, {}, 512);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp8}) {
      for (const bool small : {false, true}) {
        const MemoryArgs args{
            .precision = precision, .moment_bytes = small ? 2 : 4, .ema = small, .micro_batch = 1, .length = 512};
        const double planned = State(MemoryOf(c, layout, args, {{1, 0}})[0]);
        const auto stored =
            static_cast<double>(train::ParamStore::Bytes(c, train::PolicyOf(RecipeOf(precision, small))));
        const auto tensors = static_cast<double>(model::CountParams(c).tensors);
        EXPECT_LE(planned, stored) << name;
        EXPECT_GE(planned, stored - 7 * 64 * tensors) << name;  // at most seven pieces of a tensor
      }
    }
  }
}

// What a step takes beside it is estimated from the widest layer, while the trainer plans it by running the code: they
// agree within two fifths.
TEST(PlanMemory, TheTrainersStep) {
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = Isa::kReference, .verbose = {}};
  for (const char* name : {"tiny-1m", "fathom-16m", "bench-train-106m"}) {
    const model::ModelConfig c = Config(name);
    const Layout layout = MakeLayout(c, {}, 512);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp8}) {
      const train::ParamStore store(c, train::PolicyOf(RecipeOf(precision, false)));
      for (const Recompute recompute : {Recompute::kPaper, Recompute::kFull}) {
        for (const int64_t sequences : {1, 4, 16}) {
          const MemoryArgs args{
              .precision = precision, .recompute = recompute, .micro_batch = sequences, .length = 512};
          const double planned = Step(MemoryOf(c, layout, args, {{1, 0}})[0]);
          const auto takes =
              static_cast<double>(train::StepRunner::PlanBytes(ctx, c, store, sequences, 512, recompute));
          EXPECT_NEAR(planned / takes, 1, 0.4)
              << name << ", precision " << static_cast<int>(precision) << ", " << sequences;
        }
      }
    }
  }
}

// Rank 1 of the report's layout: layers 4 to 7 and 56 to 59, all with experts, 4 of 256 here.
TEST(PlanMemory, ADeviceOfTheReport) {
  const model::ModelConfig c = Config("deepseek-v3");
  const Layout layout =
      MakeLayout(c, {.pipeline = 16, .expert = 64, .data = 128, .schedule = PipelineSchedule::kDualPipe}, 4096);
  const MemoryArgs args{.precision = Precision::kFp8, .moment_bytes = 2, .ema = true, .micro_batch = 1, .length = 4096};
  const Timeline line = Simulate(PipelineSchedule::kDualPipe, 16, 120, {});
  const DeviceMemory m = MemoryOf(c, layout, args, line.alive)[1];
  constexpr double kAttention = 187'105'280, kExpert = 3 * 7168 * 2048, kGate = 256 * 7168, kNorms = 2 * 7168 + 2048;
  const double rest = kAttention + kExpert + kGate + kNorms;
  EXPECT_EQ(m.gradients, 4 * 8 * (rest + 4 * kExpert));
  // ZeRO-1: 128 devices and their mirror images hold the same attention, 2 of 128 and their mirror images an expert.
  EXPECT_NEAR(m.masters, 4 * 8 * ((rest + 256) / 256 + 4 * kExpert / 4), 1);
  EXPECT_NEAR(m.moments, 2 * 2 * 8 * (rest / 256 + 4 * kExpert / 4), 1);
  EXPECT_NEAR(m.weights_fp8, 8 * (kAttention + 5 * kExpert) * (1 + 4.0 / 16384), 1);
  EXPECT_EQ(m.weights_bf16, 0);
  EXPECT_EQ(m.weights_f32, 4 * 8 * (kGate + kNorms + 256));
  // 17 micro-batches in flight, of 4 layers each. A token of a layer: o_proj's input in E5M6 with a byte a tile, nine
  // experts' gate and up in FP8 with float32 scales, eight rows that were sent with a byte a tile.
  const double cache = 16384 * (1.5 + 1.0 / 128) + 9 * 2 * 2048 * (1 + 4.0 / 128) + 8 * 7168 * (1 + 1.0 / 128);
  EXPECT_NEAR(m.cache, 17 * 4 * 4096 * cache, 1e3);
  const double kept = 2 * (2 * 7168 + 1536 + 576) + 4 * 128 + 4 * 256 + 16 * 8;
  EXPECT_NEAR(m.activations, 17 * 4 * 4096 * kept, 1e3);
  EXPECT_NEAR(m.ema, 4 * 8 * (rest / 256 + 4 * kExpert / 4), 1);
}

// 1F1B: the first rank keeps most, the last one micro-batch; MTP's embedding is a copy there.
TEST(PlanMemory, OneDirection) {
  const model::ModelConfig c = Config("deepseek-v3");
  const MemoryArgs args{.micro_batch = 1, .length = 4096};
  const Layout layout = MakeLayout(c, {.pipeline = 4, .expert = 8, .data = 8}, 4096);
  const std::vector<DeviceMemory> ranks = MemoryOf(c, layout, args, Simulate(PipelineSchedule::k1F1B, 4, 16, {}).alive);
  ASSERT_EQ(ranks.size(), 4u);
  EXPECT_GT(ranks[0].activations, 3.5 * ranks[3].activations);
  EXPECT_EQ(ranks[0].cache, 0);
  double gradients = 0;
  for (const DeviceMemory& m : ranks) gradients += m.gradients;
  int64_t values = 3 * c.vocab_size * c.hidden_size + c.hidden_size;  // embedding twice, head
  for (int64_t layer = 0; layer < Layers(c); ++layer) {
    const LayerSize s = SizeOfLayer(c, layer);
    values += s.Total() - s.bias - s.expert * s.experts * 7 / 8;
  }
  EXPECT_EQ(gradients, 4.0 * static_cast<double>(values));
}

// ZeRO-1 off: masters and moments whole on each device, which then needs no copies of what is float32.
TEST(PlanMemory, WithoutZero) {
  const model::ModelConfig c = Config("tiny-1m");
  const MemoryArgs args{.micro_batch = 1, .length = 128};
  const DeviceMemory spread = MemoryOf(c, MakeLayout(c, {.data = 4}, 128), args, {{1, 0}})[0];
  const DeviceMemory whole = MemoryOf(c, MakeLayout(c, {.data = 4, .zero = 0}, 128), args, {{1, 0}})[0];
  EXPECT_NEAR(whole.masters, 4 * spread.masters, 1);
  EXPECT_NEAR(whole.moments, 4 * spread.moments, 1);
  EXPECT_EQ(whole.gradients, spread.gradients);
  EXPECT_GT(spread.weights_f32, 0);
  EXPECT_EQ(whole.weights_f32, 0);
}

}  // namespace
}  // namespace fathom::plan
