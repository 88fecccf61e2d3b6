// fathom plan: the figures of the paper's run, what is set, small machines, and bad input.
#include <cmath>

#include "train_cli_test.h"

namespace fathom {
namespace {

using nlohmann::json;

class PlanCli : public testing::Test {
 protected:
  PlanCli() : folder_(std::filesystem::temp_directory_path() / ("fathom_plan_cli_" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~PlanCli() override { std::filesystem::remove_all(folder_); }

  static std::string Config(const std::string& name) { return std::string(FATHOM_SOURCE_DIR "/configs/") + name; }
  static Ran Plan(const std::string& recipe, const std::string& flags = "") {
    return Shell(std::string(FATHOM_BINARY) + " plan " + recipe + " " + flags);
  }
  static Ran Paper(const std::string& flags = "") { return Plan(Config("runs/deepseek-v3.toml"), flags); }
  static json PaperJson(const std::string& flags = "") {
    const Ran r = Paper("--json " + flags);
    EXPECT_EQ(r.code, 0) << r.out;
    return json::parse(r.out, nullptr, false);
  }
  std::string At(const std::string& name) const { return (folder_ / name).string(); }
  std::string Put(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return At(name);
  }
  // A machine file of the project with one line changed.
  std::string Machine(const std::string& line, const std::string& instead) const {
    std::string text = Slurp(Config("machines/h800-2048.toml"));
    const size_t at = text.find(line);
    EXPECT_NE(at, std::string::npos) << line;
    return Put("machine.toml", text.replace(at, line.size(), instead));
  }

  std::filesystem::path folder_;
};

TEST_F(PlanCli, ThePapersRun) {
  const json plan = PaperJson();
  EXPECT_EQ(plan["tokens"], 14'800'000'000'000);
  EXPECT_NEAR(plan["steps"].get<double>(), 242.8e3, 100);
  EXPECT_NEAR(plan["device_hours"].get<double>(), 2.664e6, 500);
  EXPECT_NEAR(plan["device_hours_per_trillion_tokens"].get<double>(), 180e3, 50);
  EXPECT_NEAR(plan["days_per_trillion_tokens"].get<double>(), 3.7, 0.05);
  ASSERT_EQ(plan["stages"].size(), 4u);
  EXPECT_EQ(plan["stages"][0]["name"], "pretrain");
  EXPECT_EQ(plan["stages"][0]["device_hours"], plan["device_hours"]);
  const double extension =
      plan["stages"][1]["device_hours"].get<double>() + plan["stages"][2]["device_hours"].get<double>();
  EXPECT_NEAR(extension, 119e3, 500);
  EXPECT_EQ(plan["stages"][3]["device_hours"], 5000);
  EXPECT_NEAR(plan["total"]["device_hours"].get<double>(), 2.788e6, 500);
  EXPECT_NEAR(plan["total"]["cost_usd"].get<double>(), 5.576e6, 500);
  EXPECT_EQ(plan["fits"], true);
}

TEST_F(PlanCli, HalfTheTokensHalfTheHours) {
  const json whole = PaperJson(), half = PaperJson("--set tokens=7.4e12");
  EXPECT_EQ(half["tokens"], 7'400'000'000'000);
  EXPECT_NEAR(2 * half["device_hours"].get<double>() / whole["device_hours"].get<double>(), 1, 1e-12);
  EXPECT_EQ(half, PaperJson("--set train.tokens=7.4e12"));
}

TEST_F(PlanCli, SchedulesAtAToken) {
  const auto at = [](const char* tokens) { return PaperJson(std::string("--at ") + tokens); };
  const json begin = at("0"), ramp = at("469e9"), cosine = at("10e12"), end = at("14.3e12"), last = at("14633e9");
  EXPECT_EQ(begin["lr"], 0);
  EXPECT_EQ(begin["batch_sequences"], 3072);
  EXPECT_EQ(begin["mtp_lambda"], 0.3);
  EXPECT_EQ(begin["bias_gamma"], 0.001);
  EXPECT_EQ(ramp["batch_sequences"], 15360);
  EXPECT_EQ(ramp["lr"], 2.2e-4);
  EXPECT_EQ(cosine["lr"], 2.2e-4);
  EXPECT_EQ(cosine["mtp_lambda"], 0.1);
  EXPECT_EQ(end["lr"], 2.2e-5);
  EXPECT_EQ(end["bias_gamma"], 0);
  EXPECT_EQ(last["lr"], 7.3e-6);
  EXPECT_EQ(last["at"]["stage"], "pretrain");
  EXPECT_EQ(at("14.85e12")["at"]["stage"], "extend-32k");
  ExpectSays(Paper("--at 10e12"), 0, {"learning rate", "0.00022", "15,360 sequences"});
  ExpectSays(Paper("--at=-1"), 1, {"--at"});
}

TEST_F(PlanCli, APageForPeople) {
  ExpectSays(
      Paper(), 0,
      {"671G parameters", "PP16 x EP64 x DP128, ZeRO-1, dualpipe: 2048 devices", "pretrain", "extend-128k", "2,663,973",
       "3.66 days", "it fits", "(PP/2-1)(F&B+B-3W)", "the smallest of these that holds it: cluster of 2048 H800"});
  ExpectSays(Plan(Config("runs/smoke.toml")), 0, {"one process", "it fits", "120", "that holds it: laptop"});
}

TEST_F(PlanCli, Pictures) {
  ExpectSays(Paper("--html " + At("plan.html") + " --svg " + At("plan.svg")), 0, {"pretrain"});
  const std::string html = Slurp(At("plan.html")), svg = Slurp(At("plan.svg"));
  EXPECT_NE(html.find("Memory of a device"), std::string::npos);
  EXPECT_NE(html.find("</html>"), std::string::npos);
  EXPECT_EQ(svg.rfind("<svg", 0), 0u);
  EXPECT_NE(svg.find("dualpipe on 16 ranks"), std::string::npos);
  ExpectSays(Paper("--svg /nowhere/plan.svg"), 1, {"/nowhere/plan.svg"});
}

TEST_F(PlanCli, MachineFilesThatAreWrong) {
  const std::string peak = "peak_bf16_tflops = 989.4\n";
  ExpectSays(Paper("--machine " + Machine(peak, "")), 1, {"machine.toml", "lacks peak_bf16_tflops"});
  ExpectSays(Paper("--machine " + Machine(peak, "peak_bf16_tflop = 989.4\n")), 1,
             {"machine.toml", "peak_bf16_tflop (line", "peak_bf16_tflops, which it lacks"});
  ExpectSays(Paper("--machine " + Machine(peak, "peak_bf16_tflops = \"many\"\n")), 1,
             {"machine.toml", "peak_bf16_tflops", "\"many\""});
  ExpectSays(Paper("--machine " + Machine("devices = 2048\n", "devices = 2044\n")), 1,
             {"devices = 2044", "whole nodes"});
  ExpectSays(Paper("--machine " + At("none.toml")), 1, {"none.toml"});
  const std::string bare =
      "[model]\nconfig = \"" + Config("models/tiny-1m.json") +
      "\"\n[data]\nsequence_length = 64\n[train]\nsteps = 10\n[schedule]\nlr = 1e-3\nbatch_size = 2\n";
  ExpectSays(Plan(Put("bare.toml", bare)), 1, {"--machine FILE"});
  ExpectSays(Plan(At("bare.toml"), "--machine " + Config("machines/laptop.toml")), 0, {"it fits"});
}

TEST_F(PlanCli, RecipesThatAreWrong) {
  ExpectSays(Paper("--set plan.mfu=1.01"), 1, {"plan.mfu", "1.01"});
  ExpectSays(Paper("--set plan.mfus=0.4"), 1, {"plan.mfus", "did you mean plan.mfu?"});
  ExpectSays(Paper("--set parallel.schedule=gpipe"), 1, {"gpipe", "dualpipe"});
  ExpectSays(Paper("--set parallel.pipeline=15"), 1, {"parallel.pipeline", "an even number"});
  ExpectSays(Paper("--set parallel.expert=48"), 1, {"parallel.expert", "a divisor of 256"});
  ExpectSays(Paper("--set parallel.data=96 --set parallel.expert=32"), 1, {"1536 devices of 2048"});
  ExpectSays(Paper("--set train.tokens=0"), 1, {"does not say when the run ends"});
  ExpectSays(Paper("--set stages.none.train.steps=1"), 1, {"extend-32k"});
  EXPECT_EQ(Shell(std::string(FATHOM_BINARY) + " plan").code, 2);
  // What is planned for many devices is not trained.
  ExpectSays(Shell(std::string(FATHOM_BINARY) + " train " + Config("runs/deepseek-v3.toml") + " --out " + At("run")), 1,
             {"training in more than one process is not built", "parallel.pipeline = 16"});
}

}  // namespace
}  // namespace fathom
