// fathom train, as its user meets it: what a run leaves, that it survives, and what its numbers do not depend on.
#include "train_cli_test.h"

#include "core/rng.h"

namespace fathom {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

TEST_F(TrainCli, ARunLeavesWhatItPromises) {
  const Ran r = Train("run", "--set validation.every=12 --set validation.sequences=4");
  ExpectSays(r, 0, {"memory: ", "step 24/24", "saved ", "wrote "});
  const std::vector<json> rows = Rows("run");
  ASSERT_EQ(rows.size(), 24u);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["step"], i + 1);
    EXPECT_EQ(rows[i]["tokens"], (i + 1) * 4 * 48);
    for (const char* key :
         {"loss", "mtp_loss", "mtp_acceptance", "balance_loss", "grad_norm", "lr", "max_vio", "bias_min"})
      EXPECT_TRUE(rows[i].contains(key)) << key;
    EXPECT_EQ(rows[i].contains("val_loss"), i + 1 == 12 || i + 1 == 24);
  }
  EXPECT_LT(rows.back()["loss"], rows.front()["loss"].get<double>() - 0.5);
  EXPECT_EQ(Checkpoints("run"), (std::vector<int64_t>{20, 24}));
  EXPECT_TRUE(Slurp(At("run/recipe.toml")).find("steps = 24") != std::string::npos);

  const std::string html = Slurp(At("run/report.html"));
  EXPECT_NE(html.find("<svg"), std::string::npos);
  for (const char* reference :
       {"src=\"http", "href=\"http", "src='http", "href='http", "url(http", "@import", "src=\"//"})
    EXPECT_EQ(html.find(reference), std::string::npos) << reference;
  size_t events = 0;
  for (const auto& entry : std::filesystem::directory_iterator(At("run/tensorboard"))) {
    events += entry.path().filename().string().starts_with("events.out.tfevents.") && entry.file_size() > 1000;
  }
  EXPECT_EQ(events, 1u);

  const std::string binary = FATHOM_BINARY;
  const Ran text =
      Shell(binary + " generate " + At("run/final") + " -p 'Alice was' -n 8 --temperature 0 --json 2>/dev/null");
  ASSERT_EQ(text.code, 0) << text.out;
  EXPECT_EQ(json::parse(text.out)["ids"].size(), 8u);
  ExpectSays(Shell(binary + " inspect " + At("run/final") + " --scan"), 0, {});
}

// kill -9 at any moment, many times over; what is resumed comes to the same bits.
TEST_F(TrainCli, KilledAndResumedIsTheSameToTheBit) {
  const std::string flags = "--set validation.every=8 --set validation.sequences=4 --set train.steps=60";
  ExpectTrains("whole", flags);
  Rng rng(5);
  int killed = 0;
  for (; killed < 12; ++killed) {
    // So many rows of this start, then some microseconds; for none of them, any moment of the beginning.
    const int64_t rows_wanted = rng.NextBelow(10);
    const size_t before = Resumes("cut").size();
    const pid_t child = Start("cut", flags + (killed == 0 ? "" : " --resume"));
    const auto begin = std::chrono::steady_clock::now();
    for (bool reached = rows_wanted == 0; !reached;) {
      std::this_thread::sleep_for(microseconds(500));
      const std::vector<json> rows = AllRows("cut");
      int64_t since = 0;
      size_t resumes = 0;
      for (const json& row : rows) {
        since = row.contains("resumed_from") ? 0 : since + 1;
        resumes += row.contains("resumed_from");
      }
      reached = since >= rows_wanted && (killed == 0 || resumes > before);
      ASSERT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
    }
    std::this_thread::sleep_for(microseconds(rng.NextBelow(rows_wanted == 0 ? 150'000 : 20'000)));
    kill(child, SIGKILL);
    if (ExitOf(child) != 128 + SIGKILL) break;  // it was at its end already
  }
  EXPECT_GE(killed, 6);
  ExpectTrains("cut", flags + " --resume");
  ExpectSameRun("whole", "cut");
  const std::vector<int64_t> resumes = Resumes("cut");
  EXPECT_GE(resumes.size(), 3u);
  for (size_t i = 0; i < resumes.size(); ++i) {
    EXPECT_EQ(resumes[i] % 5, 0);
    EXPECT_GE(resumes[i], resumes[i == 0 ? 0 : i - 1]);
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(At("cut")))
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
}

// A checkpoint after every step: signals meet steps, validations and savings alike.
TEST_F(TrainCli, SignalsSaveAndEnd) {
  const std::string flags = "--set checkpoint.every=1 --set validation.every=2 --set validation.sequences=8";
  ExpectTrains("whole", flags);
  Rng rng(6);
  for (int i = 0; i < 6; ++i) {
    const int signal = i % 2 == 0 ? SIGTERM : SIGINT;
    const size_t rows = Rows("cut").size();
    const pid_t child = Start("cut", flags + (i == 0 ? "" : " --resume"));
    for (int wait = 0; wait < 20'000 && Rows("cut").size() <= rows; ++wait)
      std::this_thread::sleep_for(microseconds(500));
    std::this_thread::sleep_for(microseconds(rng.NextBelow(15'000)));
    kill(child, signal);
    const int code = ExitOf(child);
    if (Rows("cut").size() == 24) break;  // it was in its last step: no need to stop
    EXPECT_EQ(code, signal == SIGTERM ? 0 : 130) << Slurp(At("cut.log"));
    EXPECT_EQ(Checkpoints("cut").back(), static_cast<int64_t>(Rows("cut").size()));  // nothing is lost
    EXPECT_FALSE(std::filesystem::exists(At("cut/final")));
    EXPECT_NE(Slurp(At("cut.log")).find("--resume goes on"), std::string::npos);
  }
  ExpectTrains("cut", flags + " --resume");
  ExpectSameRun("whole", "cut");
}

TEST_F(TrainCli, SigtermInALongValidation) {
  const std::string held = Put("held.txt", Slurp(FATHOM_SOURCE_DIR "/configs/runs/text/alice.txt").substr(0, 290'000));
  const pid_t child = Start("run",
                            "--set train.steps=3 --set validation.every=1 --set validation.sequences=100000 --set "
                            "data.validation_fraction=0 --set 'data.validation_sources=[\"" +
                                held + "\"]'");
  for (int i = 0; i < 20'000 && !std::filesystem::exists(At("run/metrics.jsonl")); ++i)
    std::this_thread::sleep_for(microseconds(500));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the first row comes when the validation ends
  EXPECT_EQ(Rows("run").size(), 0u);
  kill(child, SIGTERM);
  EXPECT_EQ(ExitOf(child), 0) << Slurp(At("run.log"));
  EXPECT_EQ(Checkpoints("run").size(), 1u);
  EXPECT_LT(Checkpoints("run").back(), 3);
}

TEST_F(TrainCli, TheFolderOfARun) {
  std::filesystem::create_directories(At("run"));
  const Ran first = Train("run", "--resume --set train.steps=7");
  ExpectSays(first, 0, {"no checkpoint: beginning at step 0"});
  ExpectSays(Train("run"), 1, {"is not empty", "--resume"});

  // Finished: nothing changes.
  std::vector<std::pair<std::string, std::string>> before;
  const auto all = [&] {
    std::vector<std::pair<std::string, std::string>> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(At("run"))) {
      if (entry.is_regular_file()) files.emplace_back(entry.path().string(), Slurp(entry.path().string()));
    }
    std::sort(files.begin(), files.end());
    return files;
  };
  before = all();
  ExpectSays(Train("run", "--resume --set train.steps=7"), 0, {"is finished: 7 steps"});
  EXPECT_TRUE(before == all());

  // More steps: on from there, as if it had been told so from the beginning (this schedule ends at step 24).
  ExpectSays(Train("run", "--resume"), 0, {"train.steps was 7 and is now 24", "step 24/24"});
  ExpectTrains("whole");
  ExpectSameRun("whole", "run");
  // Fewer: it is past its end, and the model is what it is.
  ExpectSays(Train("run", "--resume --set train.steps=9"), 0, {"is finished: 24 steps"});

  ExpectSays(Train("run", "--resume --set data.seed=5"), 1, {"data.seed cannot change", "got:      5", "expected: 0"});
  Put("file", "");
  ExpectSays(Train("file"), 1, {"is a file"});
  ExpectSays(Train("config.json/run"), 1, {"config.json/run", "Not a directory"});
}

// A run that ended, went on and was killed has the older model in final/: it is written anew.
TEST_F(TrainCli, AnOlderExportIsReplaced) {
  ExpectTrains("run", "--set train.steps=3");
  const std::string old = Slurp(At("run/final/model.safetensors"));
  std::filesystem::copy(At("run/final"), At("old"));
  ExpectTrains("run", "--resume --set train.steps=5");
  const std::string done = Slurp(At("run/final/model.safetensors"));
  EXPECT_FALSE(old == done);
  std::filesystem::remove_all(At("run/final"));
  std::filesystem::rename(At("old"), At("run/final"));
  ExpectTrains("run", "--resume --set train.steps=5");
  EXPECT_TRUE(Slurp(At("run/final/model.safetensors")) == done);
  EXPECT_EQ(json::parse(Slurp(At("run/final/training.json")))["step"], 5);
}

TEST_F(TrainCli, ThreadsAndRecomputationDoNotShow) {
  const std::string few = "--set train.steps=6 ";
  for (const std::string name : {"bf16", "fp32", "fp8"}) {
    const std::string precision = "--set train.precision=" + name + " ";
    ExpectTrains(name, few + precision);
    for (const std::string threads : {"1", "3"}) {
      ExpectTrains(name + threads, few + precision + "--threads " + threads);
      ExpectSameRun(name, name + threads);
    }
    ExpectTrains(name + "full", few + precision + "--set train.recompute=full");
    ExpectSameRun(name, name + "full");
  }
  EXPECT_FALSE(Slurp(At("bf16/final/model.safetensors")) == Slurp(At("fp32/final/model.safetensors")));
}

// Micro-batches change the order of sums and nothing else. With an eps of Adam far above the rounding of the gradients
// (norm at most 1, relative error about 2^-24 sqrt(192 tokens) = 8e-7), an update differs by at most lr 8e-7 / eps =
// 8e-8 an element after clipping, a loss by at most norm times the length of that: 8e-8 sqrt(430,000 weights) = 5e-5 a
// step.
TEST_F(TrainCli, MicroBatchesChangeRoundingOnly) {
  const std::string flags =
      "--set train.steps=6 --set train.precision=fp32 --set optimizer.eps=1e-2 --set schedule.lr=1e-3 --set "
      "train.micro_batch=";
  for (const char* m : {"1", "2", "4"}) ExpectTrains(std::string("m") + m, flags + m);
  const std::vector<json> one = Rows("m1");
  for (const char* other : {"m2", "m4"}) {
    const std::vector<json> rows = Rows(other);
    ASSERT_EQ(rows.size(), one.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const double bound = i == 0 ? 2e-6 : 5e-5 * static_cast<double>(i);
      EXPECT_NEAR(rows[i]["loss"], one[i]["loss"], bound) << other << " step " << i + 1;
      EXPECT_NEAR(rows[i]["mtp_loss"][0], one[i]["mtp_loss"][0], bound) << other << " step " << i + 1;
      EXPECT_NEAR(rows[i]["balance_loss"], one[i]["balance_loss"], bound) << other << " step " << i + 1;
    }
    EXPECT_NEAR(rows[0]["grad_norm"], one[0]["grad_norm"], 1e-5 * one[0]["grad_norm"].get<double>());
  }
}

TEST_F(TrainCli, AveragesAndSmallMoments) {
  const std::string flags = "--set train.steps=7 --set optimizer.ema_decay=0.8 --set train.optimizer_moments=bf16";
  ExpectTrains("whole", flags);
  const std::string ema = Slurp(At("whole/final-ema/model.safetensors"));
  EXPECT_EQ(ema.size(), Slurp(At("whole/final/model.safetensors")).size());
  EXPECT_FALSE(ema == Slurp(At("whole/final/model.safetensors")));
  ExpectSays(Shell(std::string(FATHOM_BINARY) + " inspect " + At("whole/final-ema") + " --scan"), 0, {});
  // Resumed at step 5, by way of a stop.
  ExpectTrains("cut", flags + " --set train.steps=5");
  ExpectTrains("cut", flags + " --resume");
  ExpectSameRun("whole", "cut");
  EXPECT_TRUE(Slurp(At("cut/final-ema/model.safetensors")) == ema);
  // Killed between the two exports.
  std::filesystem::remove_all(At("cut/final-ema"));
  ExpectTrains("cut", flags + " --resume");
  EXPECT_TRUE(Slurp(At("cut/final-ema/model.safetensors")) == ema);
  ExpectTrains("wide", flags + " --set train.optimizer_moments=fp32");
  EXPECT_FALSE(Slurp(At("wide/final/model.safetensors")) == Slurp(At("whole/final/model.safetensors")));
}

TEST_F(TrainCli, Fp8) {
  const std::string flags = "--set train.precision=fp8 --set train.steps=8 --set log.load_every=4";
  ExpectSays(Train("whole", flags), 0, {"fp8 on", "moments in bf16", "of bf16's"});
  // Resumed at step 5, by way of a stop, with another number of threads.
  ExpectTrains("cut", flags + " --set train.steps=5");
  ExpectTrains("cut", flags + " --resume --threads 1");
  ExpectSameRun("whole", "cut");
  const std::vector<json> rows = Rows("whole");
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].contains("fp8/dy_error_1x128"), i % 4 == 3);
    if (i % 4 != 3) continue;
    EXPECT_GT(rows[i]["fp8/dy_error_1x128"], 0x1p-6);
    EXPECT_LT(rows[i]["fp8/dy_error_1x128"], rows[i]["fp8/dy_error_128x128"]);
  }
  ExpectTrains("blocks", flags + " --set train.fp8_gradient_tiles=128x128");
  EXPECT_NE(Rows("blocks").back()["loss"], rows.back()["loss"]);
  ExpectSays(Train("no", "--set train.fp8_gradient_tiles=128x128"), 1,
             {"train.fp8_gradient_tiles and train.precision contradict each other", "\"bf16\""});

  // The release's layout, or another.
  const std::string binary = FATHOM_BINARY;
  ExpectSays(Shell(binary + " inspect " + At("whole/final") + " --scan"), 0, {"FP8 E4M3 in 128x128 blocks"});
  ExpectTrains("wide", flags + " --set checkpoint.export_dtype=bf16");
  ExpectSays(Shell(binary + " inspect " + At("wide/final") + " --scan"), 0, {"bfloat16"});
  EXPECT_LT(Slurp(At("whole/final/model.safetensors")).size(), Slurp(At("wide/final/model.safetensors")).size());
  for (const char* kind : {"whole", "wide"})
    ExpectSays(Shell(binary + " generate " + At(std::string(kind) + "/final") + " --prompt Alice -n 3"), 0, {});
}

TEST_F(TrainCli, ValidationIsTheSameEachTimeAndTouchesNothing) {
  const std::string few = "--set train.steps=8 ";
  ExpectTrains("without", few);
  ExpectTrains("with", few + "--set validation.every=1 --set validation.sequences=6");
  EXPECT_TRUE(Slurp(At("with/final/model.safetensors")) == Slurp(At("without/final/model.safetensors")));
  const std::vector<json> with = Rows("with"), without = Rows("without");
  ASSERT_EQ(with.size(), without.size());
  for (size_t i = 0; i < with.size(); ++i) {
    json row = with[i];
    EXPECT_EQ(row.erase("val_loss"), 1u);
    EXPECT_EQ(row.erase("val_mtp_loss"), 1u);
    EXPECT_EQ(row, without[i]);  // loads, biases and losses among them
  }
  // A model that does not change has the same validation loss each time.
  ExpectTrains("still", few +
                            "--set validation.every=1 --set validation.sequences=6 --set schedule.lr=0 --set "
                            "schedule.bias_update_speed=0");
  const std::vector<json> still = Rows("still");
  for (const json& row : still) EXPECT_EQ(row["val_loss"], still[0]["val_loss"]);
}

TEST_F(TrainCli, IsolatedDocumentsTrainToo) {
  const std::string flags = std::string("--set train.steps=6 --set 'data.sources=[{path=\"") + FATHOM_SOURCE_DIR +
                            "/configs/runs/text/alice.txt\",separator=\"\\n\\n\"}]' --set data.isolate_documents=";
  ExpectTrains("isolated", flags + "true");
  ExpectTrains("together", flags + "false");
  const json a = Rows("isolated")[0], b = Rows("together")[0];
  EXPECT_NE(a["loss"], b["loss"]);
  EXPECT_NEAR(a["loss"], b["loss"], 0.1);  // before the first step: about ln 4096 both
}

}  // namespace
}  // namespace fathom
