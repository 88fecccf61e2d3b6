// LinearTransposed over a table of primitives: y (m, C) = x (m, R) w. x is the A operand as it lies (rounded to bf16
// for the bf16 units), blocks of 128 rows x 512 columns of W become B panels whose lanes are columns: rows are read
// contiguously and paired in registers on the way. A task is one block of columns of one job, for all of x and R.
#include <algorithm>
#include <cstring>

#include "kernels/linear_tiles.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kColumns = 512;  // of a task
constexpr int64_t kDepth = 128;    // rows of W at a time: a block of FP8 scales
constexpr int64_t kAhead = 16;     // rows that are fetched ahead: they may be short pieces of memory
constexpr int64_t kMaxRows = 64;   // of x at a time
// Panels lie a cache line more apart than they are long: a power of two would put them all into one set of the cache.
constexpr int64_t kPanelFloats = kDepth * kLanes + 16;
constexpr int64_t kPanelHalves = kDepth * kLanes + 32;
constexpr int64_t kPanels = kColumns / kLanes;

struct Job {
  const LinearTransposedJob* job;
  LinearInput input;
  int64_t first_task;
};

// Panels, their rows before pairing or distribution, and sums of a block whose width is no multiple of 16.
struct alignas(64) Workspace {
  float panels[kPanels * kPanelFloats];
  uint16_t rows[kDepth * kColumns];
  float row[kColumns];
  float sums[kMaxRows * kColumns];
};

// Rows [r, r + depth), columns [c, c + n) of W as panels.
void MakePanels(const Tiles& tiles, const Weight& w, bool bf16, int64_t r, int64_t depth, int64_t c, int64_t n,
                Workspace* space) {
  const int64_t size = SizeOf(w.dtype);
  if (bf16) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(w.RowData(r) + c * size);
    int64_t ld = w.cols;
    if (w.dtype == DType::kF8E4M3) {
      for (int64_t i = 0; i < depth; ++i) {
        for (int64_t line = 0; line < n && i + kAhead < depth; line += 64) {
          __builtin_prefetch(w.RowData(r + i + kAhead) + c + line);
        }
        tiles.widen_e4m3_bf16(space->rows + i * kColumns, w.RowData(r + i) + c * size, n);
      }
      from = space->rows;
      ld = kColumns;
    }
    tiles.pair_rows(reinterpret_cast<uint16_t*>(space->panels), kPanelHalves, from, ld, depth, n);
    return;
  }
  float* row = space->row;
  std::fill(row + n, row + RoundUp(n, kLanes), 0.0f);
  for (int64_t i = 0; i < depth; ++i) {
    const std::byte* from = w.RowData(r + i) + c * size;
    switch (w.dtype) {
      case DType::kF32:
        std::memcpy(row, from, static_cast<size_t>(n) * sizeof(float));
        break;
      case DType::kF16:
        tiles.widen_f16(row, from, n);
        break;
      case DType::kBF16:
        tiles.widen_bf16(row, from, n);
        break;
      default:
        tiles.widen_e4m3(row, from, n);
    }
    for (int64_t p = 0; p < CeilDiv(n, kLanes); ++p) {
      std::memcpy(space->panels + p * kPanelFloats + i * kLanes, row + p * kLanes, kLanes * sizeof(float));
    }
  }
}

// C (rows of x, panels) (+)= scale * x W for rows [r, r + depth) of W.
void Multiply(const Tiles& tiles, const LinearInput& in, const Workspace& space, float* c, int64_t ldc, int64_t first,
              int64_t rows, int64_t r, int64_t depth, int64_t panels, const float* lane_scale, bool accumulate) {
  if (in.bf16) {
    const uint16_t* a = static_cast<const uint16_t*>(in.data) + first * in.ld + r;
    const uint16_t* b = reinterpret_cast<const uint16_t*>(space.panels);
    tiles.mul_bf16(
        {c, ldc, a, in.ld, b, kPanelHalves, rows, CeilDiv(depth, 2), panels, 1.0f, lane_scale, accumulate, nullptr});
  } else {
    const float* a = static_cast<const float*>(in.data) + first * in.ld + r;
    tiles.mul_f32({c, ldc, a, in.ld, space.panels, kPanelFloats, rows, depth, panels, 1.0f, lane_scale, accumulate});
  }
}

void RunTask(const Tiles& tiles, const Job& job, int64_t task, Workspace* space) {
  const LinearTransposedJob& t = *job.job;
  const Weight& w = t.w;
  const int64_t c = task * kColumns, n = std::min(kColumns, w.cols - c), panels = CeilDiv(n, kLanes);
  const bool direct = n % kLanes == 0;
  for (int64_t first = 0; first < t.m; first += kMaxRows) {
    const int64_t rows = std::min(kMaxRows, t.m - first);
    float* sums = direct ? t.y + first * t.ldy + c : space->sums;
    const int64_t ldc = direct ? t.ldy : kColumns;
    for (int64_t r = 0; r < w.rows;) {
      // Up to the next row of scales of the whole matrix.
      const int64_t depth = std::min(RoundUp(w.row0 + r + 1, kDepth) - w.row0, w.rows) - r;
      MakePanels(tiles, w, job.input.bf16, r, depth, c, n, space);
      float lane_scale[kColumns];
      const bool scaled = w.dtype == DType::kF8E4M3;
      for (int64_t j = 0; scaled && j < panels * kLanes; ++j) {
        lane_scale[j] = w.ScaleAt(r, c + std::min(j, n - 1));
      }
      Multiply(tiles, job.input, *space, sums, ldc, first, rows, r, depth, panels, scaled ? lane_scale : nullptr,
               r > 0);
      r += depth;
    }
    for (int64_t i = 0; !direct && i < rows; ++i) {
      std::memcpy(t.y + (first + i) * t.ldy + c, sums + i * ldc, static_cast<size_t>(n) * sizeof(float));
    }
  }
}

}  // namespace

void LinearTransposedWith(const Tiles& tiles, Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> args,
                          Compute compute) {
  const ArenaScope scope(scratch);
  Job* jobs = scratch.Take<Job>(static_cast<int64_t>(args.size()));
  int64_t count = 0, tasks = 0;
  for (const LinearTransposedJob& t : args) {
    FATHOM_CHECK(t.m >= 0 && t.w.rows > 0 && t.w.cols >= 0 && t.ldx >= t.w.rows && t.ldy >= t.w.cols);
    if (t.m == 0 || t.w.cols == 0) continue;
    LinearInput in;
    in.x = t.x;
    in.ldx = t.ldx;
    in.m = t.m;
    in.k = t.w.rows;
    in.arithmetic = compute == Compute::kW8A8
                        ? Arithmetic::kPlain
                        : ArithmeticOf(RoundsToBf16(compute) ? Compute::kBf16 : compute, t.w.dtype);
    in.bf16 = tiles.mul_bf16 && in.arithmetic != Arithmetic::kPlain;
    TakeInput(&in, scratch);
    if (!scratch.planning()) new (jobs + count++) Job{&t, in, tasks};
    tasks += CeilDiv(t.w.cols, kColumns);
  }
  constexpr auto kThreadBytes = static_cast<int64_t>(sizeof(Workspace));
  static_assert(kThreadBytes >= kConversionBytes);
  std::byte* thread_scratch = scratch.Take<std::byte>(kThreadBytes * ctx.pool.size());
  if (scratch.planning() || tasks == 0) return;

  // Few values (a head's width each): not worth a region of its own.
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = 0; i < jobs[j].input.tasks(); ++i) ConvertInput(tiles, jobs[j].input, i, thread_scratch);
  }
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    const Job* after =
        std::upper_bound(jobs, jobs + count, task, [](int64_t t, const Job& job) { return t < job.first_task; });
    const Job& job = *(after - 1);
    RunTask(tiles, job, task - job.first_task, reinterpret_cast<Workspace*>(thread_scratch + thread * kThreadBytes));
  });
}

}  // namespace fathom::kernels
