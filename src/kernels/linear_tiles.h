// The drivers of the matrix products over a table of primitives (tiles.h): what to convert, how the work is cut and
// dealt, which primitive runs. Private to kernels/; the tests also run them with an emulated table.
#pragma once

#include "kernels/ops.h"
#include "kernels/tiles.h"

namespace fathom::kernels {

void LinearWith(const Tiles& tiles, Context& ctx, Arena& scratch, const LinearArgs& args);
void LinearTransposedWith(const Tiles& tiles, Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs,
                          Compute compute);

// Rows of x up to which compact matrices of so many columns are read. Where there are no quads, tiles take more than
// dot does. Compact sums are those of the fixed form where it has streams.
int64_t CompactTo(const Tiles& tiles, int64_t cols, bool fixed_form);

// What happens to the activations before they are multiplied.
enum class Arithmetic : uint8_t { kPlain, kRounded, kCodes };
inline Arithmetic ArithmeticOf(Compute compute, DType weight) {
  const bool codes = weight == DType::kF8E4M3;
  if ((compute == Compute::kW8A8 || compute == Compute::kFp8) && codes) return Arithmetic::kCodes;
  if (RoundsToBf16(compute) && (codes || weight == DType::kBF16)) return Arithmetic::kRounded;
  return Arithmetic::kPlain;
}

inline constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// The rows of x as a job's products take them, made once for all jobs with the same x.
//   kRows    (dot form)     (m, ld) of bf16 or float32, rows zero from k to ld; or x itself where nothing changes
//   kQuads   (quads form)   quads of 4 rows of bf16 in groups of QuadGroup(m) rows of ld values each (tiles.h)
//   kPanels  (packed form)  panels of 16 rows, ld elements apart (tiles.h)
// Scales of kCodes: rows and quads (m, tiles), panels (tiles, 16 * panels).
enum class InputLayout : uint8_t { kRows, kQuads, kPanels };
struct LinearInput {
  const float* x = nullptr;
  const int32_t* x_rows = nullptr;
  int64_t ldx = 0, m = 0, k = 0;
  Arithmetic arithmetic = Arithmetic::kPlain;
  bool ue8m0 = false;
  float floor = kFp8AmaxFloor;  // of kCodes
  bool bf16 = false;            // elements, else float32
  InputLayout layout = InputLayout::kRows;
  void* data = nullptr;
  int64_t ld = 0;
  float* scales = nullptr;
  int64_t ld_scales = 0;
  int64_t first_task = 0;

  int64_t tiles() const { return CeilDiv(k, kFp8Block); }
  int64_t tasks() const;  // conversions to be run, 0 if x is used as it is
  bool SameAs(const LinearInput& other) const;
};

// Takes an input's slots from the arena.
void TakeInput(LinearInput* input, Arena& scratch);
// Values of k that are packed at a time, a multiple of kFp8Block, and scratch that ConvertInput needs, a thread.
inline constexpr int64_t kPackDepth = 512;
inline constexpr int64_t kConversionBytes =
    kLanes * kPackDepth * static_cast<int64_t>(sizeof(float) + sizeof(uint16_t));
// One task of an input's conversion.
void ConvertInput(const Tiles& tiles, const LinearInput& input, int64_t task, std::byte* scratch);

}  // namespace fathom::kernels
