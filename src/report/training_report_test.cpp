#include "report/training_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "report/markup_test.h"

namespace fathom::report {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

json Row(int step) {
  return {{"step", step},
          {"tokens", step * 1000},
          {"loss", 8.0 / step + 2},
          {"mtp_loss", {8.0 / step + 3, 8.0 / step + 4}},
          {"mtp_acceptance", 0.5},
          {"balance_loss", 1.5},
          {"lr", 1e-3 * step},
          {"batch_size", 8},
          {"mtp_loss_weight", 0.3},
          {"bias_update_speed", step < 5 ? 0.001 : 0.0},
          {"grad_norm", 1.0 / step},
          {"tokens_per_s", 5000},
          {"mfu", 0.5},
          {"max_vio", {1.0 / step, 2.0 / step}},
          {"load", {{0.5, 0.25, 0.25, 0.0}, {0.25, 0.25, 0.25, 0.25}}},
          {"bias_min", -0.1},
          {"bias_max", 0.1},
          {"memory_bytes", 1e9},
          {"step_s", 0.5}};
}

std::string FactNamed(const Report& report, const std::string& name) {
  for (const Fact& f : report.facts) {
    if (f.name == name) return f.value;
  }
  return "none";
}

TEST(TrainingReport, ShowsWhatWasMeasured) {
  TrainingReport run;
  for (int step = 1; step <= 10; ++step) {
    json row = Row(step);
    if (step % 5 == 0) row["val_loss"] = 3.25;
    if (step == 7) row["skipped"] = "loss is NaN";
    run.Add(row);
    if (step == 6) run.Add({{"resumed_from", 6}});
  }
  TrainingNotes notes;
  notes.title = "A run";
  notes.facts = {{"Machine", "this one"}};
  notes.layer_names = {"layer 3", "MTP layer"};
  notes.samples = {{"Once", "upon a time"}};
  const Report report = run.Make(notes);
  EXPECT_EQ(FactNamed(report, "Steps"), "10");
  EXPECT_EQ(FactNamed(report, "Tokens seen"), "10,000");
  EXPECT_EQ(FactNamed(report, "Validation loss at the end"), "3.2500");
  EXPECT_EQ(FactNamed(report, "Tokens a second (median)"), "5,000");
  EXPECT_EQ(FactNamed(report, "MFU (median)"), "50.0 %");
  EXPECT_EQ(FactNamed(report, "Time in steps"), "5.0 s");
  EXPECT_EQ(FactNamed(report, "Peak memory"), "1.00 GB");
  EXPECT_EQ(FactNamed(report, "Batch (sequences)"), "8");  // constants are facts, not charts
  EXPECT_EQ(FactNamed(report, "Bias update speed"), "none");
  EXPECT_EQ(FactNamed(report, "Steps skipped"), "1");
  EXPECT_EQ(FactNamed(report, "Resumed"), "once");
  EXPECT_EQ(FactNamed(report, "Machine"), "this one");

  const std::string html = Html(report);
  ExpectWellFormed(html);
  for (const char* part :
       {">Loss<", ">validation<", ">skipped<", ">resumed<", ">MTP loss<", ">depth 2<",
        ">Gradient norm, before clipping<", ">Learning rate<", ">Speed of the router", ">MaxVio<", ">layer 3<",
        ">MTP layer<", ">All layers at step 10<", ">Tokens a second<", ">upon a time<"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(html, Not(HasSubstr(">Batch size, sequences<")));
}

TEST(TrainingReport, LeavesOutWhatWasNot) {
  TrainingReport run;
  for (int step = 1; step <= 3; ++step) run.Add({{"step", step}, {"loss", 3.0 - step}, {"mtp_loss", json::array()}});
  const std::string html = Html(run.Make({}));
  ExpectWellFormed(html);
  EXPECT_THAT(html, HasSubstr(">Loss<"));
  for (const char* part : {"MTP", "MaxVio", "Schedules", "Speed and memory", "Samples", "Balance", "Gradient"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
  ExpectWellFormed(Html(TrainingReport().Make({})));
}

TEST(TrainingReport, OddRowsDoNoHarm) {
  TrainingReport run;
  run.Add({{"loss", 3}});
  run.Add({{"step", "one"}, {"loss", 3}});
  run.Add(
      {{"step", 1}, {"loss", nullptr}, {"mtp_loss", 3}, {"max_vio", {nullptr, "x"}}, {"load", {1, 2}}, {"skipped", 3}});
  run.Add({{"step", 2}, {"loss", {1}}, {"max_vio", {1}}, {"load", {{0.5}, json::array()}}, {"resumed_from", "x"}});
  run.Add({{"step", 3}, {"max_vio", {1, 2, 3}}, {"load", {{0.5, 0.5}, {1, nullptr}, {1}}}});
  ExpectWellFormed(Html(run.Make({})));
}

TEST(TrainingReport, ALongRunStaysSmall) {
  TrainingReport run;
  json row = Row(1);
  row["max_vio"] = std::vector<double>(20, 0.5);
  row["load"] = json::array();
  for (int l = 0; l < 20; ++l) row["load"].push_back(std::vector<double>(64, 1.0 / 64));
  for (int step = 1; step <= 5000; ++step) {
    row["step"] = step;
    row["loss"] = 3 + std::sin(step);
    run.Add(row);
  }
  const std::string html = Html(run.Make({}));
  ExpectWellFormed(html);
  EXPECT_LT(html.size(), 600'000u);
  EXPECT_THAT(html, HasSubstr(">MaxVio of each layer<"));
  EXPECT_THAT(html, HasSubstr(">MoE layer 0<"));
  EXPECT_THAT(html, HasSubstr(">MoE layer 19<"));
}

TEST(TrainingReport, ReadsAFile) { EXPECT_THROW(TrainingReportHtml("/no/such/metrics.jsonl", {}), Error); }

}  // namespace
}  // namespace fathom::report
