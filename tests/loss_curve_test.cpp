// The smoke run in float32 against its committed loss curve (golden/train/smoke_loss.json, written by this program with
// FATHOM_UPDATE_GOLDEN=1).
//
// Machines differ: float32 sums are taken in the order of the instruction set, a difference of 1e-7 in the first step;
// Adam's division by small moments and experts that change sides make it larger from step to step. The instruction sets
// of one machine show how large; kTolerance is some times that, and well below what a wrong factor in the optimiser,
// the schedules or the gradients does to the curve (both measured: golden/train/README.md).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace fathom {
namespace {

using nlohmann::json;

constexpr char kGolden[] = FATHOM_SOURCE_DIR "/tests/golden/train/smoke_loss.json";
constexpr size_t kSmoothed = 10;  // steps
constexpr double kTolerance = 0.015, kValidationTolerance = 0.02;

std::vector<double> Smoothed(const std::vector<double>& values) {
  std::vector<double> means;
  for (size_t i = 0; i + kSmoothed <= values.size(); i += kSmoothed) {
    double sum = 0;
    for (size_t j = i; j < i + kSmoothed; ++j) sum += values[j];
    means.push_back(sum / kSmoothed);
  }
  return means;
}

TEST(LossCurve, OfTheSmokeRunIsTheCommittedOne) {
  const std::filesystem::path out =
      std::filesystem::temp_directory_path() / ("fathom_loss_curve_" + std::to_string(getpid()));
  std::filesystem::remove_all(out);
  const std::string command = std::string(FATHOM_BINARY) +
                              " train " FATHOM_SOURCE_DIR "/configs/runs/smoke.toml --out " + out.string() +
                              " --set train.precision=fp32 --set checkpoint.every=0 --set log.every=40 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0);
  json curve = {{"loss", json::array()}, {"mtp_loss", json::array()}, {"val_loss", json::array()}};
  std::ifstream in(out / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    const json row = json::parse(line);
    curve["loss"].push_back(row["loss"]);
    curve["mtp_loss"].push_back(row["mtp_loss"][0]);
    if (row.contains("val_loss")) curve["val_loss"].push_back(row["val_loss"]);
  }
  std::filesystem::remove_all(out);
  if (std::getenv("FATHOM_UPDATE_GOLDEN")) {
    std::ofstream(kGolden) << curve.dump() << "\n";
    GTEST_SKIP() << "wrote " << kGolden;
  }

  std::ifstream golden_file(kGolden);
  const json golden = json::parse(golden_file);
  for (const char* key : {"loss", "mtp_loss"}) {
    const std::vector<double> ours = Smoothed(curve[key]), theirs = Smoothed(golden[key]);
    ASSERT_EQ(ours.size(), theirs.size()) << key;
    ASSERT_GE(ours.size(), 12u);
    for (size_t i = 0; i < ours.size(); ++i)
      EXPECT_NEAR(ours[i], theirs[i], kTolerance)
          << key << " of steps " << i * kSmoothed + 1 << " to " << (i + 1) * kSmoothed;
  }
  // The first loss is before any update.
  EXPECT_NEAR(curve["loss"][0].get<double>(), golden["loss"][0].get<double>(), 1e-4);
  ASSERT_EQ(curve["val_loss"].size(), golden["val_loss"].size());
  for (size_t i = 0; i < curve["val_loss"].size(); ++i)
    EXPECT_NEAR(curve["val_loss"][i].get<double>(), golden["val_loss"][i].get<double>(), kValidationTolerance) << i;
}

}  // namespace
}  // namespace fathom
