#include "kernels/linear_blocks.h"

#include <algorithm>
#include <cstring>

#include "kernels/linear_packing.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTasksPerThread = 2;
constexpr int64_t kFetchAhead = 8;  // rows: gathered ones begin anywhere

// Rows and panels lie a cache line more apart than they are long: a power of two would put them all into one set of
// the cache.
struct alignas(64) Workspace {
  std::byte a[kBlockRows * (kDepthBytes + kLine)];
  std::byte b[std::max(kGroupPanels * (kDepthBytes * kLanes + kLine),
                       kTurnedGroupPanels*(kTurnedDepthBytes* kLanes + kLine))];
  std::byte strip[kStrip * kBlockRows * sizeof(float)];
  float sums[kBlockRows * kGroupPanels * kLanes];  // of C in bf16, or of the columns behind the last whole panel
};

void FetchRow(const BlockOperand& x, int64_t i, int64_t end, int64_t column, int64_t n) {
  if (i >= end) return;
  const std::byte* p = x.At(i, column);
  // Without the statement GCC takes this for a function without effects, and leaves calls of it out.
  asm volatile("" : : "r"(p));
  for (int64_t b = 0; b < n * x.size(); b += kLine) __builtin_prefetch(p + b);
}

// Rows i and i + 1 (before `end`) of a float32 operand as a row of pairs of panels.
void PairFloats(const Tiles& tiles, uint16_t* out, int64_t ld, const BlockOperand& x, int64_t i, int64_t end,
                int64_t column, int64_t n) {
  FetchRow(x, i + kFetchAhead, end, column, n);
  FetchRow(x, i + kFetchAhead + 1, end, column, n);
  const float* even = reinterpret_cast<const float*>(x.At(i, column));
  const float* odd = i + 1 < end ? reinterpret_cast<const float*>(x.At(i + 1, column)) : nullptr;
  tiles.pair_rounded(out, ld, even, odd, n);
}

// ---- A ----

void PackTurned(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, int64_t begin, int64_t end, int64_t row,
                int64_t rows, const PackedA& to, int64_t to_k, std::byte* strip) {
  for (int64_t i = begin; i < end; i += kStrip) {
    const int64_t n = std::min(kStrip, end - i), at = to_k + i - begin;
    if (!job.bf16) {
      float* values = reinterpret_cast<float*>(strip);
      for (int64_t j = 0; j < n; ++j) {
        FloatRow(tiles, values + j * rows, term.a.At(i + j, row), term.a.dtype, term.round, rows);
      }
      tiles.transpose32(to.At(0, at), to.ld, values, rows, n, rows);
      continue;
    }
    uint16_t* panels = reinterpret_cast<uint16_t*>(to.panels ? to.At(0, at) : strip);
    const int64_t ld = to.panels ? to.ld : kStrip * kLanes;
    for (int64_t j = 0; j < n; j += 2) {
      PairFloats(tiles, panels + j * kLanes, ld, term.a, i + j, end, row, rows);
    }
    for (int64_t r = 0; !to.panels && r < rows; r += kLanes) {
      tiles.transpose32(to.At(r, at), to.ld / 2, panels + r / kLanes * ld, kLanes, CeilDiv(n, 2),
                        std::min(kLanes, rows - r));
    }
  }
}

// Rows [row, row + rows), values [k, k_end) of A.
void PackA(const Tiles& tiles, const BlockJob& job, int64_t row, int64_t rows, int64_t k, int64_t k_end,
           const PackedA& to, std::byte* strip) {
  ForTerms(job, k, k_end, [&](const BlockTerm& term, int64_t begin, int64_t end, int64_t at) {
    if (job.a_turned) return PackTurned(tiles, job, term, begin, end, row, rows, to, at, strip);
    const int64_t n = end - begin;
    for (int64_t r = 0; r < rows; ++r) {
      const std::byte* from = term.a.At(row + r, begin);
      std::byte* out = to.At(r, at);
      if (!job.bf16) {
        FloatRow(tiles, reinterpret_cast<float*>(out), from, term.a.dtype, term.round, n);
        continue;
      }
      FetchRow(term.a, row + r + kFetchAhead, row + rows, begin, n);
      uint16_t* halves = reinterpret_cast<uint16_t*>(out);
      tiles.round_bf16(halves, reinterpret_cast<const float*>(from), n);
      if (n % 2 != 0) halves[n] = 0;
    }
  });
}

// ---- B ----

void PackRowsF32(const Tiles& tiles, const BlockTerm& term, int64_t begin, int64_t end, int64_t column, int64_t n,
                 float* out, int64_t ld) {
  float row[kTurnedGroupPanels * kLanes];
  std::fill(row + n, row + RoundUp(n, kLanes), 0.0f);
  for (int64_t i = begin; i < end; ++i, out += kLanes) {
    FloatRow(tiles, row, term.b.At(i, column), term.b.dtype, term.round, n);
    for (int64_t p = 0; p * kLanes < n; ++p) std::memcpy(out + p * ld, row + p * kLanes, kLanes * sizeof(float));
  }
}

// Lanes are rows of b.
void PackTurnedB(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, int64_t begin, int64_t end,
                 int64_t column, int64_t n, std::byte* out, int64_t ld, std::byte* strip) {
  const int64_t values = end - begin, units = job.bf16 ? values / 2 : values;
  for (int64_t c = 0; c < n; c += kLanes) {
    const int64_t lanes = std::min(kLanes, n - c);
    uint32_t* panel = reinterpret_cast<uint32_t*>(out + c / kLanes * ld * ElementSize(job));
    if (lanes < kLanes) std::memset(panel, 0, static_cast<size_t>(units * kLanes) * sizeof(uint32_t));
    if (job.bf16) {
      tiles.transpose32(panel, kLanes, term.b.At(column + c, begin), term.b.ld / 2, lanes, units);
      continue;
    }
    float* rows = reinterpret_cast<float*>(strip);
    for (int64_t r = 0; r < lanes; ++r) {
      FloatRow(tiles, rows + r * values, term.b.At(column + c + r, begin), term.b.dtype, term.round, values);
    }
    tiles.transpose32(panel, kLanes, rows, values, lanes, units);
  }
}

// Values [k, k_end) of columns [column, column + n) of B as panels.
void PackB(const Tiles& tiles, const BlockJob& job, int64_t k, int64_t k_end, int64_t column, int64_t n,
           const PackedB& to, std::byte* strip) {
  ForTerms(job, k, k_end, [&](const BlockTerm& term, int64_t begin, int64_t end, int64_t at) {
    std::byte* out = to.data + at * kLanes * ElementSize(job);
    if (job.b_turned) return PackTurnedB(tiles, job, term, begin, end, column, n, out, to.ld, strip);
    if (!job.bf16) return PackRowsF32(tiles, term, begin, end, column, n, reinterpret_cast<float*>(out), to.ld);
    uint16_t* halves = reinterpret_cast<uint16_t*>(out);
    if (term.b.dtype == DType::kBF16) {
      tiles.pair_rows(halves, to.ld, reinterpret_cast<const uint16_t*>(term.b.At(begin, column)), term.b.ld,
                      end - begin, n);
      return;
    }
    for (int64_t i = begin; i < end; i += 2) {
      PairFloats(tiles, halves + (i - begin) * kLanes, to.ld, term.b, i, end, column, n);
    }
  });
}

// ---- C ----

void Multiply(const Tiles& tiles, const BlockJob& job, float* c, int64_t ldc, const PackedA& a, int64_t rows, int64_t n,
              const PackedB& b, int64_t panel, int64_t panels, bool accumulate) {
  const std::byte* from = b.data + panel * b.ld * ElementSize(job);
  if (job.bf16) {
    tiles.mul_bf16({c, ldc, reinterpret_cast<const uint16_t*>(a.data), a.ld, reinterpret_cast<const uint16_t*>(from),
                    b.ld, rows, n / 2, panels, 1.0f, nullptr, accumulate, nullptr, a.panels});
  } else {
    tiles.mul_f32({c, ldc, reinterpret_cast<const float*>(a.data), a.ld, reinterpret_cast<const float*>(from), b.ld,
                   rows, n, panels, 1.0f, nullptr, accumulate});
  }
}

void StoreRounded(const Tiles& tiles, const BlockJob& job, const Ranges& r, const float* sums) {
  for (int64_t i = 0; i < r.rows; ++i) {
    tiles.round_bf16(static_cast<uint16_t*>(job.c) + (r.row + i) * job.ldc + r.column, sums + i * kGroupPanels * kLanes,
                     r.columns);
  }
}

// C of some rows and a group of columns (+)= A B for n values of k.
void MultiplyGroup(const Tiles& tiles, const BlockJob& job, const Ranges& r, const PackedA& a, const PackedB& b,
                   int64_t n, bool first, float* sums) {
  if (job.c_dtype == DType::kBF16) {
    Multiply(tiles, job, sums, kGroupPanels * kLanes, a, r.rows, n, b, 0, CeilDiv(r.columns, kLanes), false);
    return StoreRounded(tiles, job, r, sums);
  }
  const bool accumulate = job.accumulate || !first;
  const int64_t panels = r.columns / kLanes, rest = r.columns % kLanes;
  float* c = static_cast<float*>(job.c) + r.row * job.ldc + r.column;
  if (panels > 0) Multiply(tiles, job, c, job.ldc, a, r.rows, n, b, 0, panels, accumulate);
  if (rest == 0) return;
  Multiply(tiles, job, sums, kLanes, a, r.rows, n, b, panels, 1, false);
  for (int64_t i = 0; i < r.rows; ++i) {
    float* to = c + i * job.ldc + panels * kLanes;
    const float* sum = sums + i * kLanes;
    for (int64_t j = 0; j < rest; ++j) to[j] = accumulate ? to[j] + sum[j] : sum[j];
  }
}

// Jobs with the same B, such as the gradients of gate_proj and up_proj. Scaled ones with B turned share their A.
bool SameB(const BlockJob& x, const BlockJob& y) {
  if (x.scaled && x.b_turned) return false;
  if (x.terms != 1 || y.terms != 1 || x.k != y.k || x.n != y.n || x.bf16 != y.bf16 || x.b_turned != y.b_turned ||
      x.a_turned != y.a_turned || x.scaled != y.scaled) {
    return false;
  }
  const BlockTerm s = x.term(x.source, 0), t = y.term(y.source, 0);
  return s.b.data == t.b.data && s.b.rows == t.b.rows && s.b.ld == t.b.ld && s.b.dtype == t.b.dtype &&
         s.round == t.round && s.k == t.k && s.codes == t.codes && s.ue8m0 == t.ue8m0;
}

}  // namespace

BlockCut CutBlocks(int64_t m, int64_t n, int64_t tasks, int64_t row_step, int64_t column_step) {
  const int64_t least_rows = std::max(kLeastRows, row_step), least_columns = std::max(kLeastColumns, column_step);
  BlockCut cut;
  cut.rows = RoundUp(CeilDiv(m, CeilDiv(m, kBlockRows)), row_step);
  cut.columns = n;
  const auto count = [&] { return (cut.m_blocks = CeilDiv(m, cut.rows)) * (cut.n_blocks = CeilDiv(n, cut.columns)); };
  while (count() < tasks) {
    const bool halve_rows = cut.rows >= 2 * least_rows, halve_columns = cut.columns >= 2 * least_columns;
    if (halve_columns && (!halve_rows || cut.columns >= cut.rows)) {
      cut.columns = RoundUp(CeilDiv(cut.columns, 2), column_step);
    } else if (halve_rows) {
      cut.rows = RoundUp(CeilDiv(cut.rows, 2), row_step);
    } else {
      break;
    }
  }
  return cut;
}

bool FitsBf16(int64_t k) { return k <= kDepthBytes / 2; }

int64_t BlockScratch() { return std::max(static_cast<int64_t>(sizeof(Workspace)), ScaledScratch()); }

void RunBlock(const Tiles& tiles, std::span<const BlockJob> jobs, const BlockCut& cut, int64_t task,
              std::byte* scratch) {
  if (jobs.front().scaled) return RunScaledBlock(tiles, jobs, cut, task, scratch);
  Workspace* space = reinterpret_cast<Workspace*>(scratch);
  const BlockJob& job = jobs.front();
  const int64_t column = task % cut.n_blocks * cut.columns, columns = std::min(cut.columns, job.n - column);
  const int64_t row = task / cut.n_blocks * cut.rows;
  int64_t rows = 0;
  for (const BlockJob& j : jobs) {
    const int64_t height = std::min(cut.rows, j.m - row);
    if (j.k == 0) ZeroRows(j, {row, height, column, columns});
    rows += height;
  }
  const int64_t depth = Depth(job);
  FATHOM_CHECK(job.c_dtype == DType::kF32 || (job.k <= depth && !job.accumulate && !job.a_turned));
  const int64_t group = (job.a_turned       ? kTurnedGroupPanels
                         : rows > kManyRows ? kGroupPanels / 2
                                            : kGroupPanels) *
                        kLanes;
  const bool panels = InPanels(tiles, job);
  const PackedB b{space->b, PackedLd(job, true)};
  // The jobs' rows of A lie one after the other.
  const auto each = [&](const auto& f) {
    PackedA a{space->a, PackedLd(job, panels), panels, ElementSize(job)};
    for (const BlockJob& j : jobs) {
      const int64_t height = std::min(cut.rows, j.m - row);
      f(j, height, a);
      a.data = a.At(RoundUp(height, kLanes), 0);
    }
  };
  for (int64_t k = 0; k < job.k; k += depth) {
    const int64_t n = std::min(depth, job.k - k);
    each([&](const BlockJob& j, int64_t height, const PackedA& a) {
      PackA(tiles, j, row, height, k, k + n, a, space->strip);
    });
    for (int64_t c = column; c < column + columns; c += group) {
      const int64_t width = std::min(group, column + columns - c);
      PackB(tiles, job, k, k + n, c, width, b, space->strip);
      each([&](const BlockJob& j, int64_t height, const PackedA& a) {
        MultiplyGroup(tiles, j, {row, height, c, width}, a, b, n, k == 0, space->sums);
      });
    }
  }
}

namespace {

// Jobs with the same A, such as gate_proj and up_proj.
bool SameA(const BlockJob& x, const BlockJob& y) {
  if (!x.scaled || !y.scaled || !x.b_turned || !y.b_turned || x.m != y.m || x.k != y.k || x.bf16 != y.bf16)
    return false;
  const BlockTerm s = x.term(x.source, 0), t = y.term(y.source, 0);
  return s.a.data == t.a.data && s.a.rows == t.a.rows && s.a.ld == t.a.ld && s.codes == t.codes && s.round == t.round &&
         s.ue8m0 == t.ue8m0;
}

// 128x1 tiles are made by way of 1x128 tiles, along the rows and along the columns of C.
BlockCut Cut(const BlockJob& job, int64_t tasks) {
  const bool tiles = job.scaled && job.a_turned;
  return tiles ? CutBlocks(job.m, job.n, tasks, kFp8Block, kFp8Block) : CutBlocks(job.m, job.n, tasks);
}

}  // namespace

void RunBlocks(const Tiles& tiles, Context& ctx, Arena& scratch, const BlockCall& call) {
  struct Plan {
    int64_t first_job, jobs;
    BlockCut cut;
    int64_t first_task;
  };
  const ArenaScope scope(scratch);
  BlockJob* jobs = scratch.Take<BlockJob>(call.jobs);
  Plan* plans = scratch.Take<Plan>(call.jobs);
  const int64_t threads = ctx.pool.size();
  std::byte* thread_scratch = scratch.Take<std::byte>(BlockScratch() * threads);
  if (scratch.planning()) return;
  int64_t job_count = 0, count = 0, tasks = 0;
  for (int64_t i = 0; i < call.jobs; ++i) {
    const BlockJob job = call.job(tiles, call.source, i);
    if (job.m > 0 && job.n > 0 && (job.k > 0 || !job.accumulate)) new (jobs + job_count++) BlockJob(job);
  }
  const int64_t wanted = job_count == 0 ? 0 : CeilDiv(kTasksPerThread * threads, job_count);
  for (int64_t i = 0; i < job_count;) {
    Plan* plan = new (plans + count++) Plan{i, 1, Cut(jobs[i], wanted), tasks};
    int64_t rows = RoundUp(jobs[i].m, kLanes);
    for (++i; wanted == 1 && plan->cut.tasks() == 1 && i < job_count && SameB(jobs[i - 1], jobs[i]); ++i) {
      rows += RoundUp(jobs[i].m, kLanes);
      if (rows > kBlockRows) break;
      plan->cut.rows = std::max(plan->cut.rows, jobs[i].m);
      ++plan->jobs;
    }
    while (plan->cut.n_blocks == 1 && i < job_count && SameA(jobs[i - 1], jobs[i]) &&
           Cut(jobs[i], wanted).n_blocks == 1) {
      ++plan->jobs;
      ++i;
    }
    tasks += plan->cut.tasks();
  }
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    const Plan* after =
        std::upper_bound(plans, plans + count, task, [](int64_t t, const Plan& plan) { return t < plan.first_task; });
    const Plan& plan = *(after - 1);
    RunBlock(tiles, {jobs + plan.first_job, static_cast<size_t>(plan.jobs)}, plan.cut, task - plan.first_task,
             thread_scratch + thread * BlockScratch());
  });
}

}  // namespace fathom::kernels
