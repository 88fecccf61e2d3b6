#include "engine/step_cost.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "engine/latent_pool.h"

namespace fathom::engine {
namespace {

// 2 layers, the first dense; 4 experts, 2 a token. Addresses stand for weights and are never read.
struct Tiny {
  model::ModelConfig config;
  model::ModelParams params;
  explicit Tiny(DType linear) {
    config.vocab_size = 100;
    config.hidden_size = 8;
    config.intermediate_size = 16;
    config.moe_intermediate_size = 4;
    config.num_hidden_layers = 2;
    config.first_k_dense_replace = 1;
    config.num_attention_heads = 2;
    config.n_routed_experts = 4;
    config.num_experts_per_tok = 2;
    config.q_lora_rank = 6;
    config.kv_lora_rank = 10;
    config.qk_nope_head_dim = 4;
    config.qk_rope_head_dim = 2;
    config.v_head_dim = 3;
    params = model::MakeParams(config);
    uintptr_t next = 1 << 20;
    model::ForEachParam(config, params, [&](const model::ParamInfo& info, model::Weight& w) {
      w.data = reinterpret_cast<const void*>(next);
      w.dtype = info.kind == model::ParamKind::kLinear ? linear : DType::kBF16;
      next += 1 << 12;
      if (w.dtype == DType::kF8E4M3) w.scale = reinterpret_cast<const float*>(next);
      next += 1 << 12;
    });
  }
};

// Per layer: q_a 6*8, q_b 2*6*6, kv_a 12*8, kv_b 2*7*10, o 8*6, and norms 8+6+10+8.
constexpr int64_t kAttention = 48 + 72 + 96 + 140 + 48, kNorms = 32;
constexpr int64_t kDense = 3 * 16 * 8, kExpert = 3 * 4 * 8, kGate = 4 * 8 + 4;

TEST(StepCost, BytesOfAStepCountEachWeightOnce) {
  Tiny m(DType::kBF16);
  ExpertUse use(m.config);
  const std::vector<int32_t> chosen = {3, 1, 1, 3};  // two tokens, the same two experts
  use.probe().on_tensor("router_ids", 1, {chosen.data(), DType::kI32, {2, 2}});
  use.probe().on_tensor("router_weights", 0, {chosen.data(), DType::kF32, {2, 2}});
  EXPECT_EQ(use.Distinct(1), 2);
  EXPECT_EQ(use.DistinctPerLayer(), 2);
  const WeightMap map(m.config, m.params);
  const std::vector<int32_t> ids = {5, 7};
  const int64_t body = 2 * (kAttention + kNorms) + kDense + kGate + 2 * kExpert + 8 + 2 * 8;
  EXPECT_EQ(kernels::TotalBytes(map.Body(use, ids)), 2 * body);
  EXPECT_EQ(kernels::TotalBytes(map.Head()), 2 * 100 * 8);
  EXPECT_EQ(kernels::TotalBytes(map.All()), 2 * model::CountParams(m.config).main);
  EXPECT_EQ(use.Tokens(1, 3), 2);
  use.Clear();
  EXPECT_EQ(use.Distinct(1), 0);
}

TEST(StepCost, ARooflineTakesTheLongerOfBytesAndOperations) {
  Tiny m(DType::kBF16);
  ExpertUse use(m.config);
  const std::vector<int32_t> chosen = {3, 1, 2, 3};  // two tokens: expert 3 twice, 1 and 2 once
  use.probe().on_tensor("router_ids", 1, {chosen.data(), DType::kI32, {2, 2}});
  const WeightMap map(m.config, m.params);
  const double all = std::numeric_limits<double>::infinity();
  // Bytes alone: as Body(), but for the embedding's rows.
  const int64_t body = 2 * (kAttention + kNorms) + kDense + kGate + 3 * kExpert + 8;
  EXPECT_DOUBLE_EQ(map.BodySeconds(use, 2, 1, all), 2 * body);
  EXPECT_DOUBLE_EQ(map.HeadSeconds(2, 1, all), 2 * 100 * 8);
  // Operations alone: of vectors none; an expert as often as it was chosen.
  const int64_t matrices = 2 * kAttention + kDense + 4 * 8;
  EXPECT_DOUBLE_EQ(map.BodySeconds(use, 2, all, 1), 2 * (2 * matrices + 4 * kExpert));
  EXPECT_DOUBLE_EQ(map.HeadSeconds(2, all, 1), 2 * 2 * 100 * 8);
  // At 1.5 operations a byte one row takes longer to read, two to multiply.
  EXPECT_DOUBLE_EQ(map.HeadSeconds(1, 1, 1.5), 2 * 100 * 8);
  EXPECT_DOUBLE_EQ(map.HeadSeconds(2, 1, 1.5), 2 * 2 * 100 * 8 / 1.5);
}

TEST(StepCost, Fp8BytesIncludeScales) {
  Tiny m(DType::kF8E4M3);
  ExpertUse use(m.config);
  const WeightMap map(m.config, m.params);
  // One scale for each of the 2 * 5 + 3 matrices that are read without experts; gate, norms and embedding stay BF16.
  const int64_t body = 2 * kAttention + kDense + 13 * 4 + 2 * (2 * kNorms + kGate + 8 + 8);
  EXPECT_EQ(kernels::TotalBytes(map.Body(use, std::vector<int32_t>{0})), body);
}

TEST(StepCost, CacheSpansCoverTheRowsSeen) {
  const kernels::LatentCache row{.block_tokens = kBlockTokens, .dtype = DType::kBF16, .width = 10};
  const LatentStore store({.layers = 3, .row = row}, 200);
  const auto spans = CacheSpans(store.caches(), 130);
  EXPECT_EQ(kernels::TotalBytes(spans), 3 * 130 * 10 * 2);
  EXPECT_EQ(spans.size(), 9u);  // three blocks, each with the rows of three layers
  EXPECT_TRUE(CacheSpans(store.caches(), 0).empty());
}

TEST(StepCost, OperationsByHand) {
  Tiny m(DType::kBF16);
  EXPECT_EQ(AbsorbedAttentionOps(m.config, 7), 2 * 2 * 7 * 2 * (10 + 2 + 10));
  const int64_t vectors = 2 * kNorms + 8 + 4;  // norms and the router's bias count as weights of one operation each
  const int64_t active = 2 * kAttention + kDense + 4 * 8 + 2 * kExpert + vectors;
  const int64_t one = 2 * active + 2 * 2 * 2 * (6 + 3) + 2 * 100 * 8;
  EXPECT_EQ(PrefillOps(m.config, 1), one);
  // Two more tokens: the first layer, which is dense, the final norm's weights, and latent rows; five more pairs in the
  // first layer and two in the second.
  const int64_t more = kAttention + kDense + kNorms + 8 + 8 * 12;
  EXPECT_EQ(PrefillOps(m.config, 3), one + 2 * 2 * more + 2 * 2 * (6 + 3) * (5 + 2));
}

// The published comparison: 226 MB of body and 265 MB of head a token, 11,520 bytes of cache a position.
TEST(StepCost, BenchmarkModel) {
  const std::string path = FATHOM_SOURCE_DIR "/../shared/peers/config.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs " << path;
  const model::ModelConfig config = model::ReadConfigFile(path).config;
  EXPECT_EQ(config.num_hidden_layers * config.cache_width() * 2, 11520);
  const double head = 2.0 * static_cast<double>(config.vocab_size * config.hidden_size);
  EXPECT_NEAR(head, 265e6, 0.5e6);
  // Two bytes of BF16 and two operations a weight. There the router is counted in FP32: 9 * 64 * 1024 * 2 bytes more.
  const double one = PrefillOps(config, 1) - head;
  EXPECT_NEAR(one, 226e6 - 9 * 64 * 1024 * 2, 0.5e6);
}

}  // namespace
}  // namespace fathom::engine
