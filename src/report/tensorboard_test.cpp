#include "report/tensorboard.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace fathom::report {
namespace {

std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(TensorBoard, Crc32cIsTheCastagnoliOne) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);            // the check value of the CRC catalogues
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
}

// Made by TensorBoard's own classes (tools/report/make_tensorboard_golden.py).
TEST(TensorBoard, TheBytesOfItsOwnWriter) {
  Histogram h{1, 5, 4, 11, 39, {1, 3, 5}, {0, 3, 1}};
  std::string bytes = TfRecord(FileVersionEvent(1000.5));
  bytes += TfRecord(ScalarEvent(1001.25, 1, "loss/train", 2.5));
  bytes += TfRecord(ScalarEvent(1001.25, 2, "loss/train", -1.25));
  bytes += TfRecord(ScalarEvent(1001.25, 300, "loss/train", 1e-8));
  bytes += TfRecord(ScalarEvent(1001.25, int64_t{1} << 40, "loss/train", NAN));
  bytes += TfRecord(HistogramEvent(1002, 300, "load", h));
  bytes += TfRecord(TextEvent(1003, 301, "text", "a *sample* \xCE\xBB"));
  bytes += TfRecord(RestartEvent(1004, 2));
  EXPECT_EQ(bytes, ReadBytes(FATHOM_SOURCE_DIR "/tests/golden/report/events.tfevents"));
}

TEST(TensorBoard, Histograms) {
  const Histogram h = MakeHistogram({1, 2, 2, 5, NAN, INFINITY}, 2);
  EXPECT_EQ(h.limits, (std::vector<double>{1, 3, 5}));
  EXPECT_EQ(h.counts, (std::vector<double>{0, 3, 1}));
  EXPECT_EQ(h.min, 1);
  EXPECT_EQ(h.max, 5);
  EXPECT_EQ(h.count, 4);
  EXPECT_EQ(h.sum, 10);
  EXPECT_EQ(h.sum_squares, 1 + 4 + 4 + 25);
  const Histogram same = MakeHistogram({3, 3}, 10);
  EXPECT_EQ(same.counts, (std::vector<double>{0, 2}));
  EXPECT_EQ(MakeHistogram({NAN}, 3).count, 0);
}

TEST(TensorBoard, WritesWholeRecords) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("fathom_events_" + std::to_string(getpid()))).string();
  std::string first, second;
  {
    TensorBoardWriter writer(folder + "/deeper");
    first = writer.path();
    for (int step = 0; step < 5000; ++step) writer.Scalar(step, "loss", step);
    writer.Values(5000, "load", {1, 2, 3});
    TensorBoardWriter resumed(folder + "/deeper", 4000);
    second = resumed.path();
  }
  EXPECT_LT(first, second);  // the order in which they are read
  const std::string bytes = ReadBytes(first);
  int records = 0;
  for (size_t at = 0; at < bytes.size(); ++records) {
    uint64_t length = 0;
    ASSERT_LE(at + 12, bytes.size());
    std::memcpy(&length, bytes.data() + at, 8);
    ASSERT_LE(at + 12 + length + 4, bytes.size());
    EXPECT_EQ(TfRecord(bytes.substr(at + 12, length)), bytes.substr(at, length + 16));
    at += length + 16;
  }
  EXPECT_EQ(records, 1 + 5000 + 1);
  EXPECT_NE(ReadBytes(second).find("brain.Event:2"), std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace fathom::report
