#include "plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "plan/plan_page.h"

namespace fathom::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kRuns[] = FATHOM_SOURCE_DIR "/configs/runs/";
constexpr char kMachines[] = FATHOM_SOURCE_DIR "/configs/machines/";
constexpr int64_t kBillion = 1'000'000'000, kTrillion = 1000 * kBillion;

Plan PlanOf(const std::string& recipe, std::vector<std::string> set = {}, std::string machine = "") {
  train::Recipe r = train::ReadRecipe(kRuns + recipe);
  for (const std::string& s : set) train::SetField(r, s);
  machine = machine.empty() ? r.plan.machine : kMachines + machine;
  return MakePlan(r, recipe, ReadMachine(machine), MachinesBeside(machine));
}

std::string Fault(std::vector<std::string> set, const std::string& machine = "") {
  try {
    PlanOf("deepseek-v3.toml", std::move(set), machine);
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

// V3 report, table 1 and section 1: in thousands of device-hours 2664, 119 and 5, 2788 in all; $5.576M; 180 and 3.7
// days a trillion tokens.
TEST(Plan, TheReportsCosts) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  ASSERT_EQ(plan.stages.size(), 4u);
  const StagePlan& pretrain = plan.stages[0];
  EXPECT_EQ(pretrain.tokens, 14'800 * kBillion);
  EXPECT_NEAR(pretrain.device_hours, 2664e3, 0.5e3);
  EXPECT_NEAR(pretrain.DeviceHoursPerTrillion(), 180e3, 50);
  EXPECT_NEAR(pretrain.DaysPerTrillion(), 3.7, 0.05);
  EXPECT_NEAR(plan.stages[1].device_hours + plan.stages[2].device_hours, 119e3, 0.5e3);
  EXPECT_EQ(plan.stages[3].device_hours, 5e3);
  EXPECT_NEAR(plan.device_hours, 2788e3, 0.5e3);
  EXPECT_NEAR(plan.cost_usd, 5.576e6, 0.5e3);
  EXPECT_TRUE(plan.fits);
  // At pre-training's MFU attention alone makes the two phases about 75K.
  EXPECT_NEAR(plan.stages[1].hours_at_first_mfu + plan.stages[2].hours_at_first_mfu, 75e3, 1.5e3);
  // 19.9 s a step, 1543 tokens a second and device.
  EXPECT_NEAR(pretrain.step_seconds, 19.9, 0.05);
  EXPECT_NEAR(pretrain.tokens_per_device_second, 1543, 1);
}

// 15360 sequences of 4096 tokens for what is left after a ramp of 15.0K steps (linear in tokens: 469e9 / 50331648 times
// the logarithm of 5).
TEST(Plan, TheReportsSteps) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  const double ramp = 469e9 / (12288.0 * 4096) * std::log(5.0), rest = (14.8e12 - 469e9) / (15360.0 * 4096);
  EXPECT_NEAR(static_cast<double>(plan.stages[0].steps), ramp + rest, 5);
  EXPECT_EQ(plan.stages[0].tokens_per_step(), 62'914'560);
  for (size_t i : {1u, 2u}) {
    EXPECT_EQ(plan.stages[i].steps, 1000);
    EXPECT_EQ(plan.stages[i].tokens, 62'914'560'000);
    EXPECT_EQ(plan.stages[i].tokens_per_step(), 62'914'560);
  }
  EXPECT_EQ(plan.stages[1].sequence_length, 32768);
  EXPECT_EQ(plan.stages[1].max_batch, 1920);
  EXPECT_EQ(plan.stages[2].sequence_length, 131072);
  EXPECT_EQ(plan.stages[2].max_batch, 480);
  EXPECT_FALSE(plan.stages[0].config.rope_scaling);
  EXPECT_EQ(plan.stages[1].config.rope_scaling->factor, 40);
  EXPECT_EQ(plan.stages[2].config.max_position_embeddings, 163840);
}

TEST(Plan, TheReportsSchedules) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  const auto expect = [&](int64_t tokens, double lr, int64_t batch, double lambda, double gamma) {
    const ValuesAt v = At(plan, tokens);
    EXPECT_DOUBLE_EQ(v.lr, lr) << tokens;
    EXPECT_EQ(v.batch_size, batch) << tokens;
    EXPECT_EQ(v.mtp_loss_weight, lambda) << tokens;
    EXPECT_EQ(v.bias_update_speed, gamma) << tokens;
  };
  expect(0, 0, 3072, 0.3, 0.001);
  expect(469 * kBillion / 2, 2.2e-4, 9216, 0.3, 0.001);
  expect(469 * kBillion, 2.2e-4, 15360, 0.3, 0.001);
  expect(10 * kTrillion - 1, 2.2e-4, 15360, 0.3, 0.001);
  expect(10 * kTrillion, 2.2e-4, 15360, 0.1, 0.001);
  expect(12150 * kBillion, (2.2e-4 + 2.2e-5) / 2, 15360, 0.1, 0.001);
  expect(14300 * kBillion - 1, 2.2e-5, 15360, 0.1, 0.001);
  expect(14300 * kBillion, 2.2e-5, 15360, 0.1, 0);
  expect(14633 * kBillion - 1, 2.2e-5, 15360, 0.1, 0);
  expect(14633 * kBillion, 7.3e-6, 15360, 0.1, 0);
  expect(14800 * kBillion, 7.3e-6, 15360, 0.1, 0);
  expect(14800 * kBillion + 1, 7.3e-6, 1920, 0.1, 0);
  expect(14900 * kBillion, 7.3e-6, 480, 0.1, 0);
  EXPECT_EQ(At(plan, 14800 * kBillion).stage, "pretrain");
  EXPECT_EQ(At(plan, 14801 * kBillion).stage, "extend-32k");
  EXPECT_EQ(At(plan, 20000 * kBillion).stage, "extend-128k");
  // The warm-up's 2000 steps: half-way in tokens, half of the height.
  const int64_t warm = Corners(plan.stages[0])[1];
  EXPECT_NEAR(At(plan, warm / 2).lr, 1.1e-4, 1e-13);
  EXPECT_EQ(At(plan, warm).lr, 2.2e-4);
}

// Nothing is a constant.
TEST(Plan, FollowsWhatIsSet) {
  const Plan whole = PlanOf("deepseek-v3.toml"), half = PlanOf("deepseek-v3.toml", {"train.tokens=7.4e12"});
  EXPECT_NEAR(half.stages[0].device_hours * 2, whole.stages[0].device_hours, 1e-6);
  EXPECT_EQ(half.stages[0].DeviceHoursPerTrillion(), whole.stages[0].DeviceHoursPerTrillion());
  EXPECT_EQ(half.stages[1].device_hours, whole.stages[1].device_hours);
  const Plan faster = PlanOf("deepseek-v3.toml", {"plan.mfu=0.8131"});
  EXPECT_NEAR(faster.stages[0].device_hours * 2, whole.stages[0].device_hours, 1e-6);
  const Plan by_fp8 = PlanOf("deepseek-v3.toml", {"plan.mfu_peak=fp8"});
  EXPECT_NEAR(by_fp8.stages[0].device_hours / whole.stages[0].device_hours, 989.4 / 1978.9, 1e-9);
  const Plan longer = PlanOf("deepseek-v3.toml", {"stages.extend-32k.train.steps=2000"});
  EXPECT_NEAR(longer.stages[1].device_hours, 2 * whole.stages[1].device_hours, 1e-6);
  const Plan more = PlanOf("deepseek-v3.toml", {"stages.post-training.plan.device_hours=6000"});
  EXPECT_NEAR(more.cost_usd - whole.cost_usd, 2000, 1e-6);
  const Plan fuller = PlanOf("deepseek-v3.toml", {"train.precision=bf16"});
  EXPECT_GT(fuller.stages[0].memory_bytes, 1.2 * whole.stages[0].memory_bytes);
  const Plan direct = PlanOf("deepseek-v3.toml", {"parallel.schedule=1f1b"});
  EXPECT_GT(direct.stages[0].pipeline.bubble_share, 2 * whole.stages[0].pipeline.bubble_share);
}

// Step, work and bubble belong together: n (F + B) and the bubble are the step.
TEST(Plan, TheStepIsWorkAndBubble) {
  for (const char* schedule : {"1f1b", "zb1p", "dualpipe"}) {
    const Plan plan = PlanOf("deepseek-v3.toml", {std::string("parallel.schedule=") + schedule});
    for (const StagePlan& s : plan.stages) {
      if (s.stated) continue;
      const PipelinePlan& p = s.pipeline;
      EXPECT_NEAR(static_cast<double>(p.most) * (p.seconds.f + p.seconds.b) + p.bubble_seconds, s.step_seconds, 1e-9);
      EXPECT_EQ(p.most, 120);
    }
  }
}

// 4096 tokens of four layers to 4 of 8 nodes, one of which may be their own: 7168 values in FP8 there, in BF16 back.
TEST(Plan, MessagesToExperts) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  EXPECT_NEAR(plan.stages[0].pipeline.exchange_seconds, 4096 * 4 * (4 * 7.0 / 8) * 7168 * 3 / 50e9, 1e-12);
  const Plan near = PlanOf("deepseek-v3.toml", {"parallel.expert=8"});
  EXPECT_NEAR(near.stages[0].pipeline.exchange_seconds, 4096 * 4 * (8 * 7.0 / 8) * 7168 * 3 / 160e9, 1e-12);
  EXPECT_EQ(PlanOf("smoke.toml", {}, "cpu-2core.toml").stages[0].pipeline.exchange_seconds, 0);
}

TEST(Plan, ASmallRecipeOnSmallMachines) {
  const Plan plan = PlanOf("smoke.toml", {}, "cpu-2core.toml");
  ASSERT_EQ(plan.stages.size(), 1u);
  const StagePlan& s = plan.stages[0];
  EXPECT_EQ(s.steps, 120);
  EXPECT_EQ(s.tokens, 120 * 8 * 128);
  EXPECT_TRUE(plan.fits);
  EXPECT_TRUE(s.mfu_of_machine);
  EXPECT_EQ(s.mfu, plan.machine.mfu);
  EXPECT_NEAR(s.hours * 3600, static_cast<double>(s.tokens) * s.work.Train() / (plan.machine.mfu * 1.03e12), 1e-9);
  ASSERT_GE(plan.machines.size(), 4u);
  for (const MachineFit& f : plan.machines) EXPECT_TRUE(f.fits) << f.machine.name;
  const std::string page = Text(plan);
  EXPECT_THAT(page, AllOf(HasSubstr("it fits"), HasSubstr("the smallest of these that holds it: laptop")));
}

// The report's model does not fit one node, whatever the layout.
TEST(Plan, TooLargeForTheMachine) {
  const Plan plan = PlanOf("deepseek-v3.toml", {}, "h100-8.toml");
  EXPECT_FALSE(plan.fits);
  EXPECT_EQ(plan.stages[0].layout.parallel.devices(), 8);
  EXPECT_THAT(plan.notes.at(0), HasSubstr("2048 devices"));
  EXPECT_THAT(Text(plan), AllOf(HasSubstr("IT DOES NOT FIT"), HasSubstr("that holds it: cluster of 2048 H800")));
  EXPECT_FALSE(PlanOf("deepseek-v3.toml", {}, "cpu-2core.toml").fits);
}

TEST(Plan, WhatIsWrongIsNamed) {
  EXPECT_EQ(Fault({}), "none");
  EXPECT_THAT(Fault({"plan.mfu=1.2"}), AllOf(HasSubstr("plan.mfu"), HasSubstr("1.2")));
  EXPECT_THAT(Fault({"parallel.pipeline=64"}), HasSubstr("parallel.pipeline"));
  EXPECT_THAT(Fault({"parallel.expert=48"}), HasSubstr("256 experts over 48 devices"));
  EXPECT_THAT(Fault({"parallel.data=64"}), HasSubstr("none"));  // half of the machine
  EXPECT_THAT(Fault({"parallel.data=96", "parallel.expert=32"}), HasSubstr("1536 devices of 2048"));
  EXPECT_THAT(Fault({"parallel.data=100", "parallel.expert=4"}),
              AllOf(HasSubstr("parallel.data"), HasSubstr("3072 sequences over 100 x 1")));
  EXPECT_THAT(Fault({"parallel.context=3", "parallel.expert=1"}), HasSubstr("parallel.context"));
  EXPECT_THAT(Fault({"stages.extend-32k.schedule.batch_size=1921"}), HasSubstr("1921 sequences over 16 x 1"));
  EXPECT_THAT(Fault({"stages.extend-32k.data.sequence_length=262144"}), HasSubstr("extend-32k"));
  EXPECT_THAT(Fault({"train.tokens=0", "train.steps=1e18"}), HasSubstr("more tokens than can be counted"));
}

TEST(Plan, JsonHasTheKeys) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  const nlohmann::json j = Json(plan);
  for (const char* key :
       {"tokens", "steps", "device_hours", "device_hours_per_trillion_tokens", "days_per_trillion_tokens"}) {
    EXPECT_EQ(j.at(key), j.at("stages").at(0).at(key)) << key;
    for (const auto& stage : j.at("stages")) EXPECT_TRUE(stage.contains(key)) << key;
  }
  EXPECT_EQ(j.at("stages").size(), 4u);
  EXPECT_EQ(j.at("total").at("device_hours"), plan.device_hours);
  EXPECT_EQ(j.at("total").at("cost_usd"), plan.cost_usd);
  EXPECT_TRUE(j.at("stages").at(3).at("days_per_trillion_tokens").is_null());
  const nlohmann::json at = Json(At(plan, 0));
  EXPECT_EQ(at.at("lr"), 0);
  EXPECT_EQ(at.at("batch_sequences"), 3072);
  EXPECT_EQ(at.at("mtp_lambda"), 0.3);
  EXPECT_EQ(at.at("bias_gamma"), 0.001);
}

TEST(Plan, TheReportHasItsPictures) {
  const Plan plan = PlanOf("deepseek-v3.toml");
  const std::string html = report::Html(MakeReport(plan));
  EXPECT_THAT(html, AllOf(HasSubstr("Learning rate"), HasSubstr("Memory of a device, pretrain"),
                          HasSubstr("dualpipe on 16 ranks"), HasSubstr("extend-128k")));
  const report::SpanChart line = PipelineChart(plan.stages[0]);
  EXPECT_EQ(line.rows.size(), 16u);
  EXPECT_EQ(PipelineChart(PlanOf("smoke.toml", {}, "cpu-2core.toml").stages[0]).rows.size(), 0u);
}

}  // namespace
}  // namespace fathom::plan
