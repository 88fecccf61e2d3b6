#include "model/fp8.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace fathom::model {
namespace {

constexpr int64_t kMeasuredRows = 4 * kFp8Block;

float Largest(const float* x, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

// Of n <= 128 values. Errors in units of the scale: gradients are so small that their squares vanish in float32.
double SquaredError(const float* x, int64_t n, float scale) {
  std::array<float, kFp8Block> squares;
  for (int64_t i = 0; i < n; ++i) {
    const float value = x[i] / scale, error = RoundToE4M3(value) - value;
    squares[static_cast<size_t>(i)] = error * error;
  }
  return std::accumulate(squares.begin(), squares.begin() + n, 0.0) * scale * scale;
}

}  // namespace

std::string NameOf(const TensorName& name, int64_t layer) {
  std::string out = layer >= 0 ? fmt::format("layers.{}.", layer) : "";
  if (name.expert == TensorName::kDense) out += "mlp.";
  if (name.expert == TensorName::kShared) out += "mlp.shared_experts.";
  if (name.expert >= 0) out += fmt::format("mlp.experts.{}.", name.expert);
  return fmt::format("{}{} {}", out, name.module, name.kind);
}

PackedRows PackRows(const Env& env, const float* x, int64_t rows, int64_t n, kernels::TileFormat format, bool ue8m0) {
  PackedRows packed{.codes = env.Keep<std::byte>(rows * kernels::TileRowBytes(format, n)),
                    .scales = env.Keep<float>(rows * ((n + kFp8Block - 1) / kFp8Block)),
                    .rows = rows,
                    .n = n,
                    .format = format};
  if (!env.planning()) {
    kernels::PackTiles(env.ctx, {.codes = packed.codes,
                                 .scales = packed.scales,
                                 .x = x,
                                 .ldx = n,
                                 .rows = rows,
                                 .n = n,
                                 .format = format,
                                 .ue8m0 = ue8m0});
  }
  return packed;
}

void UnpackRows(const Env& env, const PackedRows& packed, float* x) {
  if (env.planning()) return;
  kernels::UnpackTiles(env.ctx, {.x = x,
                                 .ldx = packed.n,
                                 .codes = packed.codes,
                                 .scales = packed.scales,
                                 .rows = packed.rows,
                                 .n = packed.n,
                                 .format = packed.format});
}

void MeasureGradient(const Env& env, const kernels::LinearBackwardTerm& term, int64_t m) {
  const int64_t rows = std::min(m, kMeasuredRows), n = term.w.rows;
  const int64_t row_blocks = (rows + kFp8Block - 1) / kFp8Block, column_blocks = (n + kFp8Block - 1) / kFp8Block;
  struct Sums {
    double count = 0, tiles = 0, blocks = 0;
  };
  std::vector<Sums> sums(static_cast<size_t>(row_blocks * column_blocks));
  env.ctx.pool.ParallelFor(row_blocks * column_blocks, [&](int64_t i, int) {
    const int64_t begin = i / column_blocks * kFp8Block, end = std::min(rows, begin + kFp8Block);
    const int64_t column = i % column_blocks * kFp8Block, width = std::min(kFp8Block, n - column);
    const auto row = [&](int64_t r) { return term.dy + (term.dy_rows ? term.dy_rows[r] : r) * term.ldy + column; };
    const auto scale_of = [&](float largest) { return Fp8Scale(largest, term.w.ue8m0, kFp8TrainingFloor); };
    float largest = 0;
    for (int64_t r = begin; r < end; ++r) largest = std::max(largest, Largest(row(r), width));
    Sums& s = sums[static_cast<size_t>(i)];
    for (int64_t r = begin; r < end; ++r) {
      double squares = 0;
      for (int64_t c = 0; c < width; ++c) squares += static_cast<double>(row(r)[c]) * row(r)[c];
      if (!(squares > 0)) continue;
      s.tiles += std::sqrt(SquaredError(row(r), width, scale_of(Largest(row(r), width))) / squares);
      s.blocks += std::sqrt(SquaredError(row(r), width, scale_of(largest)) / squares);
      s.count += 1;
    }
  });
  Sums all;
  for (const Sums& s : sums) {
    all.count += s.count;
    all.tiles += s.tiles;
    all.blocks += s.blocks;
  }
  if (all.count == 0 || !std::isfinite(all.tiles + all.blocks)) return;
  Fp8GradientErrors& errors = *env.training->gradient_errors;
  errors.tiles += all.tiles / all.count;
  errors.blocks += all.blocks / all.count;
  ++errors.tensors;
}

kernels::LinearBackwardTerm GradientTerm(const Env& env, const TensorName& name, const float* dy, int64_t m,
                                         const Weight& w, const int32_t* dy_rows) {
  const kernels::LinearBackwardTerm term{
      .dy = dy, .ldy = w.rows, .dy_rows = dy_rows, .w = w, .dy_blocks = env.training->dy_blocks};
  env.Watch(name, dy, m, w.rows, dy_rows);
  if (env.training->gradient_errors && w.dtype == DType::kF8E4M3 && !env.planning()) MeasureGradient(env, term, m);
  return term;
}

kernels::LinearBackwardWeightJob WeightGradient(const Env& env, const Weight& grad, const float* dy, const float* x,
                                                int64_t m, const int32_t* dy_rows, const int32_t* x_rows) {
  return {.dw = Gradient(grad),
          .n = grad.rows,
          .k = grad.cols,
          .dy = dy,
          .ldy = grad.rows,
          .dy_rows = dy_rows,
          .x = x,
          .ldx = grad.cols,
          .x_rows = x_rows,
          .m = m,
          .ue8m0 = grad.ue8m0,
          .dy_blocks = env.training->dy_blocks};
}

}  // namespace fathom::model
