// What this machine can do, measured beside the work: how fast its threads read memory and how many operations a second
// its units do.
//
// Both meters are called in small pieces, so that a benchmark can interleave them with what it measures: frequency,
// neighbours and the pages' places change within minutes, and a peak of another moment decides nothing under 20 %. The
// figure is the median of the best pattern or unit, as the work's figure is a median. Bandwidth depends on how much is
// re-read and where it lies, so it is read from the very bytes that the work reads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/context.h"

namespace fathom::kernels {

struct ByteSpan {
  const void* data = nullptr;
  int64_t bytes = 0;
};
int64_t TotalBytes(std::span<const ByteSpan> spans);

double Median(std::vector<double> values);  // 0 if empty

// Memory read bandwidth of all threads of ctx.pool together, over given spans. Patterns: each thread one contiguous
// share, or pieces dealt out as they are finished; one, two or four streams side by side; with and without software
// prefetch. All take part until Narrow(), the best three afterwards.
class ReadMeter {
 public:
  explicit ReadMeter(Context& ctx);

  // Reads every span once, by the next pattern in turn. Returns GB/s (10^9 bytes) of this pass.
  double Pass(std::span<const ByteSpan> spans);
  // Keeps the three patterns with the best medians so far.
  void Narrow();
  // Forgets the figures, not the choice of patterns: for other spans.
  void Forget();

  int patterns() const { return static_cast<int>(patterns_.size()); }
  double gb_s() const;          // median of the best pattern, 0 before the first pass
  std::string pattern() const;  // its name

 private:
  struct Pattern {
    std::string name;
    uint64_t (*read)(const void*, int64_t, int, bool) = nullptr;
    int streams = 1;
    bool prefetch = false;
    int64_t piece = 0;  // bytes of a dealt piece; 0: one share a thread
    std::vector<double> gb_s;
  };
  const Pattern& Best() const;

  Context& ctx_;
  std::vector<Pattern> patterns_;
  size_t next_ = 0;
};

// Operations a second (a multiply-add is two) of all threads together on registers, for every unit of the machine,
// whatever ctx.isa is: f32 (FMA), bf16 (vdpbf16ps, AMX), int8 (vpdpbusd, AMX).
class ArithmeticMeter {
 public:
  explicit ArithmeticMeter(Context& ctx);

  // One piece of about `milliseconds` on each unit.
  void Piece(double milliseconds = 2);
  void Forget();

  struct Figure {
    double tera_per_s = 0;
    std::string unit;  // "avx512 fma"; empty: the machine has none
  };
  Figure f32() const { return Best(Type::kF32); }
  // The best unit for products of bf16 values with float32 sums: FP32 FMA where there is none of its own.
  Figure bf16() const;
  // FP32 FMA where the machine has no 8-bit products.
  Figure int8() const;

 private:
  enum class Type : uint8_t { kF32, kBf16, kInt8 };
  struct Unit {
    std::string name;
    Type type;
    double (*run)(int64_t, float*) = nullptr;
    int64_t rounds = 0;  // of a task
    double task_seconds = 0;
    std::vector<double> tera_per_s = {};
  };
  Figure Best(Type type) const;
  void Calibrate(Unit& unit);

  Context& ctx_;
  std::vector<Unit> units_;
};

struct Peaks {
  double read_gb_s = 0, bf16_tflop_s = 0, f32_tflop_s = 0, int8_top_s = 0;
  std::string read_pattern, bf16_unit, f32_unit, int8_unit;
};
Peaks Summary(const ReadMeter& read, const ArithmeticMeter& arithmetic);

}  // namespace fathom::kernels
