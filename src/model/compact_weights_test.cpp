// Which matrices become compact, and that they keep their values.
#include "model/compact_weights.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/rng.h"

namespace fathom::model {
namespace {

class CompactModel : public testing::Test {
 protected:
  CompactModel() : pool_(2), ctx_{pool_, BestIsa(), {}} {
    config_.vocab_size = 320;
    config_.hidden_size = 256;
    config_.intermediate_size = 384;
    config_.moe_intermediate_size = 128;
    config_.num_hidden_layers = 2;
    config_.first_k_dense_replace = 1;
    config_.num_attention_heads = 2;
    config_.n_routed_experts = 4;
    config_.num_experts_per_tok = 2;
    config_.n_group = 2;
    config_.topk_group = 1;
    config_.n_shared_experts = 1;
    config_.q_lora_rank = 128;
    config_.kv_lora_rank = 128;
    config_.qk_nope_head_dim = 64;
    config_.qk_rope_head_dim = 64;
    config_.v_head_dim = 64;
    config_.num_nextn_predict_layers = 1;
    params_ = MakeParams(config_);
    Rng rng(3, 0);
    ForEachParam(config_, params_, [&](const ParamInfo& info, Weight& w) {
      std::vector<uint16_t>& bits = values_[info.name];
      bits.resize(static_cast<size_t>(w.rows * w.cols));
      for (uint16_t& v : bits) v = F32ToBf16(static_cast<float>(0.02 * rng.NextNormal()));
      if (info.name == kWild) {
        for (uint16_t& v : bits) v = static_cast<uint16_t>(rng.NextU32());
      }
      w.data = bits.data();
      w.dtype = DType::kBF16;
    });
  }
  bool Supported() const { return kernels::CompactRowsOfX(ctx_.isa, kernels::Compute::kBf16, 0) > 0; }

  const std::string kWild = "model.layers.1.mlp.experts.2.up_proj.weight";
  ThreadPool pool_;
  Context ctx_;
  ModelConfig config_;
  ModelParams params_;
  std::map<std::string, std::vector<uint16_t>> values_;
};

TEST_F(CompactModel, MatricesKeepTheirValues) {
  if (!Supported()) GTEST_SKIP() << "no products of compact matrices on this machine";
  int64_t told = 0, calls = 0;
  const CompactWeights weights(ctx_, config_, params_, [&](int64_t done, int64_t total) {
    told = done;
    ++calls;
    EXPECT_LE(done, total);
  });
  EXPECT_EQ(told, weights.storage().bytes());
  EXPECT_EQ(weights.storage().bytes(), CompactWeights::Bytes(ctx_.isa, kernels::Compute::kBf16, config_, params_));
  ModelParams made = weights.params();
  int64_t compact = 0, bytes = 0;
  ForEachParam(config_, made, [&](const ParamInfo& info, const Weight& w) {
    EXPECT_EQ(w.data, values_[info.name].data());
    const bool vector = info.kind == ParamKind::kVector || info.kind == ParamKind::kRouterBias;
    const bool expected = !vector && !info.copy && info.name.find("embed_tokens") == std::string::npos &&
                          info.name.find("mlp.gate.") == std::string::npos &&  // 4 rows
                          info.name != kWild;
    EXPECT_EQ(w.compact != nullptr, expected) << info.name;
    if (!w.compact) return;
    ++compact;
    bytes += w.rows * w.cols * 2;
    std::vector<uint16_t> back(static_cast<size_t>(w.rows * w.cols));
    kernels::ExpandCompact(*w.compact, back.data());
    EXPECT_EQ(back, values_[info.name]) << info.name;
  });
  int64_t attentions = 0;
  const auto check_keys = [&](const AttentionParams& p) {
    const int64_t r = config_.kv_lora_rank, dn = config_.qk_nope_head_dim, per_head = dn + config_.v_head_dim;
    ASSERT_NE(p.turned_keys, nullptr);
    ++attentions;
    std::vector<uint16_t> back(static_cast<size_t>(r * dn));
    for (int64_t head = 0; head < config_.num_attention_heads; ++head) {
      kernels::ExpandCompact(p.turned_keys[head], back.data());
      const auto* keys = static_cast<const uint16_t*>(p.kv_b_proj.data) + head * per_head * r;
      for (int64_t i = 0; i < r * dn; ++i) ASSERT_EQ(back[static_cast<size_t>(i)], keys[i % dn * r + i / dn]);
      bytes += r * dn * 2;
    }
  };
  for (const BlockParams& block : made.layers) check_keys(block.self_attn);
  for (const MtpParams& module : made.mtp) check_keys(module.block.self_attn);
  EXPECT_EQ(attentions, 3);
  EXPECT_EQ(calls, compact + 1 + attentions);  // and the wild one
  EXPECT_LT(weights.storage().bytes(), bytes * 4 / 5);
}

TEST_F(CompactModel, OnlyWhereItIsRead) {
  EXPECT_EQ(CompactWeights::Bytes(ctx_.isa, kernels::Compute::kF32, config_, params_), 0);
  EXPECT_EQ(CompactWeights::Bytes(Isa::kReference, kernels::Compute::kBf16, config_, params_), 0);
  ForEachParam(config_, params_, [](const ParamInfo&, Weight& w) { w.dtype = DType::kF8E4M3; });
  EXPECT_EQ(CompactWeights::Bytes(ctx_.isa, kernels::Compute::kBf16, config_, params_), 0);
}

}  // namespace
}  // namespace fathom::model
