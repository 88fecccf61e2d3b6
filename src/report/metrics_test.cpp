#include "report/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "core/error.h"

namespace fathom::report {
namespace {

using nlohmann::json;

class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() { std::filesystem::remove(path_); }
  ~MetricsTest() override { std::filesystem::remove(path_); }

  std::string Text() const {
    std::ifstream in(path_);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  void AppendRaw(const std::string& text) const { std::ofstream(path_, std::ios::app) << text; }
  std::vector<json> Rows() const {
    std::vector<json> rows;
    left_out_ = ForEachRow(path_, [&](const json& row) { rows.push_back(row); });
    return rows;
  }

  const std::string path_ =
      (std::filesystem::temp_directory_path() / ("fathom_metrics_" + std::to_string(getpid()) + ".jsonl")).string();
  mutable int64_t left_out_ = 0;
};

TEST_F(MetricsTest, ALineARow) {
  MetricsLog log = MetricsLog::Create(path_);
  log.Append({{"step", 1}, {"loss", 2.5}});
  EXPECT_EQ(Text(), "{\"loss\":2.5,\"step\":1}\n");  // at once, not when the log is closed
  log.Append({{"step", 2}, {"loss", NAN}, {"text", "line\nbreak \xFF"}});
  const std::vector<json> rows = Rows();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_TRUE(rows[1]["loss"].is_null());
  EXPECT_EQ(rows[1]["text"], "line\nbreak \xEF\xBF\xBD");
  EXPECT_EQ(MetricsLog::Create(path_).path(), path_);
  EXPECT_EQ(Text(), "");
}

TEST_F(MetricsTest, ResumeDropsLaterRowsAndATornOne) {
  {
    MetricsLog log = MetricsLog::Create(path_);
    for (int step = 1; step <= 5; ++step) log.Append({{"step", step}});
  }
  AppendRaw("{\"step\":6,\"lo");
  EXPECT_EQ(Rows().size(), 5u);
  { MetricsLog::Resume(path_, 3).Append({{"step", 4}}); }
  EXPECT_EQ(Text(), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"resumed_from\":3}\n{\"step\":4}\n");
  // A checkpoint before that was taken: what was resumed before is still told.
  { MetricsLog::Resume(path_, 2); }
  EXPECT_EQ(Text(), "{\"step\":1}\n{\"step\":2}\n{\"resumed_from\":3}\n{\"resumed_from\":2}\n");
}

TEST_F(MetricsTest, ResumeWithoutAFileMakesOne) {
  { MetricsLog::Resume(path_, 0); }
  EXPECT_EQ(Text(), "{\"resumed_from\":0}\n");
}

TEST_F(MetricsTest, WhatIsNoRowIsCounted) {
  AppendRaw("{\"step\":1}\n[1]\nnonsense\n\n{\"step\":2}\n");
  AppendRaw(std::string(300'000, '[') + "\n{\"step\":3}\n");
  EXPECT_EQ(Rows().size(), 3u);
  EXPECT_EQ(left_out_, 4);
  EXPECT_THROW(ForEachRow(path_ + ".none", [](const json&) {}), Error);
}

TEST_F(MetricsTest, AFullDiskIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "/dev/full is not there";
  MetricsLog log = MetricsLog::Create("/dev/full");
  EXPECT_THROW(log.Append({{"step", 1}}), Error);
}

TEST(Rounded, KeepsDigits) {
  EXPECT_EQ(Rounded(0.0123456, 3), 0.0123);
  EXPECT_EQ(Rounded(1234567, 2), 1200000);
  EXPECT_EQ(Rounded(0, 3), 0);
  EXPECT_TRUE(std::isnan(Rounded(NAN, 3)));
}

}  // namespace
}  // namespace fathom::report
