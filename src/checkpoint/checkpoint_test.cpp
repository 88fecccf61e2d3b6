// Opening, binding and auditing.
#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/demo.h"
#include "checkpoint/hf.h"
#include "checkpoint/test_folder.h"

namespace fathom::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class OpenTest : public FolderTest {
 protected:
  OpenTest() : pool_(1) {}
  // A checkpoint in the folder "m".
  void Make(Precision precision, int64_t max_shard_bytes = 1 << 30, const model::ModelConfig& config = TinyConfig()) {
    InitCheckpoint(config, Path("m"), {.precision = precision, .max_shard_bytes = max_shard_bytes}, pool_);
  }
  // The audit's lines after a change of the one file.
  std::vector<std::string> Audited(const std::function<void(EditableFile&)>& change) {
    EditableFile file(Path("m/model.safetensors"));
    change(file);
    file.Save(Path("m/model.safetensors"));
    const Checkpoint c = Open(Path("m"), {.audit_only = true});
    std::vector<std::string> lines;
    for (const Problem& p : c.audit().problems) lines.push_back(p.Line());
    return lines;
  }
  std::string OpenError(const OpenOptions& options = {}) {
    return ErrorOf([&] { Open(Path("m"), options); });
  }
  ThreadPool pool_;
};

TEST(OpenGolden, ViewsLieInTheFile) {
  const std::string path = std::string(kTestGolden) + "v3-tiny-fp8";
  const Checkpoint c = Open(path);
  const io::SafetensorsFile file = io::SafetensorsFile::Open(path + "/model.safetensors").Value();
  EXPECT_THAT(c.warnings(), IsEmpty());
  EXPECT_EQ(c.audit().tensors, 207);
  EXPECT_EQ(c.audit().fp8_tensors, 176);
  EXPECT_EQ(c.audit().scales, 176);
  EXPECT_EQ(c.audit().copied_bytes, 0);
  int64_t compared = 0;
  c.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    const TensorView v = file.Get(info.name);
    ASSERT_EQ(w.dtype, v.dtype) << info.name;
    ASSERT_EQ(std::memcmp(w.data, v.data, static_cast<size_t>(v.bytes())), 0) << info.name;
    ASSERT_EQ(w.dtype == DType::kF8E4M3, w.scale != nullptr);
    if (w.scale) {
      const TensorView s = file.Get(info.name + "_scale_inv");
      ASSERT_EQ(std::memcmp(w.scale, s.data, static_cast<size_t>(s.bytes())), 0) << info.name;
    }
    ++compared;
  });
  EXPECT_EQ(compared, 207);
}

TEST(OpenGolden, ReadsEveryCheckpointOfTheCollection) {
  const std::string golden = std::string(kShared) + "golden/";
  if (!std::filesystem::exists(golden)) GTEST_SKIP() << "../shared/golden is not here";
  for (const char* name : {"v3-tiny", "v3-tiny-fp8", "v3-tiny-fp8-ue8m0", "v3-odd", "v3-odd-fp8", "v3-odd-fp8-ue8m0",
                           "v3-onegroup", "v3-mtp2", "v2-lite-tiny", "v2-tiny", "deepseek-demo/demo-shard-fp8"}) {
    const Checkpoint c = Open(golden + name);
    EXPECT_THAT(c.warnings(), IsEmpty()) << name;
    EXPECT_EQ(c.audit().tensors, model::CountParams(c.config()).tensors) << name;
    const std::string n = name;
    c.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
      EXPECT_EQ(w.ue8m0, w.scale && n.ends_with("ue8m0")) << name << " " << info.name;
    });
  }
}

// Joined shards against the checkpoint that the demo's convert.py made them from.
TEST(OpenDemo, FourShardsAreTheirSource) {
  const std::string demo = std::string(kTestGolden) + "deepseek-demo/";
  const std::string source = std::string(kShared) + "golden/deepseek-demo/demo-shard-fp8";
  const Checkpoint joined = Open(demo + "demo-shard-fp8-mp4", {.config_path = demo + "config_demo-shard-fp8.json"});
  EXPECT_TRUE(joined.is_demo());
  EXPECT_EQ(joined.audit().tensors, 53);
  EXPECT_THAT(joined.audit().problems, IsEmpty());
  if (!std::filesystem::exists(source)) GTEST_SKIP() << "../shared/golden/deepseek-demo is not here";
  const io::SafetensorsFile file = io::SafetensorsFile::Open(source + "/model.safetensors").Value();
  joined.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    const TensorView v = file.Get(info.name);
    ASSERT_EQ(v.shape, info.shape);
    ASSERT_EQ(w.dtype, v.dtype) << info.name;
    ASSERT_EQ(std::memcmp(w.data, v.data, static_cast<size_t>(v.bytes())), 0) << info.name;
    if (w.scale) {
      const TensorView s = file.Get(info.name + "_scale_inv");
      ASSERT_EQ(std::memcmp(w.scale, s.data, static_cast<size_t>(s.bytes())), 0) << info.name;
    }
  });
}

TEST(OpenDemo, OneShardIsUsedInPlace) {
  const std::string demo = std::string(kShared) + "golden/deepseek-demo/";
  if (!std::filesystem::exists(demo)) GTEST_SKIP() << "../shared/golden/deepseek-demo is not here";
  const Checkpoint c = Open(demo + "v3-tiny-mp1", {.config_path = demo + "config_v3-tiny.json"});
  EXPECT_EQ(c.audit().copied_bytes, 0);
  const io::SafetensorsFile file =
      io::SafetensorsFile::Open(std::string(kShared) + "golden/v3-tiny/model.safetensors").Value();
  c.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    const TensorView v = file.Get(info.name);
    ASSERT_EQ(std::memcmp(w.data, v.data, static_cast<size_t>(v.bytes())), 0) << info.name;
  });
}

class DemoShards : public OpenTest {
 protected:
  DemoShards() {
    std::filesystem::copy(std::string(kTestGolden) + "deepseek-demo/demo-shard-fp8-mp4", Path("m"));
    for (const auto& f : std::filesystem::directory_iterator(Path("m")))
      std::filesystem::permissions(f, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  }
  OpenOptions options_{.config_path = std::string(kTestGolden) + "deepseek-demo/config_demo-shard-fp8.json"};
};

TEST_F(DemoShards, NeedAConfiguration) {
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("no config.json"), HasSubstr("--config")));
}

TEST_F(DemoShards, AMissingShardIsNamed) {
  std::filesystem::remove(Path("m/model2-mp4.safetensors"));
  EXPECT_THAT(OpenError(options_), AllOf(HasSubstr("3 of 4"), HasSubstr("model2-mp4.safetensors")));
}

TEST_F(DemoShards, ShardsOfTwoSetsAreRefused) {
  std::filesystem::copy(Path("m/model0-mp4.safetensors"), Path("m/model0-mp2.safetensors"));
  EXPECT_THAT(OpenError(options_), HasSubstr("shards of different counts"));
}

TEST_F(DemoShards, AnAbsentTensorOfOneShardIsNamed) {
  EditableFile file(Path("m/model1-mp4.safetensors"));
  file.Remove("layers.0.attn.wo.weight");
  file.Retype("head.weight", DType::kBF16, {64, 256});
  file.Save(Path("m/model1-mp4.safetensors"));
  EXPECT_THAT(OpenError(options_),
              AllOf(HasSubstr("layers.0.attn.wo.weight of shard 1: missing"),
                    HasSubstr("head.weight of shard 1: shape (64, 256) BF16, expected (128, 256) BF16")));
}

TEST_F(DemoShards, WithoutRouterBiasGroupsAreScoredByTheirBest) {
  for (int i = 0; i < 4; ++i) {
    const std::string path = Path("m/model" + std::to_string(i) + "-mp4.safetensors");
    EditableFile file(path);
    file.Remove("layers.1.ffn.gate.bias");
    file.Save(path);
  }
  EXPECT_EQ(Open(Path("m"), options_).config().topk_method, "group_limited_greedy");
}

TEST(ToDemoNameTest, FollowsTheConverter) {
  const auto is = [](const char* hf, const char* demo, Cut cut) {
    EXPECT_EQ(ToDemoName(hf).name, demo);
    EXPECT_EQ(ToDemoName(hf).cut, cut) << hf;
  };
  is("model.embed_tokens.weight", "embed.weight", Cut::kRows);
  is("lm_head.weight", "head.weight", Cut::kRows);
  is("model.norm.weight", "norm.weight", Cut::kWhole);
  is("model.layers.7.self_attn.q_proj.weight", "layers.7.attn.wq.weight", Cut::kRows);
  is("model.layers.7.self_attn.o_proj.weight_scale_inv", "layers.7.attn.wo.scale", Cut::kColumns);
  is("model.layers.7.self_attn.kv_a_layernorm.weight", "layers.7.attn.kv_norm.weight", Cut::kWhole);
  is("model.layers.7.post_attention_layernorm.weight", "layers.7.ffn_norm.weight", Cut::kWhole);
  is("model.layers.7.mlp.gate.weight", "layers.7.ffn.gate.weight", Cut::kWhole);
  is("model.layers.7.mlp.gate.e_score_correction_bias", "layers.7.ffn.gate.bias", Cut::kWhole);
  is("model.layers.7.mlp.experts.12.down_proj.weight", "layers.7.ffn.experts.12.w2.weight", Cut::kWhole);
  is("model.layers.7.mlp.shared_experts.down_proj.weight", "layers.7.ffn.shared_experts.w2.weight", Cut::kColumns);
  is("model.layers.0.mlp.up_proj.weight_scale_inv", "layers.0.ffn.w3.scale", Cut::kRows);
}

TEST_F(OpenTest, ManyFilesAndAnIndex) {
  Make(Precision::kFp8, 20'000);
  ASSERT_TRUE(std::filesystem::exists(Path("m/model.safetensors.index.json")));
  ASSERT_FALSE(std::filesystem::exists(Path("m/model.safetensors")));
  Write("m/other.safetensors", "not weights");  // no other file is taken for weights
  const Checkpoint c = Open(Path("m"));
  EXPECT_GT(c.audit().files.size(), 3u);
  EXPECT_EQ(c.audit().tensors, model::CountParams(TinyConfig()).tensors);
  EXPECT_EQ(c.params().mtp.size(), 1u);
}

TEST_F(OpenTest, AnIndexThatNamesMissingFiles) {
  Make(Precision::kBf16, 20'000);
  std::filesystem::remove(Path("m/model-00002-of-000015.safetensors"));
  std::filesystem::remove(Path("m/model-00001-of-000015.safetensors"));
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("names 2 files that are not there"),
                                 HasSubstr("model-00001-of-000015.safetensors, model-00002"), HasSubstr("incomplete")));
}

TEST_F(OpenTest, AnIndexThatDisagreesWithItsFiles) {
  Make(Precision::kBf16, 20'000);
  const std::string path = Path("m/model.safetensors.index.json");
  nlohmann::json index = nlohmann::json::parse(io::ReadFile(path, 1 << 20).Value());
  index["weight_map"]["model.norm.weight"] = "model-00001-of-000015.safetensors";
  index["weight_map"].erase("model.embed_tokens.weight");
  Write("m/model.safetensors.index.json", index.dump());
  EXPECT_THAT(
      OpenError(),
      AllOf(HasSubstr("model.norm.weight: not in model-00001-of-000015.safetensors, where the index has it"),
            HasSubstr("model.embed_tokens.weight: in model-00001-of-000015.safetensors, where the index does not"),
            HasSubstr("model.embed_tokens.weight: missing, expected (40, 136)")));
}

TEST(ParseIndexTest, Malformed) {
  const auto fault = [](const std::string& text) {
    const auto r = ParseIndex(text);
    return r.ok() ? std::string("no error") : std::string(r.error().what());
  };
  EXPECT_EQ(fault(R"({"metadata":{"total_size":1,"x":[{"weight_map":3}]},"weight_map":{"a":"b"}})"), "no error");
  EXPECT_THAT(fault(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(fault("{}"), HasSubstr("no weight_map"));
  EXPECT_THAT(fault("[]"), HasSubstr("an object with weight_map"));
  EXPECT_THAT(fault(R"({"weight_map":[]})"), HasSubstr("weight_map"));
  EXPECT_THAT(fault(R"({"weight_map":3})"), HasSubstr("weight_map"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":1}})"), HasSubstr("no file name"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":{}}})"), HasSubstr("an object within"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":"../b"}})"), HasSubstr("outside the directory"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":"/etc/passwd"}})"), HasSubstr("outside the directory"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":"b","a":"c"}})"), HasSubstr("names a twice"));
  EXPECT_THAT(fault(R"({"weight_map":{"a":"b"},"weight_map":{}})"), HasSubstr("there twice"));
  EXPECT_THAT(fault("{\"metadata\":" + std::string(1000, '[')), HasSubstr("nested too deeply"));
}

TEST_F(OpenTest, TheAuditNamesEveryFault) {
  Make(Precision::kFp8);
  EXPECT_THAT(
      Audited([](EditableFile& f) {
        f.Remove("model.layers.0.self_attn.o_proj.weight");
        f.Remove("model.layers.0.mlp.up_proj.weight_scale_inv");
        f.Retype("model.layers.0.mlp.gate_proj.weight_scale_inv", DType::kF32, {2, 2});
        f.Retype("model.layers.0.mlp.down_proj.weight", DType::kBF16, {136, 24});
        f.Retype("model.layers.1.mlp.gate.e_score_correction_bias", DType::kBF16, {8});
        f.Retype("model.norm.weight", DType::kF32, {135});
        f.Retype("lm_head.weight", DType::kI8, {40, 136});
        f.Retype("model.embed_tokens.weight", DType::kF8E4M3, {40, 136});
        f.Add("model.layers.0.self_attn.q_a_proj.bias", DType::kBF16, {12});
        f.Add("model.layers.7.input_layernorm.weight", DType::kBF16, {136});
        f.Add("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {2});
      }),
      ::testing::UnorderedElementsAre(
          "model.embed_tokens.weight: F8_E4M3, expected F32, BF16 or F16",
          "model.layers.0.self_attn.o_proj.weight: missing, expected (136, 12)",
          "model.layers.0.self_attn.o_proj.weight_scale_inv: scales without their weight",
          "model.layers.0.mlp.gate_proj.weight_scale_inv: F32 (2, 2), expected F32 (1, 2)",
          "model.layers.0.mlp.up_proj.weight_scale_inv: missing beside an F8_E4M3 weight, expected F32 (1, 2)",
          "model.layers.0.mlp.down_proj.weight_scale_inv: scales of a BF16 weight, expected scales of F8_E4M3 only",
          "model.layers.1.mlp.gate.e_score_correction_bias: BF16, expected F32",
          "model.norm.weight: shape (135), expected (136)", "lm_head.weight: I8, expected F32, BF16 or F16",
          "model.layers.0.self_attn.q_a_proj.bias: unexpected, the configuration has no such tensor",
          "model.layers.7.input_layernorm.weight: unexpected, the configuration has layers 0 to 2"));
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("do not fit the configuration"), HasSubstr("1 missing, 2 unexpected"),
                                 HasSubstr("and 1 more")));
}

TEST_F(OpenTest, EveryAcceptedTypeIsTaken) {
  Make(Precision::kF32);
  EXPECT_THAT(Audited([](EditableFile& f) {
                f.Retype("model.norm.weight", DType::kF16, {136});
                f.Retype("model.layers.0.mlp.down_proj.weight", DType::kF16, {136, 24});
                f.Retype("lm_head.weight", DType::kBF16, {40, 136});
              }),
              IsEmpty());
}

TEST_F(OpenTest, MtpCopiesMayBeAbsent) {
  Make(Precision::kBf16);
  EXPECT_THAT(Audited([](EditableFile& f) {
                f.Remove("model.layers.2.embed_tokens.weight");
                f.Remove("model.layers.2.shared_head.head.weight");
              }),
              IsEmpty());
  const Checkpoint c = Open(Path("m"));
  EXPECT_EQ(c.params().mtp[0].embed_tokens.data, c.params().embed_tokens.data);
  EXPECT_EQ(c.params().mtp[0].shared_head_head.data, c.params().lm_head.data);
}

TEST_F(OpenTest, MtpLayersMayBeAbsentAsAWhole) {
  Make(Precision::kBf16);
  EXPECT_THAT(Audited([](EditableFile& f) {
                std::erase_if(f.tensors, [](const auto& t) { return t.name.rfind("model.layers.2.", 0) == 0; });
              }),
              IsEmpty());
  const Checkpoint c = Open(Path("m"));
  EXPECT_THAT(c.params().mtp, IsEmpty());
  EXPECT_EQ(c.config().num_nextn_predict_layers, 0);
  EXPECT_THAT(c.warnings(), ElementsAre(HasSubstr("0 of the 1 multi-token-prediction layers")));
}

TEST_F(OpenTest, PartOfAnMtpLayerIsAFault) {
  Make(Precision::kBf16);
  EXPECT_THAT(Audited([](EditableFile& f) { f.Remove("model.layers.2.eh_proj.weight"); }),
              ElementsAre("model.layers.2.eh_proj.weight: missing, expected (136, 272)"));
}

TEST_F(OpenTest, MtpLayersThatTheConfigurationLeavesOutAreNotUsed) {
  Make(Precision::kBf16);
  model::ModelConfig c = TinyConfig();
  c.num_nextn_predict_layers = 0;
  Write("m/config.json", model::ToJson(c));
  EXPECT_THAT(Open(Path("m")).warnings(), ElementsAre(HasSubstr("num_nextn_predict_layers is 0")));
}

TEST_F(OpenTest, TensorsAtOddAddressesAreCopied) {
  Make(Precision::kF32);
  const std::string path = Path("m/model.safetensors");
  const std::string bytes = io::ReadFile(path, 1 << 30).Value();
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const uint64_t longer = length + 1;
  std::string odd(8, '\0');
  std::memcpy(odd.data(), &longer, 8);
  odd += bytes.substr(8, length) + " " + bytes.substr(8 + length);
  const Checkpoint before = Open(Path("m"));
  std::vector<std::string> expected;
  before.ForEachParam([&](const model::ParamInfo&, const kernels::Weight& w) {
    expected.emplace_back(static_cast<const char*>(w.data), static_cast<size_t>(w.rows * w.cols) * 4);
  });
  std::filesystem::remove(path);
  Write("m/model.safetensors", odd);
  const Checkpoint c = Open(Path("m"));
  EXPECT_EQ(c.audit().copied_bytes, c.audit().bytes);
  EXPECT_THAT(c.warnings(), Contains(HasSubstr("copied into memory")));
  size_t i = 0;
  c.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data) % 4, 0u);
    EXPECT_EQ(std::memcmp(w.data, expected[i].data(), expected[i].size()), 0) << info.name;
    ++i;
  });
}

TEST_F(OpenTest, PathsThatAreNoCheckpoint) {
  EXPECT_THAT(OpenError(), HasSubstr("there is no checkpoint at"));
  Write("m", "x");
  EXPECT_THAT(OpenError(), HasSubstr("a file"));
  std::filesystem::remove(Path("m"));
  std::filesystem::create_directories(Path("m"));
  EXPECT_THAT(OpenError(), HasSubstr("holds no weights"));
  Write("m/model.safetensors", "x");
  EXPECT_THAT(OpenError(), HasSubstr("has no config.json"));
  Write("m/config.json", model::ToJson(TinyConfig()));
  EXPECT_THAT(OpenError(), HasSubstr("model.safetensors: not a safetensors file"));
}

TEST_F(OpenTest, GenerationConfigGivesDefaultsAndMoreEnds) {
  Make(Precision::kBf16);
  EXPECT_THAT(Open(Path("m")).eos_ids(), ElementsAre(1));
  Write("m/generation_config.json",
        R"({"do_sample":true,"temperature":0.6,"top_p":0.95,"top_k":50,"repetition_penalty":1.1,)"
        R"("bos_token_id":0,"eos_token_id":[1,7],"transformers_version":"4"})");
  const Checkpoint c = Open(Path("m"));
  EXPECT_THAT(c.eos_ids(), ElementsAre(1, 7));
  EXPECT_EQ(c.generation_config().temperature, 0.6);
  EXPECT_EQ(c.generation_config().top_p, 0.95);
  EXPECT_EQ(c.generation_config().top_k, 50);
  EXPECT_EQ(c.generation_config().do_sample, true);
  EXPECT_FALSE(c.generation_config().min_p);
  for (const char* bad : {R"({"temperature":"hot"})", R"({"top_p":2})", R"({"top_k":-1})", R"({"eos_token_id":"x"})",
                          R"({"do_sample":1})", "[]", "{"}) {
    Write("m/generation_config.json", bad);
    EXPECT_THAT(OpenError(), HasSubstr("generation_config.json: ")) << bad;
  }
  Write("m/generation_config.json", R"({"eos_token_id":40})");
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("not in the vocabulary"), HasSubstr("40")));
}

// The published model: 91,991 tensors in 163 files, 689 GB of which only the headers exist.
TEST_F(OpenTest, ThePublishedSizeOpensFromItsHeaders) {
  const model::ModelConfig config = model::ReadConfigFile(std::string(kConfigs) + "deepseek-v3.json").config;
  const std::vector<ShardFile> shards = Shard(Layout(config, Precision::kFp8), 4'300'000'000);
  std::filesystem::create_directories(Path("m"));
  int64_t bytes = 0;
  for (const ShardFile& s : shards) {
    const std::string head = io::SafetensorsHead(s.tensors);
    Write("m/" + s.name, head);
    std::error_code error;
    const int64_t size = static_cast<int64_t>(head.size()) + TotalBytes(s.tensors);
    std::filesystem::resize_file(Path("m/" + s.name), static_cast<uintmax_t>(size), error);
    if (error) GTEST_SKIP() << "this file system takes no sparse files: " << error.message();
    bytes += TotalBytes(s.tensors);
  }
  Write("m/model.safetensors.index.json", IndexJson(shards));
  Write("m/config.json", model::ToJson(config));
  EXPECT_GE(shards.size(), 160u);
  EXPECT_GT(bytes, 688'000'000'000);

  const auto start = std::chrono::steady_clock::now();
  const Checkpoint c = Open(Path("m"));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(c.audit().tensors, 46'183);
  EXPECT_EQ(c.audit().fp8_tensors, 45'808);
  EXPECT_EQ(c.audit().tensors + c.audit().scales, 91'991);
  EXPECT_EQ(c.audit().bytes, bytes);
  EXPECT_EQ(c.audit().copied_bytes, 0);
  // Headers and index are 20 MB of JSON. Under sanitizers and beside other work this stays far below reading weights.
  EXPECT_LT(seconds, 20.0);
  RecordProperty("open_ms", static_cast<int>(seconds * 1000));
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    // Pages of mapped files: the program's own, and no weights.
    if (line.rfind("RssFile:", 0) != 0) continue;
    EXPECT_LT(std::stol(line.substr(8)), 200'000) << line;
  }
}

}  // namespace
}  // namespace fathom::checkpoint
