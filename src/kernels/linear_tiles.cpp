// Linear over a table of primitives, in five forms; which one depends on m and the weight.
//
//   dot      m small: rows of W are streamed once, sums run along k. Bound by the memory.
//   compact  the same for a compact matrix (ops.h), sums in lanes that are rows of W.
//   quads    more: the same with x in quads of rows (tiles.h), which need fewer loads a product.
//   packed   otherwise: x is packed into panels of 16 rows, W is multiplied where it lies (A operand, rows contiguous
//            in k) or, where its type is not the unit's, widened into a block in the second cache just before use. C^T
//            blocks (128 rows of W) x (up to 192 rows of x) are turned round when they are complete.
//   blocks   m large: W is packed and y written where it lies (linear_blocks.h). That costs more for each value of W
//            and less for each of x and y.
//
// In all but the last a task is a block of rows of one job's W (and of panels). Blocks are cut at multiples of a
// power of two of the whole matrix's rows, so that a block never crosses a row of FP8 scales. Every output element
// belongs to one task and its sum is cut only at fixed distances in k: the same bits however tasks are dealt.
//
// Compact, packed and blocks sum in the same order (tiles.h). With LinearArgs::fixed_form dot does too, where its
// primitives have such a form (stream_*), and is not taken elsewhere: bits do not depend on m.
#include "kernels/linear_tiles.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/compact.h"
#include "kernels/linear_blocks.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kDotRows = 8;
constexpr int64_t kDotRowsCodes = 16;  // E4M3 on bf16 units: widening in registers beats widening into a block
// Where the primitives have that form.
constexpr int64_t kQuadsFrom = 9, kQuadsTo = 127, kQuadsFromCodes = 5, kQuadsToCodes = 63;
// Longer rows are faster in quads and blocks (5 to 8 % from 64 rows of x on), but for few rows of x.
constexpr int64_t kCompactAnyDepth = 1024, kCompactRowsDeep = 32;
constexpr int64_t kCompactXBytes = 1 << 18;  // of x in a task: it stays in the second cache while blocks of W pass
constexpr int64_t kDotTaskBytes = 1 << 17, kDotLargeTaskBytes = 1 << 19;  // of small and large weights
constexpr int64_t kDotMaxRows = 512;                                      // of W in a task
constexpr int64_t kBlockRows = 128, kLeastBlockRows = 16;                 // packed form: rows of W in a task
constexpr int64_t kTasksPerThread = 2;                                    // where matrices are small
constexpr int64_t kBlockPanels = 12;                                      // and panels of x
// Rows of W that are widened at a time where they are not multiplied in place: for few panels they stay in the first
// cache, for many in the second, so that panels are read less often.
constexpr int64_t kShortSlice = 16, kLongSlice = 64;
constexpr int64_t kDepthBytes = 1 << 12;    // bytes of a row of the A operand that are multiplied at a time
constexpr int64_t kGroupPanels = 3;         // panels that stay in the caches while a block of W passes
constexpr int64_t kSerialValues = 1 << 15;  // conversions of fewer values are not worth a parallel region

struct Plan {
  const LinearJob* job = nullptr;
  int64_t input = 0;
  const CompactMatrix* compact = nullptr;  // what is read instead of W
  int64_t block_rows = 0, n_blocks = 0;
  int64_t block_panels = 0, m_blocks = 0;
  int64_t block_m = 0;  // dot form: rows of x in a task
  int64_t first_task = 0;
};

// Dot or quads.
bool IsDot(const LinearInput& in) { return in.layout != InputLayout::kPanels; }

int64_t DotBlockRows(const Weight& w) {
  const int64_t row_bytes = w.cols * SizeOf(w.dtype);
  const int64_t task_bytes = std::clamp(w.rows * row_bytes / 32, kDotTaskBytes, kDotLargeTaskBytes);
  int64_t rows = 16;
  while (rows < kDotMaxRows && 2 * rows * row_bytes <= task_bytes) rows *= 2;
  return rows;
}

void CheckJob(const LinearJob& job) {
  FATHOM_CHECK(job.m >= 0 && job.w.rows >= 0 && job.w.cols > 0);
  FATHOM_CHECK(job.y_dtype == DType::kF32 || (job.y_dtype == DType::kBF16 && !job.accumulate));
  FATHOM_CHECK(job.w.dtype == DType::kF32 || job.w.dtype == DType::kF16 || job.w.dtype == DType::kBF16 ||
               job.w.dtype == DType::kF8E4M3);
  FATHOM_CHECK(job.ldx >= job.w.cols && job.ldy >= job.w.rows);
}

// What is read instead of the job's W, or null. `bf16`: of its input.
const CompactMatrix* CompactOf(const Tiles& tiles, const LinearArgs& args, const LinearJob& job, bool bf16) {
  return bf16 && job.m <= CompactTo(tiles, job.w.cols, args.fixed_form) ? job.w.compact : nullptr;
}

LinearInput InputOf(const Tiles& tiles, const LinearArgs& args, const LinearJob& job) {
  LinearInput in;
  in.x = job.x;
  in.x_rows = job.x_rows;
  in.ldx = job.ldx;
  in.m = job.m;
  in.k = job.w.cols;
  in.arithmetic = ArithmeticOf(args.compute, job.w.dtype);
  in.ue8m0 = job.w.ue8m0;
  if (args.compute == Compute::kFp8) in.floor = kFp8TrainingFloor;
  in.bf16 = tiles.mul_bf16 && in.arithmetic != Arithmetic::kPlain;
  const bool codes = in.bf16 && job.w.dtype == DType::kF8E4M3;
  if (CompactOf(tiles, args, job, in.bf16)) return in;
  const bool quads = in.bf16 && (codes ? tiles.quads_e4m3 : tiles.quads_bf16) && !args.fixed_form;
  if (quads && job.m >= (codes ? kQuadsFromCodes : kQuadsFrom) && job.m <= (codes ? kQuadsToCodes : kQuadsTo)) {
    in.layout = InputLayout::kQuads;
  } else if (job.m > (codes ? kDotRowsCodes : kDotRows) || (args.fixed_form && !(in.bf16 && tiles.stream_bf16))) {
    in.layout = InputLayout::kPanels;
  }
  return in;
}

// Experts take rows of one x, each several times: where compact matrices are read these are rounded once and read where
// they lie. How many rows of the job's x, from its first on, hold all that jobs take; 0 where they take fewer than
// that.
int64_t SharedRows(const LinearArgs& args, const LinearJob& job) {
  int64_t taken = 0, rows = 0;
  for (const LinearJob& other : args.jobs) {
    if (other.x != job.x || other.ldx != job.ldx || other.w.cols != job.w.cols || !other.x_rows) continue;
    taken += other.m;
    for (int64_t i = 0; i < other.m; ++i) rows = std::max<int64_t>(rows, other.x_rows[i] + 1);
  }
  return rows <= taken ? rows : 0;
}

// At least `tasks` tasks, if that does not make them too small.
void Cut(const LinearInput& in, int64_t tasks, Plan* plan) {
  const Weight& w = plan->job->w;
  const int64_t m = plan->job->m, panels = CeilDiv(m, kLanes);
  plan->m_blocks = IsDot(in) ? 1 : CeilDiv(panels, kBlockPanels);
  plan->block_panels = RoundUp(CeilDiv(panels, plan->m_blocks), kGroupPanels);
  plan->m_blocks = IsDot(in) ? 1 : CeilDiv(panels, plan->block_panels);
  plan->block_rows = IsDot(in) ? DotBlockRows(w) : kBlockRows;
  while (!IsDot(in) && plan->block_rows > kLeastBlockRows && w.rows * plan->m_blocks < tasks * plan->block_rows) {
    plan->block_rows /= 2;
  }
  plan->block_m = m;
  if (plan->compact) {
    plan->block_rows = std::max(plan->block_rows, kCompactRows);
    // Sums that do not go to y at once have the room of as many rows as quads take.
    const bool direct = plan->job->y_dtype == DType::kF32 && !plan->job->accumulate;
    const int64_t most = direct ? std::max<int64_t>(kCompactXBytes / (2 * in.k), kQuadsTo) : kQuadsTo;
    plan->m_blocks = CeilDiv(m, most);
    plan->block_m = RoundUp(CeilDiv(m, plan->m_blocks), kCompactPass);
    plan->m_blocks = CeilDiv(m, plan->block_m);
  }
  plan->n_blocks = CeilDiv(w.row0 + w.rows, plan->block_rows) - w.row0 / plan->block_rows;
}

// ---- Blocks ----

// Rows of x from which blocks are faster, for themselves and against the values of a row of W that are packed.
constexpr int64_t kBlocksFrom = 128, kBlocksDepthPerRow = 3;

// Rows of x from which products of FP8 codes are better packed and written by one task: of codes, and of rounded x,
// whose panels the other forms make once for all tasks.
constexpr int64_t kScaledFrom = 32, kScaledRoundedFrom = 64;

bool IsScaled(const Tiles& tiles, const LinearArgs& args, const LinearJob& job) {
  if (job.w.dtype != DType::kF8E4M3 || !tiles.turn_codes || job.y_dtype != DType::kF32 || args.fixed_form) return false;
  if (args.compute == Compute::kFp8) return job.m >= kScaledFrom;
  return ArithmeticOf(args.compute, job.w.dtype) == Arithmetic::kRounded && job.m >= kScaledRoundedFrom;
}

bool IsBlocks(const Tiles& tiles, const LinearArgs& args, const LinearJob& job) {
  if (IsScaled(tiles, args, job)) return true;
  const bool bf16 = tiles.mul_bf16 && ArithmeticOf(args.compute, job.w.dtype) == Arithmetic::kRounded;
  if (CompactOf(tiles, args, job, bf16)) return false;
  // Where y is added to, blocks add to it what the other forms have summed before.
  return job.m >= std::max(kBlocksFrom, job.w.cols / kBlocksDepthPerRow) && !(args.fixed_form && job.accumulate) &&
         (job.w.dtype == DType::kF32 || job.w.dtype == DType::kBF16) && (!bf16 || job.w.cols % 2 == 0) &&
         (job.y_dtype == DType::kF32 || FitsBf16(job.w.cols));
}

template <bool round>
BlockTerm BlocksTerm(const void* source, int64_t) {
  const LinearJob& job = *static_cast<const LinearJob*>(source);
  BlockTerm t;
  t.a = {job.x, DType::kF32, job.ldx, job.x_rows};
  t.b = {job.w.data, job.w.dtype, job.w.cols, nullptr};
  t.k = job.w.cols;
  t.round = round;
  return t;
}

template <bool round>
BlockTerm ScaledTerm(const void* source, int64_t) {
  BlockTerm t = BlocksTerm<round>(source, 0);
  t.codes = true;
  t.weight = &static_cast<const LinearJob*>(source)->w;
  t.ue8m0 = t.weight->ue8m0;
  return t;
}

// An empty job where another form is taken.
BlockJob BlocksJob(const Tiles& tiles, const void* source, int64_t i) {
  const LinearArgs& args = *static_cast<const LinearArgs*>(source);
  const LinearJob& from = args.jobs[static_cast<size_t>(i)];
  BlockJob job;
  if (!IsBlocks(tiles, args, from)) return job;
  const bool round = ArithmeticOf(args.compute, from.w.dtype) == Arithmetic::kRounded;
  job.c = from.y;
  job.ldc = from.ldy;
  job.c_dtype = from.y_dtype;
  job.accumulate = from.accumulate;
  job.m = from.m;
  job.n = from.w.rows;
  job.scaled = IsScaled(tiles, args, from);
  job.bf16 = job.scaled || (tiles.mul_bf16 && round);
  job.k = PaddedK(job, from.w.cols);
  job.b_turned = true;
  job.term = job.scaled ? (round ? ScaledTerm<true> : ScaledTerm<false>) : round ? BlocksTerm<true> : BlocksTerm<false>;
  job.source = &from;
  return job;
}

// Rows [begin, end) of the job's W that a block covers.
struct Range {
  int64_t begin, end;
};
Range BlockRange(const Weight& w, int64_t block_rows, int64_t block) {
  const int64_t first = (w.row0 / block_rows + block) * block_rows - w.row0;
  return {std::max<int64_t>(first, 0), std::min(first + block_rows, w.rows)};
}

// Jobs of few rows, which wait for the memory, before those of many, which wait for the arithmetic.
void OrderByRows(std::span<Plan> plans) {
  std::sort(plans.begin(), plans.end(), [](const Plan& x, const Plan& y) {
    return std::pair(x.job->m, x.first_task) < std::pair(y.job->m, y.first_task);
  });
  int64_t first = 0;
  for (Plan& plan : plans) {
    plan.first_task = first;
    first += plan.n_blocks * plan.m_blocks;
  }
}

// The plan of a task.
const Plan& PlanOf(std::span<const Plan> plans, int64_t task) {
  const auto after =
      std::upper_bound(plans.begin(), plans.end(), task, [](int64_t t, const Plan& p) { return t < p.first_task; });
  return *(after - 1);
}

// Where rows of W from `row` on are read.
const void* PlaceOf(const Plan& plan, int64_t row) {
  if (!plan.compact) return plan.job->w.RowData(row);
  return plan.compact->blocks + (plan.job->w.row0 + row) / kCompactRows * CompactBlock(plan.compact->cols);
}

// Where W of a task begins; null for none of `tasks`.
const void* WeightOf(std::span<const Plan> plans, int64_t task, int64_t tasks) {
  if (task < 0 || task >= tasks) return nullptr;
  const Plan& plan = PlanOf(plans, task);
  const int64_t block = (task - plan.first_task) / plan.m_blocks;
  return PlaceOf(plan, BlockRange(plan.job->w, plan.block_rows, block).begin);
}

// Deals tasks from both ends: one half of the threads takes the first that is left, the other half the last. Where the
// first tasks wait for the memory and the last for the arithmetic, neither stands idle. One by one otherwise.
class Dealer {
 public:
  Dealer(int64_t tasks, int threads, bool both_ends)
      : threads_(threads), both_ends_(both_ends && threads > 1), behind_(tasks) {}

  struct Dealt {
    int64_t task, next;  // what the thread will probably be dealt then
  };
  // `dealt`: of a region of as many tasks.
  Dealt Deal(int64_t dealt, int thread) {
    if (!both_ends_) return {dealt, dealt + threads_};
    // Threads are bound to NUMA nodes in turn: each node has threads at either end.
    if (std::popcount(static_cast<unsigned>(thread)) % 2 == 0) {
      const int64_t task = first_.fetch_add(1, std::memory_order_relaxed);
      return {task, task + (threads_ + 1) / 2};
    }
    const int64_t task = behind_.fetch_sub(1, std::memory_order_relaxed) - 1;
    return {task, task - threads_ / 2};
  }

 private:
  int threads_;
  bool both_ends_;
  std::atomic<int64_t> first_{0}, behind_;
};

// Rows of finished sums (m, n) to y.
void StoreRow(const Tiles& tiles, const LinearJob& job, int64_t row, int64_t begin, const float* sums, int64_t n) {
  if (job.y_dtype == DType::kBF16) {
    tiles.round_bf16(static_cast<uint16_t*>(job.y) + row * job.ldy + begin, sums, n);
    return;
  }
  float* y = static_cast<float*>(job.y) + row * job.ldy + begin;
  if (job.accumulate) {
    for (int64_t i = 0; i < n; ++i) y[i] += sums[i];
  } else {
    std::memcpy(y, sums, static_cast<size_t>(n) * sizeof(float));
  }
}

// ---- Dot form ----

// `next`: W of this thread's next task, or null.
void RunDot(const Tiles& tiles, const LinearInput& in, const Plan& plan, bool fixed_form, int64_t task,
            const void* next, std::byte* scratch) {
  const LinearJob& job = *plan.job;
  const Weight& w = job.w;
  const Range range = BlockRange(w, plan.block_rows, task / plan.m_blocks);
  const int64_t first = task % plan.m_blocks * plan.block_m;  // row of x
  const int64_t m = std::min(plan.block_m, job.m - first);
  const int32_t* x_rows = job.x_rows && !in.x_rows ? job.x_rows + first : nullptr;  // of an input for several jobs
  const bool direct = job.y_dtype == DType::kF32 && !job.accumulate;
  const bool scaled = w.dtype == DType::kF8E4M3;
  const bool stream = in.bf16 && tiles.stream_bf16 && fixed_form;
  const bool quads = in.layout == InputLayout::kQuads;
  void (*dot)(const Dot&) = quads                     ? (scaled ? tiles.quads_e4m3 : tiles.quads_bf16)
                            : plan.compact            ? tiles.dot_compact
                            : stream                  ? (scaled ? tiles.stream_e4m3 : tiles.stream_bf16)
                            : in.bf16                 ? (scaled ? tiles.dot_bf16_e4m3 : tiles.dot_bf16_bf16)
                            : scaled                  ? tiles.dot_f32_e4m3
                            : w.dtype == DType::kBF16 ? tiles.dot_f32_bf16
                            : w.dtype == DType::kF16  ? tiles.dot_f32_f16
                                                      : tiles.dot_f32_f32;
  float* sums = reinterpret_cast<float*>(scratch);
  for (int64_t n = range.begin; n < range.end;) {
    const int64_t stop = scaled ? RoundUp(w.row0 + n + 1, kFp8Block) - w.row0 : range.end;
    const int64_t end = std::min(stop, range.end), rows = end - n;
    Dot d{};
    d.y = direct ? static_cast<float*>(job.y) + first * job.ldy + n : sums;
    d.ldy = direct ? job.ldy : rows;
    d.w = PlaceOf(plan, n);
    d.x = static_cast<const std::byte*>(in.data) + (x_rows ? 0 : first * in.ld * (in.bf16 ? 2 : 4));
    d.x_rows = x_rows;
    d.ldx = in.ld;
    d.rows = rows;
    d.m = m;
    d.k = in.k;
    d.w_scale = scaled ? w.scale + (w.row0 + n) / kFp8Block * w.scale_cols() : nullptr;
    d.x_scale = in.scales;
    d.ldxs = in.ld_scales;
    d.next = end < range.end ? PlaceOf(plan, end) : next;
    if (plan.compact) d.high = plan.compact->high;
    dot(d);
    for (int64_t i = 0; !direct && i < m; ++i) StoreRow(tiles, job, first + i, n, sums + i * rows, rows);
    n = end;
  }
}

// ---- Packed form ----

// Values of k that are multiplied at a time. A multiple of kFp8Block.
int64_t Depth(const LinearInput& in) { return kDepthBytes / (in.bf16 ? 2 : 4); }

// Whether W is the A operand as it lies. Pairs of bf16 need an even k, or the last would reach into the next row.
bool InPlace(const LinearInput& in, const Weight& w) {
  return in.bf16 ? w.dtype == DType::kBF16 && w.cols % 2 == 0 : w.dtype == DType::kF32;
}

constexpr int64_t kSumsLd = kBlockPanels * kLanes;
constexpr int64_t kSumsBytes = kBlockRows * kSumsLd * static_cast<int64_t>(sizeof(float));
constexpr int64_t kTurnedBytes = kBlockRows * kLanes * static_cast<int64_t>(sizeof(float));
// Of a thread, for a task of any form: a plan has to do whichever its rows come to take.
constexpr int64_t kTaskScratch = RoundUp(kSumsBytes + kTurnedBytes + kLongSlice * kDepthBytes, 64);
static_assert(kTaskScratch >= kConversionBytes);
static_assert(kTaskScratch >= kDotMaxRows * RoundUp(kQuadsTo, kCompactPass) * static_cast<int64_t>(sizeof(float)));

// Values [k, k + n) of rows [range) as the A operand, ld elements apart.
void WidenBlock(const Tiles& tiles, const LinearInput& in, const Weight& w, Range range, int64_t k, int64_t n,
                void* out, int64_t ld) {
  for (int64_t row = range.begin; row < range.end; ++row) {
    const std::byte* from = w.RowData(row) + k * SizeOf(w.dtype);
    if (!in.bf16) {
      float* to = static_cast<float*>(out) + (row - range.begin) * ld;
      (w.dtype == DType::kBF16  ? tiles.widen_bf16
       : w.dtype == DType::kF16 ? tiles.widen_f16
                                : tiles.widen_e4m3)(to, from, n);
      continue;
    }
    uint16_t* to = static_cast<uint16_t*>(out) + (row - range.begin) * ld;
    if (w.dtype == DType::kF8E4M3) {
      tiles.widen_e4m3_bf16(to, from, n);
    } else {
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(uint16_t));
    }
    if (n % 2 != 0) to[n] = 0;
  }
}

// C (rows, panels) (+)= scales * A x^T for values [k, k + n) of k; `a` begins at k.
void Multiply(const Tiles& tiles, const LinearInput& in, float* c, const void* a, int64_t lda, int64_t rows, int64_t k,
              int64_t n, int64_t panel, int64_t panels, float scale, const float* lane_scale, const void* a_next) {
  if (in.bf16) {
    const uint16_t* b = static_cast<const uint16_t*>(in.data) + panel * in.ld + k * kLanes;
    tiles.mul_bf16({c, kSumsLd, static_cast<const uint16_t*>(a), lda, b, in.ld, rows, CeilDiv(n, 2), panels, scale,
                    lane_scale, k > 0, static_cast<const uint16_t*>(a_next)});
  } else {
    const float* b = static_cast<const float*>(in.data) + panel * in.ld + k * kLanes;
    tiles.mul_f32({c, kSumsLd, static_cast<const float*>(a), lda, b, in.ld, rows, n, panels, scale, lane_scale, k > 0});
  }
}

// The next slice's codes of a block of scales, while this slice is multiplied.
void PrefetchCodes(const Weight& w, int64_t row, int64_t rows, int64_t k) {
  constexpr int64_t kLine = 64;
  for (int64_t r = row; r < std::min(row + rows, w.rows); ++r) {
    __builtin_prefetch(w.RowData(r) + k);
    __builtin_prefetch(w.RowData(r) + k + kLine);
  }
}

// What a packed task works on.
struct PackedTask {
  Range range;  // rows of W
  int64_t first_panel, panels;
};
PackedTask TaskOf(const LinearInput& in, const Plan& plan, int64_t task) {
  PackedTask t;
  t.range = BlockRange(plan.job->w, plan.block_rows, task / plan.m_blocks);
  t.first_panel = task % plan.m_blocks * plan.block_panels;
  t.panels = std::min(plan.block_panels, CeilDiv(in.m, kLanes) - t.first_panel);
  return t;
}

// Sums of rows [range) of W for values [k, k + n) of k; `a` holds those rows' values, `c` is their first row of sums.
void MultiplySlice(const Tiles& tiles, const LinearInput& in, const Weight& w, const PackedTask& t, Range range,
                   const std::byte* a, int64_t lda, const void* a_next, int64_t k, int64_t n, float* c) {
  const bool scaled = w.dtype == DType::kF8E4M3;
  const int64_t rows = range.end - range.begin, step = scaled ? kFp8Block : n, size = in.bf16 ? 2 : 4;
  for (int64_t p = 0; p < t.panels;) {
    // Four panels are better cut in two and two than in three and one.
    const int64_t group = t.panels - p == kGroupPanels + 1 ? 2 : std::min(kGroupPanels, t.panels - p);
    const int64_t panel = t.first_panel + p;
    for (int64_t begin = 0; begin < n; begin += step) {
      const int64_t at = k + begin;
      if (scaled && p == 0) PrefetchCodes(w, range.end, rows, at);
      const float* lane_scale = in.scales ? in.scales + at / kFp8Block * in.ld_scales + panel * kLanes : nullptr;
      Multiply(tiles, in, c + p * kLanes, a + begin * size, lda, rows, at, std::min(step, n - begin), panel, group,
               scaled ? w.ScaleAt(range.begin, at) : 1.0f, lane_scale, p == 0 ? a_next : nullptr);
    }
    p += group;
  }
}

// Asks for the lines of y that a task will write, so that its stores do not wait for the memory; not for those that
// are written around the caches.
void PrefetchOutput(const LinearJob& job, const PackedTask& t) {
  if (job.ldy >= kFarRows) return;
  constexpr int64_t kLine = 64;
  const int64_t size = SizeOf(job.y_dtype), bytes = (t.range.end - t.range.begin) * size;
  const int64_t first = t.first_panel * kLanes, end = std::min(first + t.panels * kLanes, job.m);
  for (int64_t row = first; row < end; ++row) {
    const std::byte* y = static_cast<const std::byte*>(job.y) + (row * job.ldy + t.range.begin) * size;
    for (int64_t b = 0; b < bytes; b += kLine) __builtin_prefetch(y + b, /*write=*/1, /*locality=*/2);
  }
}

// Finished sums, C^T, to the rows of y.
void StoreTurned(const Tiles& tiles, const LinearJob& job, const PackedTask& t, const float* sums, float* turned) {
  const int64_t rows = t.range.end - t.range.begin;
  for (int64_t p = 0; p < t.panels; ++p) {
    const int64_t token = (t.first_panel + p) * kLanes, tokens = std::min(kLanes, job.m - token);
    const float* c = sums + p * kLanes;
    if (job.y_dtype == DType::kF32 && !job.accumulate) {
      tiles.transpose32(static_cast<float*>(job.y) + token * job.ldy + t.range.begin, job.ldy, c, kSumsLd, rows,
                        tokens);
      continue;
    }
    tiles.transpose32(turned, kBlockRows, c, kSumsLd, rows, tokens);
    for (int64_t i = 0; i < tokens; ++i) {
      StoreRow(tiles, job, token + i, t.range.begin, turned + i * kBlockRows, rows);
    }
  }
}

// `next`: as RunDot's.
void RunPacked(const Tiles& tiles, const LinearInput& in, const Plan& plan, int64_t task, const void* next,
               std::byte* scratch) {
  const Weight& w = plan.job->w;
  const PackedTask t = TaskOf(in, plan, task);
  float* sums = reinterpret_cast<float*>(scratch);  // (rows, kSumsLd)
  float* turned = reinterpret_cast<float*>(scratch + kSumsBytes);
  std::byte* widened = scratch + kSumsBytes + kTurnedBytes;
  const bool in_place = InPlace(in, w);
  const int64_t depth = Depth(in), size = in.bf16 ? 2 : 4;
  const int64_t slice = in_place ? kBlockRows : t.panels <= kGroupPanels + 1 ? kShortSlice : kLongSlice;
  for (int64_t k = 0; k < in.k; k += depth) {
    const int64_t n = std::min(depth, in.k - k);
    if (k + n == in.k) PrefetchOutput(*plan.job, t);
    for (int64_t row = t.range.begin; row < t.range.end; row += slice) {
      const Range part{row, std::min(row + slice, t.range.end)};
      if (!in_place) WidenBlock(tiles, in, w, part, k, n, widened, depth);
      const void* a_next = !in_place ? nullptr : next && k + n == in.k ? next : w.RowData(row) + (k + n) % in.k * size;
      MultiplySlice(tiles, in, w, t, part, in_place ? w.RowData(row) + k * size : widened, in_place ? w.cols : depth,
                    a_next, k, n, sums + (row - t.range.begin) * kSumsLd);
    }
  }
  StoreTurned(tiles, *plan.job, t, sums, turned);
}

void ConvertInputs(const Tiles& tiles, Context& ctx, std::span<const LinearInput> inputs, int64_t tasks, int64_t values,
                   std::byte* scratch) {
  const auto convert = [&](int64_t task, int thread) {
    const auto after = std::upper_bound(inputs.begin(), inputs.end(), task,
                                        [](int64_t t, const LinearInput& in) { return t < in.first_task; });
    const LinearInput& in = *(after - 1);
    ConvertInput(tiles, in, task - in.first_task, scratch + thread * kTaskScratch);
  };
  if (values >= kSerialValues) {
    ctx.pool.ParallelFor(tasks, convert);
  } else {
    for (int64_t t = 0; t < tasks; ++t) convert(t, 0);
  }
}

}  // namespace

int64_t CompactTo(const Tiles& tiles, int64_t cols, bool fixed_form) {
  if (!tiles.dot_compact || (fixed_form && !tiles.stream_bf16)) return 0;
  if (!tiles.quads_bf16) return kDotRows;
  return cols <= kCompactAnyDepth ? std::numeric_limits<int64_t>::max() : kCompactRowsDeep;
}

void LinearWith(const Tiles& tiles, Context& ctx, Arena& scratch, const LinearArgs& args) {
  RunBlocks(tiles, ctx, scratch, {static_cast<int64_t>(args.jobs.size()), BlocksJob, &args});
  const ArenaScope scope(scratch);
  const int64_t jobs = static_cast<int64_t>(args.jobs.size());
  // The plans themselves live in the arena; while memory is planned it has no storage, and one of each does.
  Plan* plans = scratch.Take<Plan>(jobs);
  LinearInput* inputs = scratch.Take<LinearInput>(jobs);
  const bool planning = scratch.planning();
  Plan planned;
  LinearInput planned_input;

  const LinearJob* asked = nullptr;      // whose SharedRows are these
  int64_t shared_rows = 0, shared = -1;  // and their input
  int64_t plan_count = 0, input_count = 0, tasks = 0, conversions = 0, values = 0;
  for (const LinearJob& job : args.jobs) {
    CheckJob(job);
    if (job.m == 0 || job.w.rows == 0) continue;
    // A plan has to do for rows dealt out to jobs otherwise: then each may be of this form.
    if (!planning && IsBlocks(tiles, args, job)) continue;
    LinearInput in = InputOf(tiles, args, job);
    const CompactMatrix* compact = CompactOf(tiles, args, job, in.bf16);
    int64_t same = -1;
    if (compact && job.x_rows && !planning) {
      if (!asked || asked->x != job.x || asked->ldx != job.ldx || asked->w.cols != job.w.cols) {
        asked = &job;
        shared_rows = SharedRows(args, job);
      }
      if (shared_rows > 0) {
        in.x_rows = nullptr;
        in.m = shared_rows;
        if (shared >= 0 && in.SameAs(inputs[shared])) same = shared;
      }
    }
    // Otherwise jobs that share an input stand together; looking back two is enough.
    for (int64_t i = input_count - 1; same < 0 && !planning && i >= 0 && i >= input_count - 2; --i) {
      if (in.SameAs(inputs[i])) same = i;
    }
    if (same < 0) {
      TakeInput(&in, scratch);
      in.first_task = conversions;
      conversions += in.tasks();
      if (in.tasks() > 0) values += in.m * in.k;
      same = input_count++;
      *(planning ? &planned_input : new (inputs + same) LinearInput) = in;
    }
    if (job.x_rows && !in.x_rows) shared = same;
    Plan& plan = planning ? planned : *new (plans + plan_count++) Plan;
    plan.job = &job;
    plan.input = same;
    plan.compact = compact;
    Cut(in, CeilDiv(kTasksPerThread * ctx.pool.size(), jobs), &plan);
    plan.first_task = tasks;
    tasks += plan.n_blocks * plan.m_blocks;
  }
  std::byte* thread_scratch = scratch.Take<std::byte>(kTaskScratch * ctx.pool.size());
  if (planning || tasks == 0) return;

  const std::span<Plan> all(plans, static_cast<size_t>(plan_count));
  const bool differ = std::any_of(all.begin(), all.end(), [&](const Plan& p) { return p.job->m != all[0].job->m; });
  if (differ) OrderByRows(all);
  ConvertInputs(tiles, ctx, {inputs, static_cast<size_t>(input_count)}, conversions, values, thread_scratch);
  Dealer dealer(tasks, ctx.pool.size(), differ);
  ctx.pool.ParallelFor(tasks, [&](int64_t dealt, int thread) {
    const Dealer::Dealt mine = dealer.Deal(dealt, thread);
    const Plan& plan = PlanOf(all, mine.task);
    const LinearInput& in = inputs[plan.input];
    const void* next = WeightOf(all, mine.next, tasks);
    std::byte* space = thread_scratch + thread * kTaskScratch;
    if (IsDot(in)) {
      RunDot(tiles, in, plan, args.fixed_form, mine.task - plan.first_task, next, space);
    } else {
      RunPacked(tiles, in, plan, mine.task - plan.first_task, next, space);
    }
  });
}

}  // namespace fathom::kernels
