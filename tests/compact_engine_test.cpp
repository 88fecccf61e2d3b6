// An engine on compact weights gives the same answers as one on the weights themselves, to the bit where bits are
// fixed: alone and together, with prompts of many rows and answers of few, with and without drafts.
#include <gtest/gtest.h>

#include <vector>

#include "core/rng.h"
#include "engine/engine.h"
#include "model/compact_weights.h"

namespace fathom {
namespace {

model::ModelConfig Config() {
  model::ModelConfig c;
  c.vocab_size = 512;
  c.hidden_size = 256;
  c.intermediate_size = 384;
  c.moe_intermediate_size = 128;
  c.num_hidden_layers = 3;
  c.first_k_dense_replace = 1;
  c.num_attention_heads = 4;
  c.n_routed_experts = 8;
  c.num_experts_per_tok = 2;
  c.n_group = 2;
  c.topk_group = 1;
  c.n_shared_experts = 1;
  c.q_lora_rank = 128;
  c.kv_lora_rank = 128;
  c.qk_nope_head_dim = 64;
  c.qk_rope_head_dim = 32;
  c.v_head_dim = 64;
  c.max_position_embeddings = 256;
  c.num_nextn_predict_layers = 1;
  return c;
}

class CompactEngine : public testing::Test {
 protected:
  CompactEngine() : pool_(2), ctx_{pool_, BestIsa(), {}}, config_(Config()), params_(model::MakeParams(config_)) {
    Rng rng(17, 0);
    model::ForEachParam(config_, params_, [&](const model::ParamInfo& info, model::Weight& w) {
      if (info.copy) return;
      std::vector<uint16_t>& bits = values_.emplace_back(static_cast<size_t>(w.rows * w.cols));
      const bool norm = info.kind == model::ParamKind::kVector;
      for (uint16_t& v : bits) v = F32ToBf16(norm ? 1.0f : static_cast<float>(0.05 * rng.NextNormal()));
      w.data = bits.data();
      w.dtype = DType::kBF16;
      if (info.kind != model::ParamKind::kRouterBias) return;
      bias_.emplace_back(static_cast<size_t>(w.cols), 0.0f);
      w.data = bias_.back().data();
      w.dtype = DType::kF32;
    });
    for (model::MtpParams& module : params_.mtp) {
      module.embed_tokens = params_.embed_tokens;
      module.shared_head_head = params_.lm_head;
    }
  }
  void SetUp() override {
    if (kernels::CompactRowsOfX(ctx_.isa, kernels::Compute::kBf16, 0) == 0)
      GTEST_SKIP() << "no products of compact matrices on this machine";
    compact_ = std::make_unique<model::CompactWeights>(ctx_, config_, params_);
  }

  std::vector<engine::Request> Requests() const {
    std::vector<engine::Request> requests;
    for (uint64_t i = 0; i < 20; ++i) {
      Rng rng(i);
      engine::Request r;
      r.max_tokens = 24;
      r.sampling.temperature = i % 3 == 0 ? 0.8 : 0;
      r.sampling.seed = i;
      for (uint64_t n = 0; n < 3 + i * 5 % 70; ++n)
        r.prompt.push_back(static_cast<int32_t>(rng.NextBelow(static_cast<uint32_t>(config_.vocab_size))));
      requests.push_back(std::move(r));
    }
    return requests;
  }

  std::vector<std::vector<int32_t>> Answers(const model::ModelParams& params, std::span<const engine::Request> requests,
                                            engine::EngineOptions options) {
    const model::Transformer transformer(config_, params, kPositions);
    options.compute = model::Compute::kBf16;
    options.cache_dtype = DType::kBF16;
    options.max_context = kPositions;
    options.cache_tokens = kPositions * 20;
    options.max_running = 20;
    engine::Engine engine(ctx_, transformer, options);
    std::vector<std::vector<int32_t>> ids;
    for (const engine::Answer& a : engine.Run(requests)) ids.push_back(a.ids);
    EXPECT_EQ(engine.arena_overflows(), 0);
    return ids;
  }

  static constexpr int64_t kPositions = 128;
  ThreadPool pool_;
  Context ctx_;
  model::ModelConfig config_;
  model::ModelParams params_;
  std::vector<std::vector<uint16_t>> values_;
  std::vector<std::vector<float>> bias_;
  std::unique_ptr<model::CompactWeights> compact_;
};

TEST_F(CompactEngine, GivesTheSameAnswers) {
  const std::vector<engine::Request> requests = Requests();
  engine::EngineOptions options{.batch_invariant = true};
  const auto expected = Answers(params_, requests, options);
  EXPECT_EQ(Answers(compact_->params(), requests, options), expected);
  for (size_t i : {size_t{0}, size_t{7}, size_t{13}}) {
    EXPECT_EQ(Answers(compact_->params(), std::span(requests).subspan(i, 1), options)[0], expected[i]) << i;
  }
}

TEST_F(CompactEngine, GivesTheSameAnswersWithDrafts) {
  const std::vector<engine::Request> requests = Requests();
  engine::EngineOptions options{.batch_invariant = true, .drafts = 2, .always_draft = true};
  EXPECT_EQ(Answers(compact_->params(), requests, options), Answers(params_, requests, options));
}

// Where bits depend on the number of rows the answers are those of another order of sums: here it matters that all run.
TEST_F(CompactEngine, RunsWithoutFixedBits) {
  const std::vector<engine::Request> requests = Requests();
  const auto ids = Answers(compact_->params(), requests, {});
  for (const auto& answer : ids) EXPECT_EQ(answer.size(), 24u);
}

}  // namespace
}  // namespace fathom
