#include "report/compare.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace fathom::report {
namespace {

std::string Put(const std::string& text) {
  const auto path = std::filesystem::temp_directory_path() / ("fathom_compare_" + std::to_string(getpid()) + ".jsonl");
  std::ofstream(path) << text;
  return path.string();
}

TEST(Compare, EmaPassesOverWhatIsNotFinite) {
  const std::vector<double> mean = Ema({4, 2, NAN, 6}, 0.5);
  EXPECT_EQ(mean, (std::vector<double>{4, 3, 3, 4.5}));
  EXPECT_TRUE(std::isnan(Ema({NAN, 1}, 0.9)[0]));
}

TEST(Compare, TailMean) {
  std::vector<double> values(100, 1.0);
  for (size_t i = 90; i < 100; ++i) values[i] = 3;
  EXPECT_EQ(TailMean(values, 0.1), 3);
  EXPECT_EQ(TailMean(values, 0.2), 2);
  values[95] = NAN;
  EXPECT_EQ(TailMean(values, 0.1), 3);
  EXPECT_EQ(TailMean({5}, 0.1), 5);
  EXPECT_TRUE(std::isnan(TailMean({}, 0.1)));
}

TEST(Compare, ReadsARun) {
  const std::string path =
      Put("{\"step\":1,\"tokens\":10,\"loss\":4,\"tokens_per_s\":3}\n{\"resumed_from\":1}\n"
          "{\"step\":2,\"tokens\":20,\"loss\":9,\"skipped\":\"a spike\",\"val_loss\":3.5}\n"
          "{\"step\":3,\"tokens\":30,\"loss\":2,\"tokens_per_s\":5}\n");
  const RunCurve run = ReadRunCurve(path, "a");
  EXPECT_EQ(run.x, (std::vector<double>{10, 20, 30}));
  EXPECT_EQ(run.loss[0], 4);
  EXPECT_TRUE(std::isnan(run.loss[1]));
  EXPECT_EQ(run.validation, 3.5);
  EXPECT_EQ(run.tokens_per_s, 5);
  EXPECT_THROW(ReadRunCurve(Put("{\"step\":1}\n"), "b"), Error);
  std::filesystem::remove(path);
  EXPECT_THROW(ReadRunCurve(path, "c"), Error);
}

TEST(Compare, DifferencesAreFromTheFirst) {
  const RunCurve a{.name = "a", .x = {1, 2}, .loss = {4, 4}}, b{.name = "b", .x = {1, 2, 3}, .loss = {5, 5, 5}};
  const LineChart chart = LossDifferences({a, b});
  ASSERT_EQ(chart.series.size(), 1u);
  EXPECT_EQ(chart.series[0].name, "b");
  EXPECT_EQ(chart.series[0].y, (std::vector<double>{25, 25}));
  EXPECT_EQ(LossCurves({a, b}).series.size(), 2u);
}

}  // namespace
}  // namespace fathom::report
