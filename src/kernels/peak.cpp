#include "kernels/peak.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/error.h"
#include "kernels/peak_loops.h"

namespace fathom::kernels {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// What the loops computed goes here, so that no compiler may leave them out.
void Use(uint64_t value) {
  static std::atomic<uint64_t> sink;
  sink.fetch_xor(value, std::memory_order_relaxed);
}

// A span cut to whole cache lines, and where it begins in the row of all spans.
struct Lines {
  const char* data;
  int64_t begin, bytes;
};

std::vector<Lines> CutToLines(std::span<const ByteSpan> spans, int64_t* total) {
  std::vector<Lines> lines;
  *total = 0;
  for (const ByteSpan& s : spans) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(s.data);
    const uintptr_t first = (begin + peak::kLine - 1) / peak::kLine * peak::kLine;
    const uintptr_t last = (begin + static_cast<uintptr_t>(s.bytes)) / peak::kLine * peak::kLine;
    if (first >= last) continue;
    const int64_t bytes = static_cast<int64_t>(last - first);
    lines.push_back({static_cast<const char*>(s.data) + (first - begin), *total, bytes});
    *total += bytes;
  }
  return lines;
}

constexpr int64_t kPiece = int64_t{256} << 10;
constexpr double kTaskSeconds = 50e-6;  // short tasks: a thread that the system took away delays one of them

}  // namespace

int64_t TotalBytes(std::span<const ByteSpan> spans) {
  int64_t total = 0;
  for (const ByteSpan& s : spans) total += s.bytes;
  return total;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

ReadMeter::ReadMeter(Context& ctx) : ctx_(ctx) {
  peak::ReadFn read = peak::ReadPlain;
  std::string_view name = "16-byte";
#if defined(__x86_64__)
  if (MachineHas(Isa::kAvx512)) {
    read = peak::ReadAvx512;
    name = "64-byte";
  } else if (MachineHas(Isa::kAvx2)) {
    read = peak::ReadAvx2;
    name = "32-byte";
  }
#endif
  for (int64_t piece : {int64_t{0}, kPiece}) {
    for (int streams : {1, 2, 4}) {
      for (bool prefetch : {false, true}) {
        patterns_.push_back(
            {.name = fmt::format("{} loads, {} stream{} a thread{}{}", name, streams, streams > 1 ? "s" : "",
                                 prefetch ? ", prefetch" : "", piece ? ", dealt pieces" : ""),
             .read = read,
             .streams = streams,
             .prefetch = prefetch,
             .piece = piece,
             .gb_s = {}});
      }
    }
  }
}

double ReadMeter::Pass(std::span<const ByteSpan> spans) {
  Pattern& pattern = patterns_[next_];
  next_ = (next_ + 1) % patterns_.size();
  int64_t total = 0;
  const std::vector<Lines> lines = CutToLines(spans, &total);
  if (total == 0) return 0;
  int64_t piece = pattern.piece;
  if (piece == 0) {
    const int64_t threads = ctx_.pool.size();
    piece = ((total + threads - 1) / threads + peak::kLine - 1) / peak::kLine * peak::kLine;
  }
  const auto start = Clock::now();
  ctx_.pool.ParallelFor((total + piece - 1) / piece, [&](int64_t task, int) {
    const int64_t begin = task * piece, end = std::min(total, begin + piece);
    auto it = std::upper_bound(lines.begin(), lines.end(), begin,
                               [](int64_t at, const Lines& l) { return at < l.begin + l.bytes; });
    uint64_t value = 0;
    for (int64_t at = begin; at < end; ++it) {
      const int64_t n = std::min(end, it->begin + it->bytes) - at;
      value ^= pattern.read(it->data + (at - it->begin), n, pattern.streams, pattern.prefetch);
      at += n;
    }
    Use(value);
  });
  const double gb_s = static_cast<double>(total) / SecondsSince(start) * 1e-9;
  pattern.gb_s.push_back(gb_s);
  return gb_s;
}

void ReadMeter::Narrow() {
  std::stable_sort(patterns_.begin(), patterns_.end(),
                   [](const Pattern& a, const Pattern& b) { return Median(a.gb_s) > Median(b.gb_s); });
  if (patterns_.size() > 3) patterns_.erase(patterns_.begin() + 3, patterns_.end());
  next_ = 0;
}

void ReadMeter::Forget() {
  for (Pattern& p : patterns_) p.gb_s.clear();
}

const ReadMeter::Pattern& ReadMeter::Best() const {
  return *std::max_element(patterns_.begin(), patterns_.end(),
                           [](const Pattern& a, const Pattern& b) { return Median(a.gb_s) < Median(b.gb_s); });
}
double ReadMeter::gb_s() const { return Median(Best().gb_s); }
std::string ReadMeter::pattern() const { return Best().name; }

ArithmeticMeter::ArithmeticMeter(Context& ctx) : ctx_(ctx) {
#if defined(__x86_64__)
  if (MachineHas(Isa::kAvx512)) units_.push_back({"avx512 fma", Type::kF32, peak::FmaAvx512});
  if (MachineHas(Isa::kAvx2)) units_.push_back({"avx2 fma", Type::kF32, peak::FmaAvx2});
  if (MachineHas(Isa::kAvx512Bf16)) {
    units_.push_back({"avx512 vdpbf16ps", Type::kBf16, peak::DotBf16Avx512});
    units_.push_back({"avx512 vpdpbusd", Type::kInt8, peak::DotInt8Avx512});
  }
  if (MachineHas(Isa::kAmx)) {
    units_.push_back({"amx tdpbf16ps", Type::kBf16, peak::DotBf16Amx});
    units_.push_back({"amx tdpbssd", Type::kInt8, peak::DotInt8Amx});
  }
#elif defined(__aarch64__)
  units_.push_back({"neon fma", Type::kF32, peak::FmaNeon});
#endif
  if (units_.empty()) units_.push_back({"multiply-add", Type::kF32, peak::MulAddPlain});
  for (Unit& u : units_) Calibrate(u);
}

void ArithmeticMeter::Calibrate(Unit& unit) {
  float sink = 0;
  double seconds = 0;
  for (unit.rounds = 256; seconds < kTaskSeconds / 4; unit.rounds *= 2) {
    const auto start = Clock::now();
    unit.run(unit.rounds, &sink);
    seconds = SecondsSince(start);
  }
  unit.task_seconds = seconds;
  Use(static_cast<uint64_t>(sink));
}

void ArithmeticMeter::Piece(double milliseconds) {
  for (Unit& unit : units_) {
    const int64_t tasks =
        std::max<int64_t>(1, static_cast<int64_t>(milliseconds * 1e-3 / unit.task_seconds)) * ctx_.pool.size();
    double operations = 0;  // of one task: all are equal
    const auto start = Clock::now();
    ctx_.pool.ParallelFor(tasks, [&](int64_t task, int) {
      float sink = 0;
      const double n = unit.run(unit.rounds, &sink);
      if (task == 0) operations = n;
      Use(static_cast<uint64_t>(sink));
    });
    unit.tera_per_s.push_back(operations * static_cast<double>(tasks) / SecondsSince(start) * 1e-12);
  }
}

void ArithmeticMeter::Forget() {
  for (Unit& u : units_) u.tera_per_s.clear();
}

ArithmeticMeter::Figure ArithmeticMeter::Best(Type type) const {
  Figure best;
  for (const Unit& u : units_) {
    const double median = Median(u.tera_per_s);
    if (u.type == type && median > best.tera_per_s) best = {median, u.name};
  }
  return best;
}

ArithmeticMeter::Figure ArithmeticMeter::bf16() const {
  const Figure own = Best(Type::kBf16), f = f32();
  return own.tera_per_s > f.tera_per_s ? own : f;
}

ArithmeticMeter::Figure ArithmeticMeter::int8() const {
  const Figure own = Best(Type::kInt8), f = f32();
  return own.tera_per_s > f.tera_per_s ? own : f;
}

Peaks Summary(const ReadMeter& read, const ArithmeticMeter& arithmetic) {
  const auto f32 = arithmetic.f32(), bf16 = arithmetic.bf16(), int8 = arithmetic.int8();
  return {.read_gb_s = read.gb_s(),
          .bf16_tflop_s = bf16.tera_per_s,
          .f32_tflop_s = f32.tera_per_s,
          .int8_top_s = int8.tera_per_s,
          .read_pattern = read.pattern(),
          .bf16_unit = bf16.unit,
          .f32_unit = f32.unit,
          .int8_unit = int8.unit};
}

}  // namespace fathom::kernels
