#include "kernels/linear_blocks.h"

#include <algorithm>
#include <cstring>

namespace fathom::kernels {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kDepthBytes = 1 << 10;  // of a row of A that are multiplied at a time
constexpr int64_t kBlockRows = 512;       // of C in a task, at most; with their A they fill half of the second cache
constexpr int64_t kLeastRows = 128;       // where tasks are few
constexpr int64_t kLeastColumns = 96;
constexpr int64_t kGroupPanels = 12;  // of B that are packed at a time, half of it beside many rows
constexpr int64_t kManyRows = 256;
constexpr int64_t kStrip = 64;      // values of k that are turned at a time
constexpr int64_t kPackRows = 128;  // of A in a packing task
constexpr int64_t kTasksPerThread = 8;
constexpr int64_t kMaxPackedBytes = 1 << 26;  // of A in the arena; more is packed by every task for itself
constexpr int64_t kFetchAhead = 8;            // rows: gathered ones begin anywhere

// Rows and panels lie a cache line more apart than they are long: a power of two would put them all into one set of
// the cache.
struct alignas(64) Workspace {
  std::byte a[kBlockRows * (kDepthBytes + kLine)];
  std::byte b[kGroupPanels * (kDepthBytes * kLanes + kLine)];
  std::byte strip[kStrip * kBlockRows * sizeof(float)];
  float sums[kBlockRows * kGroupPanels * kLanes];
};

int64_t ElementSize(const BlockJob& job) { return job.bf16 ? 2 : 4; }
int64_t Depth(const BlockJob& job) { return kDepthBytes / ElementSize(job); }

// Packed A: rows or panels of `k` values, ld elements apart.
struct PackedA {
  std::byte* data;
  int64_t ld;
  bool panels;
  int64_t size;  // of an element

  // Value k of a row, which for panels is a multiple of 16.
  std::byte* At(int64_t row, int64_t k) const {
    return data + (panels ? row / kLanes * ld + k * kLanes : row * ld + k) * size;
  }
};

bool InPanels(const Tiles& tiles, const BlockJob& job) { return job.bf16 && job.a_turned && tiles.a_panels; }

int64_t PackedLd(const BlockJob& job, bool panels, int64_t k) {
  const int64_t line = kLine / ElementSize(job);
  return RoundUp(panels ? k * kLanes : k, line) + line;
}
int64_t PackedBytes(const Tiles& tiles, const BlockJob& job) {
  const bool panels = InPanels(tiles, job);
  return (panels ? CeilDiv(job.m, kLanes) : job.m) * PackedLd(job, panels, job.k) * ElementSize(job);
}

// f(term, begin, end, at) for the values [begin, end) of each term that lie in [k, k_end); they begin at k + at.
template <class F>
void ForTerms(const BlockJob& job, int64_t k, int64_t k_end, const F& f) {
  int64_t first = 0;
  for (int64_t i = 0; i < job.terms && first < k_end; ++i) {
    const BlockTerm term = job.term(job.source, i);
    const int64_t begin = std::max<int64_t>(k - first, 0), end = std::min(k_end - first, term.k);
    if (begin < end) f(term, begin, end, first + begin - k);
    first += PaddedK(term.k, job.bf16);
  }
}

// n values of an operand's row as float32, rounded if the term says so.
void FloatRow(const Tiles& tiles, float* out, const std::byte* from, DType dtype, bool round, int64_t n) {
  if (dtype == DType::kBF16) {
    tiles.widen_bf16(out, from, n);
  } else if (round) {
    tiles.round_f32(out, reinterpret_cast<const float*>(from), n);
  } else {
    std::memcpy(out, from, static_cast<size_t>(n) * sizeof(float));
  }
}

void FetchRow(const BlockOperand& x, int64_t i, int64_t end, int64_t column, int64_t n) {
  if (i >= end) return;
  const std::byte* p = x.At(i, column);
  for (int64_t b = 0; b < n * SizeOf(x.dtype); b += kLine) __builtin_prefetch(p + b);
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
                int64_t rows, const PackedA& to, int64_t to_row, int64_t to_k, std::byte* strip) {
  for (int64_t i = begin; i < end; i += kStrip) {
    const int64_t n = std::min(kStrip, end - i), at = to_k + i - begin;
    if (!job.bf16) {
      float* values = reinterpret_cast<float*>(strip);
      for (int64_t j = 0; j < n; ++j) {
        FloatRow(tiles, values + j * rows, term.a.At(i + j, row), term.a.dtype, term.round, rows);
      }
      tiles.transpose32(to.At(to_row, at), to.ld, values, rows, n, rows);
      continue;
    }
    uint16_t* panels = reinterpret_cast<uint16_t*>(to.panels ? to.At(to_row, at) : strip);
    const int64_t ld = to.panels ? to.ld : kStrip * kLanes;
    for (int64_t j = 0; j < n; j += 2) {
      PairFloats(tiles, panels + j * kLanes, ld, term.a, i + j, end, row, rows);
    }
    for (int64_t r = 0; !to.panels && r < rows; r += kLanes) {
      tiles.transpose32(to.At(to_row + r, at), to.ld / 2, panels + r / kLanes * ld, kLanes, CeilDiv(n, 2),
                        std::min(kLanes, rows - r));
    }
  }
}

// Rows [row, row + rows), values [k, k_end) of A to row `to_row`, value `to_k` of `to`.
void PackA(const Tiles& tiles, const BlockJob& job, int64_t row, int64_t rows, int64_t k, int64_t k_end,
           const PackedA& to, int64_t to_row, int64_t to_k, std::byte* strip) {
  ForTerms(job, k, k_end, [&](const BlockTerm& term, int64_t begin, int64_t end, int64_t at) {
    if (job.a_turned) return PackTurned(tiles, job, term, begin, end, row, rows, to, to_row, to_k + at, strip);
    const int64_t n = end - begin;
    for (int64_t r = 0; r < rows; ++r) {
      const std::byte* from = term.a.At(row + r, begin);
      std::byte* out = to.At(to_row + r, to_k + at);
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

struct PackedB {
  std::byte* data;
  int64_t ld;
};

void PackRowsF32(const Tiles& tiles, const BlockTerm& term, int64_t begin, int64_t end, int64_t column, int64_t n,
                 float* out, int64_t ld) {
  float row[kGroupPanels * kLanes];
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

void Multiply(const Tiles& tiles, const BlockJob& job, float* c, int64_t ldc, const PackedA& a, int64_t row, int64_t k,
              int64_t rows, int64_t n, const PackedB& b, int64_t panel, int64_t panels, bool accumulate) {
  const std::byte* from = b.data + panel * b.ld * ElementSize(job);
  if (job.bf16) {
    tiles.mul_bf16({c, ldc, reinterpret_cast<const uint16_t*>(a.At(row, k)), a.ld,
                    reinterpret_cast<const uint16_t*>(from), b.ld, rows, n / 2, panels, 1.0f, nullptr, accumulate,
                    false, a.panels});
  } else {
    tiles.mul_f32({c, ldc, reinterpret_cast<const float*>(a.At(row, k)), a.ld, reinterpret_cast<const float*>(from),
                   b.ld, rows, n, panels, 1.0f, nullptr, accumulate});
  }
}

struct Ranges {
  int64_t row, rows, column, columns;
};

// C of some rows and a group of columns (+)= A B for n values of k. A's row and value stand at (a_row, a_k).
void MultiplyGroup(const Tiles& tiles, const BlockJob& job, const Ranges& r, const PackedA& a, int64_t a_row,
                   int64_t a_k, int64_t n, const PackedB& b, bool first, Workspace* space) {
  if (job.c_dtype == DType::kBF16) {
    Multiply(tiles, job, space->sums, kGroupPanels * kLanes, a, a_row, a_k, r.rows, n, b, 0, CeilDiv(r.columns, kLanes),
             !first);
    return;
  }
  const bool accumulate = job.accumulate || !first;
  const int64_t panels = r.columns / kLanes, rest = r.columns % kLanes;
  float* c = static_cast<float*>(job.c) + r.row * job.ldc + r.column;
  if (panels > 0) Multiply(tiles, job, c, job.ldc, a, a_row, a_k, r.rows, n, b, 0, panels, accumulate);
  if (rest == 0) return;
  Multiply(tiles, job, space->sums, kLanes, a, a_row, a_k, r.rows, n, b, panels, 1, false);
  for (int64_t i = 0; i < r.rows; ++i) {
    float* to = c + i * job.ldc + panels * kLanes;
    const float* sum = space->sums + i * kLanes;
    for (int64_t j = 0; j < rest; ++j) to[j] = accumulate ? to[j] + sum[j] : sum[j];
  }
}

void StoreRounded(const Tiles& tiles, const BlockJob& job, const Ranges& r, const float* sums) {
  for (int64_t i = 0; i < r.rows; ++i) {
    tiles.round_bf16(static_cast<uint16_t*>(job.c) + (r.row + i) * job.ldc + r.column, sums + i * kGroupPanels * kLanes,
                     r.columns);
  }
}

void ZeroRows(const BlockJob& job, const Ranges& r) {
  const int64_t size = SizeOf(job.c_dtype);
  for (int64_t i = 0; i < r.rows && !job.accumulate; ++i) {
    std::memset(static_cast<std::byte*>(job.c) + ((r.row + i) * job.ldc + r.column) * size, 0,
                static_cast<size_t>(r.columns * size));
  }
}

}  // namespace

BlockCut CutBlocks(int64_t m, int64_t n, int64_t tasks) {
  constexpr int64_t kRowStep = 32, kColumnStep = 3 * kLanes;  // of the products' blocks
  BlockCut cut;
  const int64_t m_blocks = CeilDiv(m, kBlockRows), n_blocks = std::min(CeilDiv(tasks, m_blocks), n / kLeastColumns);
  cut.columns = n_blocks > 1 ? RoundUp(CeilDiv(n, n_blocks), kColumnStep) : n;
  cut.n_blocks = CeilDiv(n, cut.columns);
  cut.rows = RoundUp(CeilDiv(m, m_blocks), kRowStep);
  if (m_blocks * cut.n_blocks < tasks) {
    const int64_t wanted = RoundUp(CeilDiv(m, CeilDiv(tasks, cut.n_blocks)), kRowStep);
    cut.rows = std::min(cut.rows, std::max(kLeastRows, wanted));
  }
  cut.m_blocks = CeilDiv(m, cut.rows);
  return cut;
}

int64_t BlockScratch() { return static_cast<int64_t>(sizeof(Workspace)); }

void RunBlock(const Tiles& tiles, const BlockJob& job, const BlockCut& cut, int64_t task, std::byte* scratch) {
  Workspace* space = reinterpret_cast<Workspace*>(scratch);
  const int64_t row = task / cut.n_blocks * cut.rows, rows = std::min(cut.rows, job.m - row);
  const int64_t column = task % cut.n_blocks * cut.columns, columns = std::min(cut.columns, job.n - column);
  if (job.k == 0) return ZeroRows(job, {row, rows, column, columns});
  const bool panels = InPanels(tiles, job), packed = job.a != nullptr;
  const int64_t depth = Depth(job), group = (rows > kManyRows ? kGroupPanels / 2 : kGroupPanels) * kLanes;
  const PackedA a = packed ? PackedA{static_cast<std::byte*>(job.a), job.lda, panels, ElementSize(job)}
                           : PackedA{space->a, PackedLd(job, panels, depth), panels, ElementSize(job)};
  const PackedB b{space->b, PackedLd(job, true, depth)};
  const auto multiply = [&](int64_t c, int64_t k) {
    const Ranges part{row, rows, c, std::min(group, column + columns - c)};
    const int64_t n = std::min(depth, job.k - k);
    PackB(tiles, job, k, k + n, c, part.columns, b, space->strip);
    MultiplyGroup(tiles, job, part, a, packed ? row : 0, packed ? k : 0, n, b, k == 0, space);
    if (job.c_dtype == DType::kBF16 && k + n == job.k) StoreRounded(tiles, job, part, space->sums);
  };
  if (packed) {
    for (int64_t c = column; c < column + columns; c += group) {
      for (int64_t k = 0; k < job.k; k += depth) multiply(c, k);
    }
    return;
  }
  FATHOM_CHECK(job.c_dtype == DType::kF32);
  for (int64_t k = 0; k < job.k; k += depth) {
    PackA(tiles, job, row, rows, k, std::min(k + depth, job.k), a, 0, 0, space->strip);
    for (int64_t c = column; c < column + columns; c += group) multiply(c, k);
  }
}

void RunBlocks(const Tiles& tiles, Context& ctx, Arena& scratch, const BlockCall& call) {
  struct Plan {
    BlockJob job;
    BlockCut cut;
    int64_t first_task, first_packing;
  };
  const ArenaScope scope(scratch);
  Plan* plans = scratch.Take<Plan>(call.jobs);
  const int64_t threads = ctx.pool.size();
  std::byte* thread_scratch = scratch.Take<std::byte>(BlockScratch() * threads);
  int64_t count = 0, tasks = 0, bytes = 0;
  for (int64_t i = 0; i < call.jobs; ++i) {
    const BlockJob job = call.job(tiles, call.source, i);
    if (job.m == 0 || job.n == 0 || (job.k == 0 && job.accumulate)) continue;
    bytes += PackedBytes(tiles, job);
    const BlockCut cut = CutBlocks(job.m, job.n, 1);
    if (!scratch.planning()) new (plans + count++) Plan{job, cut, tasks, 0};
    tasks += cut.tasks();
  }
  // With rows dealt out to jobs otherwise than planned, their bytes come to no more than was planned.
  std::byte* packed = scratch.Take<std::byte>(std::min(bytes, kMaxPackedBytes));
  if (scratch.planning() || count == 0) return;

  if (tasks < kTasksPerThread * threads) {
    const int64_t wanted = CeilDiv(kTasksPerThread * threads, count);
    int64_t packings = 0;
    tasks = 0;
    for (Plan* plan = plans; plan < plans + count; ++plan) {
      BlockJob& job = plan->job;
      plan->cut = CutBlocks(job.m, job.n, wanted);
      plan->first_task = tasks;
      tasks += plan->cut.tasks();
      plan->first_packing = packings;
      if (bytes > kMaxPackedBytes || job.k == 0) continue;
      job.a = packed;
      job.lda = PackedLd(job, InPanels(tiles, job), job.k);
      packed += PackedBytes(tiles, job);
      packings += CeilDiv(job.m, kPackRows) * CeilDiv(job.k, Depth(job));
    }
    ctx.pool.ParallelFor(packings, [&](int64_t task, int thread) {
      const Plan* after = std::upper_bound(plans, plans + count, task,
                                           [](int64_t t, const Plan& plan) { return t < plan.first_packing; });
      const BlockJob& job = (after - 1)->job;
      const int64_t depth = Depth(job), depths = CeilDiv(job.k, depth), at = task - (after - 1)->first_packing;
      const int64_t row = at / depths * kPackRows, k = at % depths * depth;
      const PackedA to{static_cast<std::byte*>(job.a), job.lda, InPanels(tiles, job), ElementSize(job)};
      Workspace* space = reinterpret_cast<Workspace*>(thread_scratch + thread * BlockScratch());
      PackA(tiles, job, row, std::min(kPackRows, job.m - row), k, std::min(k + depth, job.k), to, row, k, space->strip);
    });
  }
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    const Plan* after =
        std::upper_bound(plans, plans + count, task, [](int64_t t, const Plan& plan) { return t < plan.first_task; });
    const Plan& plan = *(after - 1);
    RunBlock(tiles, plan.job, plan.cut, task - plan.first_task, thread_scratch + thread * BlockScratch());
  });
}

}  // namespace fathom::kernels
