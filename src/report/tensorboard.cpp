#include "report/tensorboard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "io/file.h"

namespace fathom::report {
namespace {

constexpr size_t kWaiting = 64 << 10;

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

// Little-endian bytes of the low `count` bytes of a value.
void AppendBytes(std::string& out, uint64_t value, int count) {
  for (int i = 0; i < count; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

// A protocol buffer that is being written: fields in any order, each by its number.
class Message {
 public:
  Message& Int(int field, uint64_t value) {
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(value);
    return *this;
  }
  Message& Double(int field, double value) {
    Varint(static_cast<uint64_t>(field) << 3 | 1);
    AppendDouble(bytes_, value);
    return *this;
  }
  Message& Float(int field, float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    Varint(static_cast<uint64_t>(field) << 3 | 5);
    AppendBytes(bytes_, bits, 4);
    return *this;
  }
  Message& Bytes(int field, std::string_view value) {
    Varint(static_cast<uint64_t>(field) << 3 | 2);
    Varint(value.size());
    bytes_.append(value);
    return *this;
  }
  Message& Doubles(int field, const std::vector<double>& values) {
    std::string packed;
    for (double v : values) AppendDouble(packed, v);
    return Bytes(field, packed);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  static void AppendDouble(std::string& out, double value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    AppendBytes(out, bits, 8);
  }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

Message EventAt(double seconds, int64_t step) {
  Message event;
  event.Double(1, seconds);                                  // Event.wall_time
  if (step != 0) event.Int(2, static_cast<uint64_t>(step));  // Event.step
  return event;
}

std::string SummaryEvent(double seconds, int64_t step, const Message& value) {
  Message summary;
  summary.Bytes(1, value.bytes());                                  // Summary.value
  return EventAt(seconds, step).Bytes(5, summary.bytes()).bytes();  // Event.summary
}

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (unsigned char c : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ c) & 0xFF];
  return ~crc;
}

std::string TfRecord(std::string_view bytes) {
  const auto masked = [](std::string_view b) {
    const uint32_t crc = Crc32c(b);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
  };
  std::string record;
  AppendBytes(record, bytes.size(), 8);
  AppendBytes(record, masked(record), 4);
  record.append(bytes);
  AppendBytes(record, masked(bytes), 4);
  return record;
}

std::string FileVersionEvent(double seconds) {
  return EventAt(seconds, 0).Bytes(3, "brain.Event:2").bytes();  // Event.file_version
}

std::string RestartEvent(double seconds, int64_t step) {
  Message session;
  session.Int(1, 1);                                                // SessionLog.status = START
  return EventAt(seconds, step).Bytes(7, session.bytes()).bytes();  // Event.session_log
}

std::string ScalarEvent(double seconds, int64_t step, std::string_view tag, double value) {
  Message v;
  v.Bytes(1, tag).Float(2, static_cast<float>(value));  // Summary.Value.tag, simple_value
  return SummaryEvent(seconds, step, v);
}

std::string TextEvent(double seconds, int64_t step, std::string_view tag, std::string_view markdown) {
  constexpr uint64_t kDtString = 7;
  Message dim, shape, tensor, plugin, metadata, v;
  dim.Int(1, 1);
  shape.Bytes(2, dim.bytes());
  tensor.Int(1, kDtString).Bytes(2, shape.bytes()).Bytes(8, markdown);  // TensorProto.dtype, tensor_shape, string_val
  plugin.Bytes(1, "text");
  metadata.Bytes(1, plugin.bytes());
  v.Bytes(1, tag).Bytes(8, tensor.bytes()).Bytes(9, metadata.bytes());  // Summary.Value.tag, tensor, metadata
  return SummaryEvent(seconds, step, v);
}

Histogram MakeHistogram(const std::vector<double>& values, int buckets) {
  FATHOM_CHECK(buckets > 0);
  Histogram h;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    h.min = h.count == 0 ? v : std::min(h.min, v);
    h.max = h.count == 0 ? v : std::max(h.max, v);
    h.count += 1;
    h.sum += v;
    h.sum_squares += v * v;
  }
  if (h.count == 0) return h;
  // TensorBoard takes the first limit for the left end of the first bucket: an empty bucket goes before the others.
  const double width = (h.max - h.min) / buckets;
  const int used = width > 0 ? buckets : 1;
  for (int i = 0; i <= used; ++i) h.limits.push_back(i == used ? h.max : h.min + width * i);
  h.counts.resize(h.limits.size());
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    const auto at = std::lower_bound(h.limits.begin() + 1, h.limits.end(), v) - h.limits.begin();
    h.counts[static_cast<size_t>(std::min<int64_t>(at, used))] += 1;
  }
  return h;
}

std::string HistogramEvent(double seconds, int64_t step, std::string_view tag, const Histogram& h) {
  Message histogram, v;
  histogram.Double(1, h.min).Double(2, h.max).Double(3, h.count).Double(4, h.sum).Double(5, h.sum_squares);
  histogram.Doubles(6, h.limits).Doubles(7, h.counts);
  v.Bytes(1, tag).Bytes(5, histogram.bytes());  // Summary.Value.tag, histo
  return SummaryEvent(seconds, step, v);
}

TensorBoardWriter::TensorBoardWriter(const std::string& folder, int64_t first_step) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) throw io::FileError("cannot make the folder " + folder, folder, code.value());
  const double now = Now();
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  // Readers take the files of a folder in the order of their names.
  for (int number = 0; fd_ < 0; ++number) {
    path_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", folder, static_cast<int64_t>(now),
                        host[0] != '\0' ? host.data() : "localhost", getpid(), number);
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) throw io::FileError("cannot write " + path_, path_, errno);
  }
  Add(FileVersionEvent(now));
  if (first_step > 0) Add(RestartEvent(now, first_step));
  Flush();
}

TensorBoardWriter::~TensorBoardWriter() {
  try {
    Flush();
  } catch (const Error&) {  // the events are a copy of metrics.jsonl
  }
  close(fd_);
}

void TensorBoardWriter::Add(const std::string& event) {
  waiting_ += TfRecord(event);
  if (waiting_.size() >= kWaiting) Flush();
}

void TensorBoardWriter::Flush() {
  const std::string bytes = std::move(waiting_);
  waiting_.clear();
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = write(fd_, bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw io::FileError("cannot write " + path_, path_, n == 0 ? ENOSPC : errno);
    written += static_cast<size_t>(n);
  }
}

void TensorBoardWriter::Scalar(int64_t step, std::string_view tag, double value) {
  Add(ScalarEvent(Now(), step, tag, value));
}
void TensorBoardWriter::Text(int64_t step, std::string_view tag, std::string_view markdown) {
  Add(TextEvent(Now(), step, tag, markdown));
}
void TensorBoardWriter::Values(int64_t step, std::string_view tag, const std::vector<double>& values) {
  constexpr int kBuckets = 30;
  Add(HistogramEvent(Now(), step, tag, MakeHistogram(values, kBuckets)));
}

}  // namespace fathom::report
