// fathom train with stages, as its user meets it: what each stage goes on from, that a run survives being killed in any
// of them and between two, and what is refused before anything runs.
#include "core/rng.h"
#include "train_cli_test.h"

namespace fathom {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

class Stages : public TrainCli {
 protected:
  // Stages short (12 steps of 48 tokens a sequence) and long (10 of 192, YaRN by 4).
  Stages() {
    std::string text = Slurp(recipe_);
    const size_t validation = text.find("validation_fraction");
    text.replace(validation, std::string("validation_fraction = 0.1").size(), "validation_fraction = 0");
    text = "name = \"short\"\n" + text +
           "[[stages]]\nname = \"long\"\ndata.sequence_length = 192\ntrain.steps = 10\nschedule.lr = 1e-3\n"
           "schedule.batch_size = 2\nmodel.rope_scaling = {type = \"yarn\", factor = 4, "
           "original_max_position_embeddings = 48}\n";
    Put("recipe.toml", text);
    config_["max_position_embeddings"] = 48;
    config_["bos_token_id"] = 7;  // the tokenizer's, 0, takes its place
    Put("config.json", config_.dump());
  }
  static constexpr const char* kFew = "--set train.steps=12 ";
  void ExpectSameStages(const std::string& a, const std::string& b) const {
    ExpectSameRun(a + "/short", b + "/short");
    ExpectSameRun(a + "/long", b + "/long");
    for (const char* name : {"model.safetensors", "config.json", "training.json"})
      EXPECT_TRUE(Slurp(At(a + "/final/" + name)) == Slurp(At(b + "/final/" + name))) << name;
  }
};

TEST_F(Stages, ARunHasAFolderForEach) {
  const Ran r = Train("run", kFew);
  ExpectSays(r, 0, {"stage 1 of 2: short", "stage 2 of 2: long", "weights and moments of", "step 10/10"});
  const std::vector<json> first = Rows("run/short"), second = Rows("run/long");
  ASSERT_EQ(first.size(), 12u);
  ASSERT_EQ(second.size(), 10u);
  EXPECT_EQ(first[0]["stage"], "short");
  EXPECT_EQ(second[0]["stage"], "long");
  EXPECT_EQ(second[0]["step"], 1);
  EXPECT_EQ(second[0]["tokens"], 2 * 192);
  EXPECT_EQ(second[0]["lr"], 1e-3);
  const json before = json::parse(Slurp(At("run/short/final/config.json")));
  const json after = json::parse(Slurp(At("run/final/config.json")));
  EXPECT_TRUE(before["rope_scaling"].is_null());
  EXPECT_EQ(before["max_position_embeddings"], 48);
  EXPECT_EQ(after["rope_scaling"]["type"], "yarn");
  EXPECT_EQ(after["rope_scaling"]["factor"], 4);
  EXPECT_EQ(after["rope_scaling"]["original_max_position_embeddings"], 48);
  EXPECT_EQ(after["max_position_embeddings"], 192);
  EXPECT_TRUE(Slurp(At("run/final/model.safetensors")) == Slurp(At("run/long/final/model.safetensors")));
  for (const char* report : {"run/report.html", "run/short/report.html", "run/long/report.html"})
    EXPECT_NE(Slurp(At(report)).find("<svg"), std::string::npos) << report;
  EXPECT_NE(Slurp(At("run/recipe.toml")).find("[[stages]]"), std::string::npos);
  // Not a run of another shape.
  ExpectSays(Train("run"), 1, {"is not empty"});
  ExpectSays(Train("run/short", kFew + std::string("--resume")), 1, {"is a run without stages"});
}

// With a learning rate of 0 nothing moves: what the second stage holds after its steps is what it began with.
TEST_F(Stages, AStageBeginsWithTheLastOnesMasters) {
  ExpectTrains("run",
               std::string(kFew) + "--set stages.long.schedule.lr=0 --set stages.long.schedule.bias_update_speed=0");
  const std::string before = Slurp(CheckpointFile("run/short", 12, "masters.safetensors"));
  EXPECT_GT(before.size(), 100'000u);
  EXPECT_TRUE(before == Slurp(CheckpointFile("run/long", 10, "masters.safetensors")));
  EXPECT_FALSE(Slurp(CheckpointFile("run/short", 12, "m.safetensors")) ==
               Slurp(CheckpointFile("run/long", 10, "m.safetensors")));
}

// A corpus that is one sequence is the same wherever a run reads on, so two stages of 5 steps are one run of 10: the
// masters, both moments, the optimizer's step and the router's bias all came over.
TEST_F(Stages, AStageGoesOnAsTheSameRun) {
  std::string text;
  for (int i = 0; i < 7; ++i) text += " Alice";  // with the tokens at its ends, a sequence
  const std::string corpus = Put("one.txt", text);
  const std::string flags = "--set 'data.sources=[\"" + corpus +
                            "\"]' --set data.sequence_length=8 --set data.fim_rate=0 --set schedule.lr=1e-3 "
                            "--set data.isolate_documents=true --set schedule.batch_size=2 ";
  ExpectTrains("two", flags +
                          "--set train.steps=5 --set stages.long.train.steps=5 --set "
                          "stages.long.data.sequence_length=8 --set "
                          "'stages.long.model.rope_scaling={type=\"default\"}'");
  const std::string all = Slurp(At("recipe.toml"));
  Put("recipe.toml", all.substr(0, all.find("[[stages]]")));
  ExpectTrains("one", flags + "--set train.steps=10");
  for (const char* name : {"masters.safetensors", "m.safetensors", "v.safetensors"})
    EXPECT_TRUE(Slurp(CheckpointFile("two/long", 5, name)) == Slurp(CheckpointFile("one", 10, name))) << name;
}

TEST_F(Stages, KilledAnywhereAndResumedIsTheSameToTheBit) {
  ExpectTrains("whole", kFew);
  Rng rng(7);
  int killed = 0;
  for (; killed < 10; ++killed) {
    const int64_t wanted = 1 + rng.NextBelow(8);  // rows of this start, of both stages
    const auto rows = [&] { return static_cast<int64_t>(AllRows("cut/short").size() + AllRows("cut/long").size()); };
    const int64_t before = killed == 0 ? 0 : rows();
    const pid_t child = Start("cut", std::string(kFew) + (killed == 0 ? "" : "--resume"));
    const auto begin = std::chrono::steady_clock::now();
    int status = 0;
    while (rows() < before + wanted && waitpid(child, &status, WNOHANG) == 0) {
      std::this_thread::sleep_for(microseconds(500));
      if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(5)) break;  // rows were taken back
    }
    std::this_thread::sleep_for(microseconds(rng.NextBelow(20'000)));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (std::filesystem::exists(At("cut/final"))) break;
  }
  EXPECT_GE(killed, 3);
  ExpectTrains("cut", std::string(kFew) + "--resume");
  ExpectSameStages("whole", "cut");
}

TEST_F(Stages, BetweenTwoStagesNothingIsLost) {
  ExpectTrains("whole", kFew);
  // As a kill leaves it after the first stage's last state: no model, nothing of the second.
  ExpectTrains("cut", kFew);
  for (const char* gone : {"cut/long", "cut/final", "cut/short/final"}) std::filesystem::remove_all(At(gone));
  ExpectSays(Train("cut", std::string(kFew) + "--resume"), 0, {"resumed from", "short/final", "stage 2 of 2: long"});
  ExpectSameStages("whole", "cut");
  // A second stage without a checkpoint begins anew.
  std::filesystem::remove_all(At("cut/long/checkpoints"));
  ExpectTrains("cut", std::string(kFew) + "--resume");
  ExpectSameStages("whole", "cut");
  // Finished: said, and nothing runs.
  ExpectSays(Train("cut", std::string(kFew) + "--resume"), 0, {"stage short is finished: 12 steps", "is finished: 10"});
}

TEST_F(Stages, AFinishedStageStaysAsItEnded) {
  ExpectTrains("run", kFew);
  ExpectSays(Train("run", "--resume --set train.steps=14"), 1,
             {"stage short ended at step 12", "stage long went on from there"});
  ExpectSays(Train("run", std::string(kFew) + "--resume --set data.seed=3"), 1,
             {"stage short: data.seed cannot change"});
  ExpectSays(Train("run", std::string(kFew) + "--resume --set name=other"), 1,
             {"stage other has not run", "stage long went on without it"});
  // The last one may go on.
  ExpectSays(Train("run", std::string(kFew) + "--resume --set stages.long.train.steps=12"), 0, {"step 12/12"});
  EXPECT_EQ(json::parse(Slurp(At("run/final/training.json")))["step"], 12);
}

TEST_F(Stages, WhatContradictsIsRefusedBeforeAnythingRuns) {
  const std::string yarn = "--set 'stages.long.model.rope_scaling={type=\"yarn\", factor=";
  ExpectSays(Train("run", "--set stages.long.data.sequence_length=193"), 1,
             {"stage long: data.sequence_length is longer", "193", "at most 192"});
  ExpectSays(Train("run", yarn + "4, original_max_position_embeddings=64}'"), 1,
             {"stage long: ", "got:      64", "expected: 48"});
  ExpectSays(Train("run", yarn + "2, original_max_position_embeddings=48}' --set "
                                 "stages.long.model.max_position_embeddings=192"),
             1, {"stage long: model.rope_scaling does not reach", "factor = 4"});
  ExpectSays(Train("run", "--set 'stages.long.data.sources=[\"/no/such\"]'"), 1, {"stage long: ", "/no/such"});
  EXPECT_TRUE(!std::filesystem::exists(At("run")) || std::filesystem::is_empty(At("run")));
}

TEST_F(Stages, EpochsOfASmallCorpusAreSaid) {
  // 130 bytes of text; the first stage alone reads 2 * 4 * 48 tokens.
  std::string text;
  for (int i = 0; i < 26; ++i) text += "Alice ";
  const Ran r = Train("run",
                      "--set train.steps=2 --set data.fim_rate=0 --set stages.long.train.steps=1 --set "
                      "'data.sources=[\"" +
                          Put("small.txt", text) + "\"]'");
  ExpectSays(r, 0, {"the corpus is small for this recipe", "small.txt has about", "epochs"});
  EXPECT_EQ(Train("large", "--set train.steps=2 --set stages.long.train.steps=1").out.find("epochs"),
            std::string::npos);
}

// Before it has learned anything: the tools around a run with stages work on its models, beyond their length too.
TEST_F(Stages, NeedlesOfAFreshModel) {
  const std::string binary = FATHOM_BINARY;
  const std::string recall = binary +
                             " corpus recall --form notes --seed 4 --documents 30 --least-length 32 --length 48 " +
                             "--tokenizer " + FATHOM_SOURCE_DIR + "/configs/runs/smoke-tokenizer --out ";
  ExpectSays(Shell(recall + At("a.jsonl")), 0, {"30 documents"});
  ExpectSays(Shell(recall + At("b.jsonl")), 0, {"30 documents"});
  EXPECT_EQ(Slurp(At("a.jsonl")), Slurp(At("b.jsonl")));
  EXPECT_NE(Slurp(At("a.jsonl")).find("Recall: "), std::string::npos);
  ExpectSays(Shell(binary + " corpus recall -n 1 --least-length 60 --length 40 --out " + At("c.jsonl")), 1,
             {"--least-length is above --length"});

  ExpectTrains("run",
               "--set train.steps=2 --set stages.long.train.steps=1 --set 'data.sources=[\"" + At("a.jsonl") + "\"]'");
  const Ran r = Shell(binary + " eval needle " + At("run/short/final") + " --form notes --lengths 96,48 --depths 2 " +
                      "--samples 2 --others 1 --json --svg " + At("map.svg") + " --png " + At("map.png") + " 2>" +
                      At("said.txt"));
  ASSERT_EQ(r.code, 0) << r.out << Slurp(At("said.txt"));
  EXPECT_NE(Slurp(At("said.txt")).find("beyond the model's 48 positions"), std::string::npos);
  const json map = json::parse(r.out);
  ASSERT_EQ(map["cells"].size(), 4u);
  EXPECT_EQ(map["cells"][0]["length"], 48);
  for (const json& cell : map["cells"]) EXPECT_GT(cell["nll"].get<double>(), 2.0);  // ln 4096 = 8.3 for a blind guess
  EXPECT_EQ(Slurp(At("map.svg")).rfind("<svg", 0), 0u);
  EXPECT_EQ(Slurp(At("map.png")).substr(1, 3), "PNG");
  ExpectSays(Shell(binary + " eval needle " + At("run/final") + " --lengths 16"), 1, {"too short for a needle"});
}

}  // namespace
}  // namespace fathom
