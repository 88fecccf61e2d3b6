#include "kernels/reference/linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fathom::kernels::reference {
namespace {

constexpr int64_t kRowsPerTask = 16;

int64_t Tiles(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }

bool QuantisesActivations(Compute compute, DType weight) {
  return (compute == Compute::kW8A8 || compute == Compute::kFp8) && weight == DType::kF8E4M3;
}
bool RoundsActivations(Compute compute, DType weight) {
  return RoundsToBf16(compute) && (weight == DType::kBF16 || weight == DType::kF8E4M3);
}

// One output element. x: the activations as the arithmetic sees them; x_scale: of each 128 of them, or null.
double Dot(const float* x, const float* x_scale, const Weight& w, int64_t row) {
  const std::byte* data = w.RowData(row);
  double sum = 0;
  for (int64_t begin = 0; begin < w.cols; begin += kFp8Block) {
    const int64_t end = std::min(begin + kFp8Block, w.cols);
    double part = 0;
    for (int64_t k = begin; k < end; ++k) part += static_cast<double>(x[k]) * Decode(data, k, w.dtype);
    if (w.dtype == DType::kF8E4M3) part *= w.ScaleAt(row, begin);
    if (x_scale) part *= x_scale[begin / kFp8Block];
    sum += part;
  }
  return sum;
}

void Store(const LinearJob& job, int64_t i, int64_t n, double value) {
  const int64_t at = i * job.ldy + n;
  if (job.y_dtype == DType::kBF16) {
    static_cast<uint16_t*>(job.y)[at] = F32ToBf16(static_cast<float>(value));
    return;
  }
  float* y = static_cast<float*>(job.y);
  y[at] = static_cast<float>(job.accumulate ? y[at] + value : value);
}

}  // namespace

float Decode(const std::byte* row, int64_t col, DType dtype) {
  uint32_t bits = 0;
  std::memcpy(&bits, row + col * SizeOf(dtype), static_cast<size_t>(SizeOf(dtype)));  // any alignment
  switch (dtype) {
    case DType::kF32:
      return std::bit_cast<float>(bits);
    case DType::kF16:
      return F16ToF32(static_cast<uint16_t>(bits));
    case DType::kBF16:
      return Bf16ToF32(static_cast<uint16_t>(bits));
    default:
      return E4M3ToF32(static_cast<uint8_t>(bits));
  }
}

void QuantizeRow(uint8_t* codes, float* scales, const float* x, int64_t n, bool ue8m0, float floor) {
  for (int64_t begin = 0; begin < n; begin += kFp8Block) {
    const int64_t end = std::min(begin + kFp8Block, n);
    float amax = 0;
    for (int64_t k = begin; k < end; ++k) amax = std::fmax(amax, std::fabs(x[k]));
    const float scale = Fp8Scale(amax, ue8m0, floor);
    for (int64_t k = begin; k < end; ++k) codes[k] = F32ToE4M3(x[k] / scale);
    scales[begin / kFp8Block] = scale;
  }
}

void QuantizeTiles(Context& ctx, const QuantizeTilesArgs& args) {
  ctx.pool.ParallelFor(args.rows, [&](int64_t i, int) {
    QuantizeRow(args.codes + i * args.n, args.scales + i * Tiles(args.n), args.x + i * args.ldx, args.n, args.ue8m0,
                kFp8AmaxFloor);
  });
}

void Linear(Context& ctx, Arena& scratch, const LinearArgs& args) {
  for (const LinearJob& job : args.jobs) {
    const ArenaScope scope(scratch);
    const int64_t k = job.w.cols, tiles = Tiles(k);
    float* x = scratch.Take<float>(job.m * k);
    uint8_t* codes = scratch.Take<uint8_t>(job.m * k);
    float* scales = scratch.Take<float>(job.m * tiles);
    if (scratch.Capacity() < 0) continue;
    const bool rounds = RoundsActivations(args.compute, job.w.dtype);
    const float floor = args.compute == Compute::kFp8 ? kFp8TrainingFloor : kFp8AmaxFloor;
    const bool quantises = QuantisesActivations(args.compute, job.w.dtype);
    ctx.pool.ParallelFor(job.m, [&](int64_t i, int) {
      const float* from = job.Row(i);
      if (quantises) QuantizeRow(codes + i * k, scales + i * tiles, from, k, job.w.ue8m0, floor);
      for (int64_t j = 0; j < k; ++j) {
        x[i * k + j] = quantises ? E4M3ToF32(codes[i * k + j]) : rounds ? RoundToBf16(from[j]) : from[j];
      }
    });
    ctx.pool.ParallelFor((job.w.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
      const int64_t end = std::min((task + 1) * kRowsPerTask, job.w.rows);
      for (int64_t n = task * kRowsPerTask; n < end; ++n) {
        for (int64_t i = 0; i < job.m; ++i) {
          Store(job, i, n, Dot(x + i * k, quantises ? scales + i * tiles : nullptr, job.w, n));
        }
      }
    });
  }
}

void LinearTransposed(Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs, Compute compute) {
  if (scratch.planning()) return;  // takes no scratch
  for (const LinearTransposedJob& job : jobs) {
    const Weight& w = job.w;
    const bool rounds = RoundsActivations(compute, w.dtype);
    ctx.pool.ParallelFor(job.m, [&](int64_t i, int) {
      const float* x = job.x + i * job.ldx;
      for (int64_t c = 0; c < w.cols; ++c) {
        double sum = 0;
        for (int64_t r = 0; r < w.rows; ++r) {
          const double value = Decode(w.RowData(r), c, w.dtype);
          sum += (rounds ? RoundToBf16(x[r]) : x[r]) * value * (w.dtype == DType::kF8E4M3 ? w.ScaleAt(r, c) : 1.0f);
        }
        job.y[i * job.ldy + c] = static_cast<float>(sum);
      }
    });
  }
}

}  // namespace fathom::kernels::reference
