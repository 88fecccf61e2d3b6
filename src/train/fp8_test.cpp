// FP8 mixed precision: what the store holds, gradients beside those of float32, what the tape keeps, the same bits for
// any threads, and names for what is not finite.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_folder.h"
#include "checkpoint/write.h"
#include "core/rng.h"
#include "io/safetensors.h"
#include "model/fp8.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace fathom::train {
namespace {

using model::Compute;
using model::Recompute;

// Projections of several blocks, some with a short one at the end.
model::ModelConfig WideConfig() {
  model::ModelConfig c = checkpoint::TinyConfig();
  c.hidden_size = 256;
  c.intermediate_size = 192;
  c.moe_intermediate_size = 128;
  c.q_lora_rank = 128;
  c.kv_lora_rank = 128;
  c.qk_nope_head_dim = 32;
  c.qk_rope_head_dim = 16;
  c.v_head_dim = 64;
  return c;
}

// Every expert for every token: no rounding sends a token elsewhere.
void Everyone(model::ModelConfig& c) {
  c.num_experts_per_tok = c.n_routed_experts;
  c.n_group = c.topk_group = 1;
}

struct Sequences {
  std::vector<int32_t> ids;
  int64_t count = 0, length = 0;
  model::TrainSequences view() const { return {.ids = ids, .sequences = count, .length = length}; }
};

Sequences RandomSequences(int64_t count, int64_t length, int64_t vocabulary) {
  Rng rng(11);
  Sequences out{.ids = {}, .count = count, .length = length};
  for (int64_t i = 0; i < count * (length + 1); ++i)
    out.ids.push_back(static_cast<int32_t>(rng.NextBelow(static_cast<uint32_t>(vocabulary))));
  return out;
}

class Fp8 : public testing::Test {
 protected:
  std::unique_ptr<ParamStore> Store(Compute compute, bool dy_blocks = false) {
    auto store = std::make_unique<ParamStore>(
        config_, StorePolicy{.compute = compute, .dy_blocks = dy_blocks, .moments = DType::kBF16});
    store->Init(ctx_, 5, 0.05);
    return store;
  }
  // Gradients of all parameters, one after the other.
  std::vector<float> Gradients(ParamStore& store, int threads, Recompute recompute = Recompute::kPaper) {
    ThreadPool pool(threads);
    Context ctx{.pool = pool, .isa = Context::IsaFromEnvironment(), .verbose = {}};
    StepRunner runner(ctx, config_, store, 2, sequences_.length, recompute);
    const StepResult result = runner.ForwardBackward(sequences_.view(), 0.3, 1e-4);
    EXPECT_TRUE(std::isfinite(result.losses.total));
    EXPECT_EQ(runner.overflows(), 0);
    std::vector<float> out;
    for (const StoredTensor& t : store.tensors()) {
      if (t.grad) out.insert(out.end(), t.grad, t.grad + t.n);
    }
    DropGradients(ctx, store);
    return out;
  }

  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .isa = Context::IsaFromEnvironment(), .verbose = {}};
  model::ModelConfig config_ = WideConfig();
  Sequences sequences_ = RandomSequences(2, 150, 40);
};

TEST_F(Fp8, TheStoreHoldsBlocksOfItsMasters) {
  const auto store = Store(Compute::kFp8);
  const auto check = [&] {
    int64_t quantised = 0;
    for (const StoredTensor& t : store->tensors()) {
      EXPECT_EQ(t.fp8 != nullptr, t.kind == model::ParamKind::kLinear) << t.name;
      const bool rounded = t.name == "lm_head.weight" || t.name.ends_with("eh_proj.weight");
      EXPECT_EQ(t.bf16 != nullptr, rounded) << t.name;
      if (!t.fp8) continue;
      ++quantised;
      // The checkpoint's own quantising, of another implementation: its floor of 1e-4 lies below these weights.
      std::vector<uint8_t> codes(static_cast<size_t>(t.n));
      std::vector<float> scales(static_cast<size_t>((t.shape[0] + 127) / 128 * ((t.shape[1] + 127) / 128)));
      checkpoint::QuantizeBlocks(t.master, t.shape[0], t.shape[1], false, codes.data(), scales.data());
      EXPECT_TRUE(std::equal(codes.begin(), codes.end(), t.fp8)) << t.name;
      EXPECT_TRUE(std::equal(scales.begin(), scales.end(), t.scales)) << t.name;
    }
    EXPECT_GT(quantised, 30);
  };
  check();
  const std::vector<uint8_t> before(store->tensors()[2].fp8, store->tensors()[2].fp8 + 1000);
  StepRunner runner(ctx_, config_, *store, 2, sequences_.length, Recompute::kPaper);
  runner.ForwardBackward(sequences_.view(), 0.3, 1e-4);
  AdamwStep(ctx_, *store, {.lr = 1e-2}, GradientNorm(ctx_, *store));
  check();
  EXPECT_FALSE(std::equal(before.begin(), before.end(), store->tensors()[2].fp8));
}

TEST_F(Fp8, PowersOfTwoWhereTheReportHasThem) {
  const auto store = Store(Compute::kFp8);
  const model::BlockParams& p = store->params().layers[1];
  for (const model::Weight* w : {&p.self_attn.o_proj, &p.moe.experts[3].gate_proj, &p.moe.experts[3].up_proj,
                                 &p.moe.experts[3].down_proj, &p.moe.shared_experts.down_proj})
    EXPECT_TRUE(w->ue8m0);
  for (const model::Weight* w : {&p.self_attn.q_a_proj, &p.self_attn.q_b_proj, &p.self_attn.kv_a_proj_with_mqa,
                                 &p.self_attn.kv_b_proj, &p.moe.gate})
    EXPECT_FALSE(w->ue8m0);
  EXPECT_TRUE(store->grads().layers[1].self_attn.o_proj.ue8m0);  // for the weight gradient's operands
  EXPECT_EQ(store->params().lm_head.dtype, DType::kBF16);
  EXPECT_EQ(p.moe.gate.dtype, DType::kF32);
}

// E4M3 has 4 bits of mantissa less than bf16: 16 times the error, of one rounding as of what some dozens of products
// hand on. Some tensors are rounded more often (turned tiles, what the tape keeps): at most twice that.
constexpr double kErrorOfBf16 = 2 * 16;

// |got - expected| / |expected|.
double RelativeError(std::span<const float> got, std::span<const float> expected) {
  double squares = 0, difference = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    squares += static_cast<double>(expected[i]) * expected[i];
    difference += std::pow(static_cast<double>(got[i]) - expected[i], 2);
  }
  return squares > 0 ? std::sqrt(difference / squares) : 0;
}

TEST_F(Fp8, GradientsLieBesideThoseOfFloat32) {
  Everyone(config_);
  const auto store = Store(Compute::kF32);
  const std::vector<float> expected = Gradients(*store, 2), bf16 = Gradients(*Store(Compute::kBf16), 2),
                           fp8 = Gradients(*Store(Compute::kFp8), 2);
  size_t at = 0;
  for (const StoredTensor& t : store->tensors()) {
    if (!t.grad) continue;
    const auto of = [&](const std::vector<float>& all) { return std::span(all).subspan(at, static_cast<size_t>(t.n)); };
    const double error = RelativeError(of(fp8), of(expected));
    EXPECT_LE(error, kErrorOfBf16 * RelativeError(of(bf16), of(expected))) << t.name;
    EXPECT_LT(error, 0.5) << t.name;  // chance: 1.4
    at += static_cast<size_t>(t.n);
  }
  EXPECT_EQ(at, expected.size());
  EXPECT_GT(RelativeError(fp8, expected), 4 * RelativeError(bf16, expected));
}

TEST_F(Fp8, ThreadsAndRecomputationDoNotShow) {
  const auto store = Store(Compute::kFp8);
  const std::vector<float> two = Gradients(*store, 2);
  EXPECT_TRUE(Gradients(*store, 1) == two);
  EXPECT_TRUE(Gradients(*store, 3) == two);
  EXPECT_TRUE(Gradients(*store, 2, Recompute::kFull) == two);
}

// What the experts get has been quantised once, before it is sent: their products make the same codes again, to the
// bit.
TEST_F(Fp8, CodesOfCodesAreTheSame) {
  constexpr int64_t kRows = 37, kWidth = 200;
  Rng rng(3);
  std::vector<float> x(kRows * kWidth), again(x.size()), other(x.size());
  for (float& v : x) v = static_cast<float>(rng.NextNormal()) * std::exp2(static_cast<float>(rng.NextBelow(40)) - 20);
  const auto pack = [&](const std::vector<float>& from, std::vector<float>& to, kernels::TileFormat format) {
    std::vector<std::byte> codes(static_cast<size_t>(kRows * kernels::TileRowBytes(format, kWidth)));
    std::vector<float> scales(kRows * 2);
    kernels::PackTiles(ctx_, {.codes = codes.data(),
                              .scales = scales.data(),
                              .x = from.data(),
                              .ldx = kWidth,
                              .rows = kRows,
                              .n = kWidth,
                              .format = format,
                              .ue8m0 = true});
    kernels::UnpackTiles(ctx_, {.x = to.data(),
                                .ldx = kWidth,
                                .codes = codes.data(),
                                .scales = scales.data(),
                                .rows = kRows,
                                .n = kWidth,
                                .format = format});
  };
  for (const kernels::TileFormat format : {kernels::TileFormat::kE4M3, kernels::TileFormat::kE5M6}) {
    pack(x, again, format);
    pack(again, other, format);
    EXPECT_TRUE(again == other);
    EXPECT_FALSE(x == again);
  }
  // And a product takes them as it takes the values.
  std::vector<float> weight(64 * kWidth), y(kRows * 64), z(y.size());
  for (float& v : weight) v = static_cast<float>(rng.NextNormal());
  std::vector<uint8_t> codes(weight.size());
  std::vector<float> scales(2);
  checkpoint::QuantizeBlocks(weight.data(), 64, kWidth, false, codes.data(), scales.data());
  const kernels::Weight w{
      .data = codes.data(), .dtype = DType::kF8E4M3, .rows = 64, .cols = kWidth, .scale = scales.data(), .ue8m0 = true};
  Arena scratch(1 << 24);
  const auto product = [&](const std::vector<float>& from, std::vector<float>& to) {
    const kernels::LinearJob job{.y = to.data(), .ldy = 64, .x = from.data(), .ldx = kWidth, .m = kRows, .w = w};
    kernels::Linear(ctx_, scratch, {std::span(&job, 1), Compute::kFp8});
  };
  pack(x, again, kernels::TileFormat::kE4M3);
  product(x, y);
  product(again, z);
  EXPECT_TRUE(y == z);
}

// gate and up from 4 bytes to 1 and 4 a tile of 128, attention's output to 1.5.
TEST_F(Fp8, TheTapeIsThreeQuartersOfBf16sAtMost) {
  const model::ModelConfig fathom_16m =
      model::ReadConfigFile(std::string(checkpoint::kConfigs) + "fathom-16m.json").config;
  for (const model::ModelConfig& config : {WideConfig(), fathom_16m}) {
    ParamStore store(config, StorePolicy{.compute = Compute::kFp8, .optimizer = false});
    const auto tape = [&](Compute compute) {
      return static_cast<double>(StepRunner::PlanTapeBytes(ctx_, config, store, 4, 256, Recompute::kPaper, compute));
    };
    EXPECT_LT(tape(Compute::kFp8), 0.75 * tape(Compute::kBf16));
    EXPECT_EQ(tape(Compute::kF32), tape(Compute::kBf16));
    StepRunner runner(ctx_, config, store, 4, 256, Recompute::kPaper);
    EXPECT_EQ(static_cast<double>(runner.tape_bytes()), tape(Compute::kFp8));
  }
}

// Every magnitude to 448 whose low 12 bits are all of few kinds: ties, their neighbours, subnormal codes.
TEST(Fp8Values, RoundingToE4M3IsItsCodes) {
  for (uint32_t high = 0; high <= 0x43e00; ++high) {
    for (const uint32_t low : {0u, 1u, 0x800u, 0xfffu}) {
      const uint32_t bits = high << 12 | low;
      const auto x = std::bit_cast<float>(bits);
      if (!(x <= kE4M3Max)) continue;
      ASSERT_EQ(model::RoundToE4M3(x), E4M3ToF32(F32ToE4M3(x))) << x;
      ASSERT_EQ(model::RoundToE4M3(-x), E4M3ToF32(F32ToE4M3(-x))) << -x;
    }
  }
}

// So many tokens that keys and values are made of some heads at a time, 5 of 8 by the memory alone: the heads' rows of
// kv_b_proj begin at a block of its scales all the same, which the gradient's product insists on.
TEST_F(Fp8, GroupsOfHeadsBeginAtABlockOfScales) {
  config_.num_attention_heads = 8;
  config_.v_head_dim = 32;
  ParamStore store(config_, StorePolicy{.compute = Compute::kFp8, .optimizer = false});
  EXPECT_GT(StepRunner::PlanBytes(ctx_, config_, store, 1, 60'000, Recompute::kPaper), 0);
}

TEST_F(Fp8, BlocksOfGradientsAreCoarser) {
  const auto tiles = Store(Compute::kFp8), blocks = Store(Compute::kFp8, true);
  EXPECT_FALSE(Gradients(*tiles, 2) == Gradients(*blocks, 2));
  StepRunner runner(ctx_, config_, *tiles, 2, sequences_.length, Recompute::kPaper);
  model::Fp8GradientErrors errors;
  runner.ForwardBackward(sequences_.view(), 0.3, 1e-4, &errors);
  EXPECT_GT(errors.tensors, 30);
  const auto count = static_cast<double>(errors.tensors);
  // Rounding to 3 bits of mantissa: between 2^-4 / 4 and 2^-4 of a value where no code is subnormal.
  EXPECT_GT(errors.tiles / count, 0x1p-6);
  EXPECT_LT(errors.tiles / count, 0x1p-4);
  EXPECT_GT(errors.blocks, errors.tiles);
}

TEST_F(Fp8, WhatIsNotFiniteIsNamed) {
  const auto store = Store(Compute::kFp8);
  StepRunner runner(ctx_, config_, *store, 2, sequences_.length, Recompute::kPaper);
  EXPECT_EQ(runner.FirstNonFinite(sequences_.view(), 0.3, 1e-4), "");
  // The first output of a weight whose sums are beyond float32, itself finite.
  const auto with = [&](const std::string& name) {
    StoredTensor* t = const_cast<StoredTensor*>(store->Find(name));
    const std::vector<float> before(t->master, t->master + t->n);
    for (int64_t i = 0; i < t->n; ++i) t->master[i] = std::copysign(3e38f, t->master[i]);
    store->Refresh(ctx_, false);
    const std::string first = runner.FirstNonFinite(sequences_.view(), 0.3, 1e-4);
    std::copy(before.begin(), before.end(), t->master);
    store->Refresh(ctx_, false);
    DropGradients(ctx_, *store);
    return first;
  };
  EXPECT_EQ(with("model.layers.1.mlp.experts.5.up_proj.weight"), "layers.1.mlp.experts.5.up_proj output");
  EXPECT_EQ(with("model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), "layers.0.self_attn.kv_a_proj_with_mqa output");
  EXPECT_EQ(with("model.layers.2.mlp.shared_experts.gate_proj.weight"), "layers.2.mlp.shared_experts.gate_proj output");
  EXPECT_EQ(with("model.layers.0.mlp.down_proj.weight"), "layers.0.mlp.down_proj output");
  EXPECT_EQ(with("lm_head.weight"), "lm_head output");
  // A weight of the MTP loss that float32 does not hold: the head's gradient at that depth.
  EXPECT_EQ(runner.FirstNonFinite(sequences_.view(), 1e300, 1e-4), "lm_head gradient");
  DropGradients(ctx_, *store);
  EXPECT_EQ(runner.FirstNonFinite(sequences_.view(), 0.3, 1e-4), "");
}

// Golden models of odd widths against their own gradients in float32.
TEST(Fp8Golden, GradientsOfPublishedShapes) {
  namespace fs = std::filesystem;
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = Context::IsaFromEnvironment(), .verbose = {}};
  int64_t models = 0;
#ifdef __SANITIZE_ADDRESS__
  const std::vector<std::string> names = {"v3-odd"};
#else
  const std::vector<std::string> names = {"v3-odd", "v3-tiny", "v3-mtp2", "v2-lite-tiny"};
#endif
  for (const std::string& name : names) {
    std::string folder = std::string(checkpoint::kTestGolden) + name;
    if (!fs::exists(folder)) folder = std::string(checkpoint::kShared) + "golden/" + name;
    if (!fs::exists(folder)) continue;
    ++models;
    const checkpoint::Checkpoint checkpoint = checkpoint::Open(folder);
    const io::SafetensorsFile file = io::SafetensorsFile::Open(folder + "/golden.safetensors").Value();
    const TensorView ids = file.Get("train_ids");
    Sequences sequences{.ids = {}, .count = ids.shape[0], .length = ids.shape[1] - 1};
    for (int64_t i = 0; i < ids.size(); ++i) {
      sequences.ids.push_back(ids.dtype == DType::kI64 ? static_cast<int32_t>(static_cast<const int64_t*>(ids.data)[i])
                                                       : static_cast<const int32_t*>(ids.data)[i]);
    }
    model::ModelConfig config = checkpoint.config();
    Everyone(config);
    std::vector<std::vector<float>> gradients;
    for (const Compute compute : {Compute::kF32, Compute::kBf16, Compute::kFp8}) {
      ParamStore store(config, StorePolicy{.compute = compute, .optimizer = false});
      store.Assign(ctx, checkpoint.params());
      StepRunner runner(ctx, config, store, 1, sequences.length, Recompute::kPaper);
      runner.ForwardBackward(sequences.view(), 0.3, 1e-4);
      EXPECT_EQ(runner.overflows(), 0);
      std::vector<float>& all = gradients.emplace_back();
      for (const StoredTensor& t : store.tensors()) {
        if (t.grad) all.insert(all.end(), t.grad, t.grad + t.n);
      }
    }
    EXPECT_LT(RelativeError(gradients[2], gradients[0]), kErrorOfBf16 * RelativeError(gradients[1], gradients[0]))
        << name;
    EXPECT_LT(RelativeError(gradients[2], gradients[0]), 1) << name;  // chance: 1.4
  }
  if (models == 0) GTEST_SKIP() << "needs tests/golden or ../shared/golden";
}

}  // namespace
}  // namespace fathom::train
