// Event files as TensorBoard reads them: records of the TFRecord framing (length, masked CRC-32C of the length, bytes,
// masked CRC-32C of the bytes; little-endian), each a protocol buffer `Event`. The few messages that are needed are
// encoded here by their field numbers (tensorflow/core/util/event.proto, framework/summary.proto), so that neither
// protobuf nor TensorFlow's definitions are needed to build.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::report {

// CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected.
uint32_t Crc32c(std::string_view bytes);

// A record of the TFRecord framing.
std::string TfRecord(std::string_view bytes);

// Encoded Events; `seconds` since 1970.
std::string FileVersionEvent(double seconds);
// Readers drop what older files say of steps >= step: a run goes on from there.
std::string RestartEvent(double seconds, int64_t step);
std::string ScalarEvent(double seconds, int64_t step, std::string_view tag, double value);
std::string TextEvent(double seconds, int64_t step, std::string_view tag, std::string_view markdown);
// counts[i] of the values lie in (limits[i - 1], limits[i]].
struct Histogram {
  double min = 0, max = 0, count = 0, sum = 0, sum_squares = 0;
  std::vector<double> limits, counts;
};
// `buckets` of equal width over the finite ones among the values, after one without width or values at the least.
Histogram MakeHistogram(const std::vector<double>& values, int buckets);
std::string HistogramEvent(double seconds, int64_t step, std::string_view tag, const Histogram& histogram);

// A new event file in a folder, which is made if need be. Records are handed to the system whole when Flush is called
// or 64 KiB have gathered. Throws Error.
class TensorBoardWriter {
 public:
  // first_step > 0: the run was resumed, and what other files of the folder say of that step and later ones is void.
  explicit TensorBoardWriter(const std::string& folder, int64_t first_step = 0);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  void Scalar(int64_t step, std::string_view tag, double value);
  void Text(int64_t step, std::string_view tag, std::string_view markdown);
  void Values(int64_t step, std::string_view tag, const std::vector<double>& values);  // their histogram
  void Flush();
  const std::string& path() const { return path_; }

 private:
  void Add(const std::string& event);
  std::string path_, waiting_;
  int fd_ = -1;
};

}  // namespace fathom::report
