#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "model/params.h"

namespace fathom::model {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kModels[] = FATHOM_SOURCE_DIR "/configs/models/";

json ReadJson(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in);
}
json V3() { return ReadJson(std::string(kModels) + "deepseek-v3.json"); }
json V2() { return ReadJson(std::string(kModels) + "deepseek-v2-lite.json"); }

ModelConfig Parsed(const json& j) { return ParseConfig(j.dump()).Value().config; }
std::string Fault(json j, const std::function<void(json&)>& change) {
  change(j);
  const auto result = ParseConfig(j.dump());
  return result.ok() ? "no error" : result.error().what();
}
std::string Fault(const std::function<void(json&)>& change) { return Fault(V3(), change); }

TEST(ParseConfig, ReadsThePublishedOne) {
  const ParsedConfig parsed = ParseConfig(V3().dump()).Value();
  EXPECT_THAT(parsed.warnings, IsEmpty());
  const ModelConfig& c = parsed.config;
  EXPECT_EQ(c.hidden_size, 7168);
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.n_routed_experts, 256);
  EXPECT_EQ(c.routed_scaling_factor, 2.5);
  EXPECT_EQ(c.qk_head_dim(), 192);
  EXPECT_EQ(c.cache_width(), 576);
  EXPECT_FALSE(c.IsMoe(2));
  EXPECT_TRUE(c.IsMoe(3));
  ASSERT_TRUE(c.rope_scaling);
  EXPECT_EQ(c.rope_scaling->factor, 40);
  ASSERT_TRUE(c.quantization_config);
  EXPECT_FALSE(c.quantization_config->ue8m0);
  EXPECT_THAT(c.eos_token_id, ElementsAre(1));
}

TEST(ParseConfig, ReadsDeepseekV2WithItsDefaults) {
  json j = V2();
  for (const char* key : {"topk_method", "scoring_func", "norm_topk_prob", "n_group", "topk_group", "moe_layer_freq"})
    j.erase(key);
  const ModelConfig c = Parsed(j);
  EXPECT_EQ(c.topk_method, "greedy");
  EXPECT_EQ(c.scoring_func, "softmax");
  EXPECT_FALSE(c.norm_topk_prob);
  EXPECT_FALSE(c.q_lora_rank);
}

TEST(ParseConfig, EveryConfigurationOfTheProjectIsRead) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    const ParsedConfig parsed = ReadConfigFile(entry.path().string());
    EXPECT_THAT(parsed.warnings, IsEmpty()) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 4);
}

TEST(ParseConfig, WhatIsWrittenIsRead) {
  for (const char* name : {"deepseek-v3.json", "deepseek-v2-lite.json", "fathom-16m.json"}) {
    ModelConfig c = ReadConfigFile(std::string(kModels) + name).config;
    c.eos_token_id = {1, 2};
    const std::string text = ToJson(c);
    const ParsedConfig again = ParseConfig(text).Value();
    EXPECT_EQ(ToJson(again.config), text);
    EXPECT_THAT(again.warnings, IsEmpty());
  }
}

TEST(ParseConfig, ReadsTheSpellingsOfNewerTransformers) {
  json j = V3();
  j["dtype"] = j["torch_dtype"];
  j.erase("torch_dtype");
  j["rope_parameters"] = j["rope_scaling"];
  j["rope_parameters"].erase("type");
  j["rope_parameters"]["rope_type"] = "yarn";
  j["rope_parameters"]["rope_theta"] = 10000.0;
  j.erase("rope_scaling");
  j.erase("rope_theta");
  EXPECT_EQ(ToJson(Parsed(j)), ToJson(Parsed(V3())));
  j["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 50000}};
  EXPECT_FALSE(Parsed(j).rope_scaling);
  EXPECT_EQ(Parsed(j).rope_theta, 50000);
}

TEST(ParseConfig, WarnsOfUnknownKeysByName) {
  json j = V3();
  j["ep_size"] = 1;
  j["auto_map"] = {{"AutoConfig", "x"}};
  j["colour"] = "blue";
  j["rope_scaling"]["taste"] = 1;
  EXPECT_THAT(ParseConfig(j.dump()).Value().warnings,
              ElementsAre("unknown key rope_scaling.taste is ignored", "unknown key colour is ignored"));
}

TEST(ParseConfig, NamesWhatIsMissing) {
  for (const char* key : {"vocab_size",
                          "hidden_size",
                          "intermediate_size",
                          "moe_intermediate_size",
                          "num_hidden_layers",
                          "num_attention_heads",
                          "n_shared_experts",
                          "n_routed_experts",
                          "num_experts_per_tok",
                          "n_group",
                          "topk_group",
                          "first_k_dense_replace",
                          "routed_scaling_factor",
                          "q_lora_rank",
                          "kv_lora_rank",
                          "qk_nope_head_dim",
                          "qk_rope_head_dim",
                          "v_head_dim",
                          "rms_norm_eps",
                          "rope_theta",
                          "max_position_embeddings",
                          "model_type"}) {
    EXPECT_THAT(Fault([&](json& j) { j.erase(key); }), HasSubstr(std::string(key) + " is missing")) << key;
  }
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"].erase("factor"); }), HasSubstr("rope_scaling.factor is missing"));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"].erase("type"); }), HasSubstr("rope_scaling.type is missing"));
  EXPECT_THAT(Fault([](json& j) { j["quantization_config"].erase("weight_block_size"); }),
              HasSubstr("quantization_config.weight_block_size is missing"));
}

TEST(ParseConfig, NamesWhatIsOfTheWrongTypeOrOutOfRange) {
  EXPECT_THAT(Fault([](json& j) { j["hidden_size"] = "7168"; }),
              AllOf(HasSubstr("hidden_size"), HasSubstr("got:      \"7168\""), HasSubstr("a whole number from 1 to")));
  EXPECT_THAT(Fault([](json& j) { j["hidden_size"] = 7168.5; }), HasSubstr("7168.5"));
  EXPECT_THAT(Fault([](json& j) { j["hidden_size"] = -1; }), HasSubstr("got:      -1"));
  EXPECT_THAT(Fault([](json& j) { j["vocab_size"] = 18446744073709551615u; }), HasSubstr("18446744073709551615"));
  EXPECT_THAT(Fault([](json& j) { j["rms_norm_eps"] = "small"; }), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(Fault([](json& j) { j["norm_topk_prob"] = 1; }), HasSubstr("true or false"));
  EXPECT_THAT(Fault([](json& j) { j["moe_layer_freq"] = json::array({0, 1}); }), HasSubstr("moe_layer_freq"));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"] = 4; }), HasSubstr("a JSON object"));
  EXPECT_THAT(Fault([](json& j) { j["eos_token_id"] = json::array({1, "x"}); }), HasSubstr("eos_token_id"));
  EXPECT_THAT(ParseConfig("[]").error().what(), HasSubstr("a JSON object"));
  EXPECT_THAT(ParseConfig("{\"a\": 1e999}").error().what(), HasSubstr("not valid JSON"));
  EXPECT_THAT(ParseConfig("{").error().what(), AllOf(HasSubstr("not valid JSON"), HasSubstr("at byte")));
  EXPECT_THAT(ParseConfig("{\"a\": 1, \"a\": 2}").error().what(), HasSubstr("\"a\" is there twice"));
  EXPECT_THAT(ParseConfig(std::string(10000, '[')).error().what(), HasSubstr("nested too deeply"));
}

TEST(ParseConfig, RefusesWhatIsNotBuiltByName) {
  const auto set = [](const char* key, const json& value) { return Fault([&](json& j) { j[key] = value; }); };
  EXPECT_THAT(set("attention_bias", true), AllOf(HasSubstr("attention_bias"), HasSubstr("not built")));
  EXPECT_THAT(set("hidden_act", "gelu"), AllOf(HasSubstr("hidden_act"), HasSubstr("\"gelu\""), HasSubstr("\"silu\"")));
  EXPECT_THAT(set("tie_word_embeddings", true), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(set("rope_interleave", false), HasSubstr("rope_interleave"));
  EXPECT_THAT(set("num_key_value_heads", 8), AllOf(HasSubstr("num_key_value_heads"), HasSubstr("expected: 128")));
  EXPECT_THAT(set("model_type", "llama"), AllOf(HasSubstr("model_type is not built"), HasSubstr("deepseek_v2")));
  EXPECT_THAT(set("topk_method", "greedy"), HasSubstr("topk_method does not belong to model_type deepseek_v3"));
  EXPECT_THAT(set("scoring_func", "softmax"), HasSubstr("scoring_func does not belong"));
  EXPECT_THAT(set("torch_dtype", "int4"), HasSubstr("torch_dtype"));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"]["type"] = "linear"; }),
              AllOf(HasSubstr("rope_scaling.type is not built"), HasSubstr("linear")));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"]["attention_factor"] = 1.5; }), HasSubstr("attention_factor"));
  EXPECT_THAT(Fault([](json& j) { j["quantization_config"]["quant_method"] = "gptq"; }), HasSubstr("quant_method"));
  EXPECT_THAT(Fault([](json& j) {
                j["quantization_config"]["weight_block_size"] = json::array({64, 64});
              }),
              HasSubstr("[128,128]"));
  EXPECT_THAT(Fault(V2(),
                    [](json& j) {
                      j["norm_topk_prob"] = true;
                      j["routed_scaling_factor"] = 16.0;
                    }),
              HasSubstr("norm_topk_prob and routed_scaling_factor"));
}

TEST(ParseConfig, RefusesContradictions) {
  const auto set = [](const char* key, const json& value) { return Fault([&](json& j) { j[key] = value; }); };
  EXPECT_THAT(set("n_group", 7), HasSubstr("256 experts in 7 groups"));
  EXPECT_THAT(set("n_group", 256), HasSubstr("n_group"));
  EXPECT_THAT(set("topk_group", 9), HasSubstr("9 of n_group 8"));
  EXPECT_THAT(set("num_experts_per_tok", 257), HasSubstr("num_experts_per_tok"));
  EXPECT_THAT(set("num_experts_per_tok", 129), HasSubstr("129 from 4 groups of 32"));
  EXPECT_THAT(set("qk_rope_head_dim", 63), HasSubstr("an even number"));
  EXPECT_THAT(set("eos_token_id", 129280), HasSubstr("eos_token_id is not in the vocabulary"));
  EXPECT_THAT(set("bos_token_id", 200000), HasSubstr("bos_token_id is not in the vocabulary"));
  EXPECT_THAT(set("dtype", "float32"), HasSubstr("dtype and torch_dtype contradict each other"));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"]["rope_theta"] = 5; }),
              HasSubstr("rope_theta and rope_scaling.rope_theta contradict each other"));
  EXPECT_THAT(Fault([](json& j) { j["rope_scaling"]["rope_type"] = "default"; }), HasSubstr("contradict each other"));
  EXPECT_THAT(Fault([](json& j) {
                j["rope_parameters"] = {{"rope_type", "default"}};
              }),
              HasSubstr("rope_scaling and rope_parameters contradict"));
  EXPECT_THAT(Fault([](json& j) {
                j["hidden_size"] = 1 << 20;
                j["moe_intermediate_size"] = 1 << 20;
                j["num_hidden_layers"] = 1000;
              }),
              HasSubstr("beyond any machine"));
}

TEST(ParseConfig, AModelWithoutExpertsNeedsNoneOfTheirKeys) {
  json j = V3();
  for (const char* key : {"moe_intermediate_size", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group",
                          "first_k_dense_replace", "routed_scaling_factor"})
    j.erase(key);
  j["n_routed_experts"] = nullptr;
  EXPECT_FALSE(Parsed(j).IsMoe(60));
}

TEST(ReadConfigFile, NamesTheFile) {
  const std::string path = (std::filesystem::temp_directory_path() / "fathom_config_test.json").string();
  std::ofstream(path) << "{}";
  try {
    ReadConfigFile(path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(path + ": model_type is missing"));
  }
  std::filesystem::remove(path);
  EXPECT_THROW(ReadConfigFile(path), Error);
}

TEST(ParseDemoConfig, HasTheDemosRules) {
  const std::string path = FATHOM_SOURCE_DIR "/tests/golden/deepseek-demo/config_demo-shard-fp8.json";
  const ModelConfig c = ReadConfigFile(path).config;
  EXPECT_EQ(c.model_type, "deepseek_v3");
  EXPECT_EQ(c.topk_method, "noaux_tc");
  EXPECT_EQ(c.num_experts_per_tok, 3);
  EXPECT_EQ(c.max_position_embeddings, 2560);
  EXPECT_EQ(c.num_nextn_predict_layers, 0);
  ASSERT_TRUE(c.quantization_config);
  ASSERT_TRUE(c.rope_scaling);  // 2560 > 64
  EXPECT_EQ(c.RopeAmplitude(), 1.0);
  json j = ReadJson(path);
  j["max_seq_len"] = 64;
  j["mscale"] = 0.707;
  EXPECT_FALSE(ParseDemoConfig(j.dump()).Value().config.rope_scaling);
  j["max_seq_len"] = 65;
  const ModelConfig scaled = ParseDemoConfig(j.dump()).Value().config;
  EXPECT_EQ(scaled.rope_scaling->mscale, 0.707);
  EXPECT_EQ(scaled.RopeAmplitude(), 1.0);
  j["score_func"] = "softmax";
  j["q_lora_rank"] = 0;
  const ModelConfig v2 = ParseDemoConfig(j.dump()).Value().config;
  EXPECT_EQ(v2.topk_method, "group_limited_greedy");
  EXPECT_FALSE(v2.norm_topk_prob);
  EXPECT_FALSE(v2.q_lora_rank);
  j["dtype"] = "int8";
  EXPECT_THAT(ParseDemoConfig(j.dump()).error().what(), AllOf(HasSubstr("dtype"), HasSubstr("\"fp8\"")));
}

// Values of the reference implementation for the published configuration, in float64.
TEST(Yarn, IsThePublishedOne) {
  const json golden = ReadJson(FATHOM_SOURCE_DIR "/tests/golden/numerics.json")["yarn_v3"];
  const ModelConfig c = Parsed(V3());
  const std::vector<double> f = c.RopeFrequencies(), expected = golden["inv_freq"];
  ASSERT_EQ(f.size(), expected.size());
  // A power and a few operations in double on both sides.
  for (size_t i = 0; i < f.size(); ++i) EXPECT_NEAR(f[i], expected[i], 8 * 0x1p-53 * expected[i]) << i;
  EXPECT_NEAR(c.SoftmaxScale(), golden["softmax_scale"].get<double>(), 8 * 0x1p-53);
  EXPECT_EQ(c.RopeAmplitude(), golden["amplitude"].get<double>());
}

TEST(Yarn, IsOffWithoutRopeScaling) {
  json j = V3();
  j["rope_scaling"] = nullptr;
  const ModelConfig c = Parsed(j);
  EXPECT_DOUBLE_EQ(c.SoftmaxScale(), 1 / std::sqrt(192.0));
  EXPECT_EQ(c.RopeAmplitude(), 1.0);
  EXPECT_DOUBLE_EQ(c.RopeFrequencies()[31], std::pow(10000.0, -62.0 / 64));
}

TEST(Yarn, TheAmplitudeIsTheRatioOfBothFactors) {
  json j = V3();
  j["rope_scaling"]["mscale"] = 1.0;
  j["rope_scaling"]["mscale_all_dim"] = 0.0;
  const ModelConfig c = Parsed(j);
  EXPECT_DOUBLE_EQ(c.RopeAmplitude(), 0.1 * std::log(40.0) + 1);
  EXPECT_DOUBLE_EQ(c.SoftmaxScale(), 1 / std::sqrt(192.0));
}

TEST(CountParams, AreTheReleasesFigures) {
  const ParamCount n = CountParams(Parsed(V3()));
  EXPECT_EQ(n.main, 671'026'419'200);
  EXPECT_EQ(n.with_mtp_copies, 684'489'845'504);
  EXPECT_EQ(n.tensors, 46'183);
  EXPECT_EQ(n.fp8_tensors, 45'808);
  // 36.626 thousand million without the embedding table, of which a token reads one row.
  EXPECT_EQ(n.activated, 36'625'618'432 + 7168);
}

TEST(CountParams, OfV2Lite) { EXPECT_EQ(CountParams(Parsed(V2())).main, 15'706'484'224); }

TEST(ForEachParam, GivesShapesAndKinds) {
  const ModelConfig c = ReadConfigFile(std::string(kModels) + "fathom-16m.json").config;
  ModelParams params = MakeParams(c);
  std::vector<std::string> names;
  ForEachParam(c, params, [&](const ParamInfo& info, const Weight& w) {
    names.push_back(info.name);
    EXPECT_EQ(w.rows * w.cols, NumElements(info.shape)) << info.name;
    EXPECT_EQ(w.data, nullptr);
    EXPECT_EQ(info.kind == ParamKind::kRouterBias, info.name.ends_with("e_score_correction_bias"));
    EXPECT_EQ(info.mtp, info.name.rfind("model.layers.6.", 0) == 0) << info.name;
    if (info.name == "model.layers.6.eh_proj.weight") {
      EXPECT_EQ(info.shape, (Shape{256, 512}));
      EXPECT_EQ(info.kind, ParamKind::kMatrix);
    }
    EXPECT_TRUE(!info.copy || info.shape == (Shape{6144, 256}));
  });
  EXPECT_EQ(names.front(), "model.embed_tokens.weight");
  EXPECT_EQ(names.back(), "lm_head.weight");
  EXPECT_EQ(static_cast<int64_t>(names.size()), CountParams(c).tensors);
}

}  // namespace
}  // namespace fathom::model
