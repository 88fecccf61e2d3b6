// fathom train and bad input: recipes, corpora, checkpoints, disks, numbers. Each is named, with what would be right.
#include "train_cli_test.h"

namespace fathom {
namespace {

using nlohmann::json;

constexpr char kFew[] = "--set train.steps=6 --set checkpoint.every=2 ";

TEST_F(TrainCli, RecipesThatAreWrong) {
  ExpectSays(Train("r", "--set train.stepz=3"), 1, {"train.stepz", "did you mean train.steps?"});
  ExpectSays(Train("r", "--set train.steps=soon"), 1, {"train.steps", "soon", "a whole number"});
  ExpectSays(Train("r", "--set train.precision=fp64"), 1, {"fp64", "bf16", "fp32"});
  ExpectSays(Train("r", "--set optimizer.beta1=2"), 1, {"optimizer.beta1", "2"});
  ExpectSays(Train("r", "--set nonsense"), 1, {"key=value", "nonsense"});
  ExpectSays(Train("r", "--set train.micro_batch=3"), 1, {"batch_size 4, micro_batch 3", "a divisor of 4"});
  ExpectSays(Train("r", "--set train.steps=0"), 1, {"does not say when the run ends", "train.tokens"});
  ExpectSays(Train("r", "--set data.sequence_length=4000"), 1, {"4000", "at most 512", "max_position_embeddings"});
  ExpectSays(Train("r", "--set model.config=" + At("none.json")), 1, {"none.json", "No such file"});
  ExpectSays(Train("r", "--set model.from=" + At("none")), 1, {"model.config or model.from"});
  ExpectSays(Train("r", "--set data.validation_fraction=0 --set validation.every=2"), 1, {"validation.every"});
  const std::string broken = Put("broken.toml", "[train\nsteps = 3\n"), binary = FATHOM_BINARY;
  ExpectSays(Shell(binary + " train " + broken + " --out " + At("r")), 1, {"broken.toml"});
  ExpectSays(Shell(binary + " train " + At("none.toml") + " --out " + At("r")), 1, {"none.toml"});
  ExpectSays(Shell(binary + " train " + recipe_), 1, {"--out"});
  EXPECT_EQ(Shell(binary + " train").code, 2);
  EXPECT_EQ(Train("r", "--no-such-flag").code, 2);
  // What was refused can be repaired and run without another word.
  EXPECT_TRUE(!std::filesystem::exists(At("r")) || std::filesystem::is_empty(At("r")));
}

TEST_F(TrainCli, ModelsThatDoNotFit) {
  config_["vocab_size"] = 100;
  Put("small.json", config_.dump());
  ExpectSays(Train("r", "--set model.config=" + At("small.json")), 1,
             {"the tokenizer does not belong to this model", "4096 tokens", "at most 100 (vocab_size"});
  config_["vocab_size"] = 4096;
  config_["num_experts_per_tok"] = 9;
  Put("wrong.json", config_.dump());
  ExpectSays(Train("r", "--set model.config=" + At("wrong.json")), 1, {"num_experts_per_tok"});

  // 12 TB of weights, gradients and moments; 8 million times 512 tokens.
  ExpectSays(
      Train("r", "--set model.config=" FATHOM_SOURCE_DIR "/configs/models/deepseek-v3.json"), 1,
      {"the model's training state does not fit into memory", " TB for weights", "what is free", "a smaller model"});
  ExpectSays(
      Train("r", "--set schedule.batch_size=1048576 --set train.micro_batch=1048576 --set data.sequence_length=512"), 1,
      {"a step's activations do not fit into memory", " TB for train.micro_batch = 1048576", "what is free",
       "hint:     train.micro_batch = ", " needs "});
  EXPECT_TRUE(std::filesystem::is_empty(At("r")));
}

TEST_F(TrainCli, CorporaThatCannotBeRead) {
  const auto with = [&](const std::string& path) {
    std::filesystem::remove_all(At("r"));
    return Train("r", std::string(kFew) + "--set validation.every=0 --set 'data.sources=[\"" + At(path) + "\"]'");
  };
  ExpectSays(with("none.txt"), 1, {"none.txt", "No such file"});
  std::filesystem::create_directories(At("nothing"));
  ExpectSays(with("nothing"), 1, {"nothing"});
  Put("empty.txt", "");
  ExpectSays(with("empty.txt"), 1, {"empty.txt"});
  Put("zeros/zeros.txt", std::string(5000, '\0'));
  Put("zeros/more.txt", " \n");
  ExpectSays(with("zeros"), 1, {"zeros"});
  Put("table.parquet", "PAR1");
  ExpectSays(with("table.parquet"), 1, {"table.parquet"});
}

// What is bad is left out and named; what is left is trained on.
TEST_F(TrainCli, CorporaThatAreBadInPart) {
  std::string good;
  for (int i = 0; i < 300; ++i) good += "The fox went over the hill " + std::to_string(i) + ", and nobody saw it.\n";
  Put("text/good.txt", good);
  Put("text/empty.txt", "");
  Put("text/zeros.txt", std::string(4096, '\0') + "text");
  Put("text/broken.txt", good + "\xff\xfe caf\xe9 " + good);
  Put("text/lines.jsonl", json{{"text", good}}.dump() + "\n{\"text\": \"" + std::string(50'000, 'x') +
                              "\"}\nno json\n{\"other\": 1}\n" + json{{"text", good}}.dump() + "\n");
  const Ran r = Train(
      "r", std::string(kFew) + "--set 'data.sources=[\"" + At("text") + "\"]' --set data.max_document_bytes=20000");
  ExpectSays(r, 0, {"empty.txt", "zeros.txt", "broken.txt", "lines.jsonl", "step 6/6"});
  const auto line_with = [&](const std::string& a, const std::string& b) {
    std::istringstream in(r.out);
    for (std::string line; std::getline(in, line);) {
      if (line.find("warning") != std::string::npos && line.find(a) != std::string::npos &&
          line.find(b) != std::string::npos)
        return true;
    }
    return false;
  };
  EXPECT_TRUE(line_with("zeros.txt", "binary")) << r.out;
  EXPECT_TRUE(line_with("broken.txt", "UTF-8")) << r.out;
  EXPECT_TRUE(line_with("lines.jsonl", "max_document_bytes")) << r.out;
  EXPECT_TRUE(line_with("lines.jsonl", "JSON")) << r.out;
}

TEST_F(TrainCli, CheckpointsOfAnotherShape) {
  ExpectTrains("r", std::string(kFew) + "--set train.steps=2");
  config_["moe_intermediate_size"] = 32;
  Put("config.json", config_.dump());
  ExpectSays(Train("r", std::string(kFew) + "--resume"), 1,
             {"step-00000002 is of another model", "moe_intermediate_size = 24", "moe_intermediate_size = 32"});
}

TEST_F(TrainCli, DamagedCheckpointsArePassedOver) {
  ExpectTrains("whole", kFew);
  ExpectTrains("r", std::string(kFew) + "--set train.steps=4");
  FlipBit(CheckpointFile("r", 4, "masters.safetensors"), 1000);
  ExpectSays(Train("r", std::string(kFew) + "--resume"), 0,
             {"warning: ", "step-00000004 was passed over", "masters.safetensors is damaged", "step-00000002: step 2"});
  ExpectSameRun("whole", "r");
  EXPECT_EQ(Resumes("r"), (std::vector<int64_t>{2}));

  for (const int64_t step : Checkpoints("r")) FlipBit(CheckpointFile("r", step, "v.safetensors"), 77);
  const std::string before = Slurp(At("r/metrics.jsonl"));
  ExpectSays(Train("r", std::string(kFew) + "--resume --set train.steps=8"), 1,
             {"none of the checkpoints", "v.safetensors is damaged", "begin again in another folder"});
  EXPECT_TRUE(Slurp(At("r/metrics.jsonl")) == before);
}

// A file may have 200 KB: the weights' file does not fit. The run ends, and goes on when there is room.
TEST_F(TrainCli, AFullDisk) {
  ExpectTrains("whole", kFew);
  ExpectTrains("r", std::string(kFew) + "--set train.steps=2");
  const Ran r = Shell("ulimit -f 400; " + Command("r", std::string(kFew) + "--resume"));
  ExpectSays(r, 1, {"the state of step 4 was not saved", "step 2 is the last that is saved"});
  EXPECT_EQ(Checkpoints("r"), (std::vector<int64_t>{2}));
  ExpectTrains("r", std::string(kFew) + "--resume");
  ExpectSameRun("whole", "r");
}

TEST_F(TrainCli, NaNInAWeight) {
  ExpectTrains("first", std::string(kFew) + "--set train.precision=fp32");
  for (const char* tensor : {"model.layers.1.mlp.experts.3.up_proj.weight", "lm_head.weight", "model.norm.weight",
                             "model.layers.2.eh_proj.weight"}) {
    std::filesystem::remove_all(At("from"));
    std::filesystem::remove_all(At("r"));
    std::filesystem::copy(At("first/final"), At("from"));
    Poison(At("from/model.safetensors"), tensor);
    const Ran r = Train("r", "--set train.steps=20 --set model.config= --set model.from=" + At("from") +
                                 " --set on_bad_step.max_skips=3");
    ExpectSays(r, 1, {"step 1 skipped: loss is nan", "step 3 skipped", "4 bad steps in a row", tensor, "inspect"});
    EXPECT_EQ(Rows("r").size(), 3u);
    EXPECT_TRUE(Rows("r")[0]["skipped"].is_string());
    EXPECT_TRUE(Rows("r")[0]["mtp_loss"][0].is_null());  // the main loss does not depend on the MTP layer
  }
  ExpectSays(Train("r2", "--set model.config= --set model.from=" + At("from") + " --set on_bad_step.nonfinite=stop"), 1,
             {"step 1: loss is nan", "model.layers.2.eh_proj.weight"});
  // The good one goes on.
  ExpectSays(Train("r3", std::string(kFew) + "--set model.config= --set model.from=" + At("first/final")), 0,
             {"weights of"});
  EXPECT_LT(Rows("r3")[0]["loss"], Rows("first")[0]["loss"].get<double>());
}

// A weight that is finite, and products with it that are not: the first tensor in the order of execution is named.
TEST_F(TrainCli, ActivationsThatOverflow) {
  ExpectTrains("first", std::string(kFew) + "--set train.precision=fp32");
  std::filesystem::copy(At("first/final"), At("from"));
  Poison(At("from/model.safetensors"), "model.layers.1.mlp.shared_experts.up_proj.weight", 3e38f);
  for (const char* precision : {"fp32", "bf16", "fp8"}) {
    const std::string flags = std::string("--set train.steps=20 --set model.config= --set model.from=") + At("from") +
                              " --set train.precision=" + precision;
    const std::string tensor = "layers.1.mlp.shared_experts.up_proj output";
    ExpectSays(
        Train(precision, flags + " --set on_bad_step.max_skips=1"), 1,
        {"step 1 skipped", "the first that is not finite: " + tensor, "2 bad steps in a row", tensor + ", step 2"});
    ExpectSays(Train(std::string(precision) + "-stop", flags + " --set on_bad_step.nonfinite=stop"), 1,
               {tensor + ", step 1", "finite losses and gradients"});
  }
}

TEST_F(TrainCli, SpikesAndListedSteps) {
  // Everything is a spike beside half the median.
  ExpectSays(
      Train("spikes", "--set on_bad_step.spike_factor=0.5 --set on_bad_step.max_skips=2"), 1,
      {"step 9 skipped: loss", "is over 0.5 times the median", "3 bad steps in a row", "on_bad_step.skip_steps"});
  EXPECT_EQ(Rows("spikes").size(), 10u);
  // Nothing is beside a hundred times.
  ExpectTrains("none", "--set train.steps=12 --set on_bad_step.spike_factor=100");
  ExpectTrains("off", "--set train.steps=12");
  EXPECT_TRUE(Slurp(At("none/final/model.safetensors")) == Slurp(At("off/final/model.safetensors")));

  ExpectSays(Train("listed", std::string(kFew) + "--set on_bad_step.skip_steps=[3,5]"), 0, {"step 3/6  skipped"});
  const std::vector<json> rows = Rows("listed");
  ASSERT_EQ(rows.size(), 6u);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].contains("skipped"), i == 2 || i == 4);
    EXPECT_EQ(rows[i]["tokens"], (i + 1) * 4 * 48);
  }
  EXPECT_EQ(rows[1], Rows("off")[1]);  // until then nothing differs
  EXPECT_NE(rows[3]["loss"], Rows("off")[3]["loss"]);
}

}  // namespace
}  // namespace fathom
