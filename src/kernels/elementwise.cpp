// Row operations: choice of an implementation, rows dealt out to the threads. Rows are independent, so results do not
// depend on how they are dealt.
#include <algorithm>
#include <atomic>

#include "kernels/ops.h"
#include "kernels/reference/elementwise.h"
#include "kernels/registry.h"
#include "kernels/simd/elementwise.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kValuesPerTask = 1 << 14;

template <class Args>
using RowsEntry = Entry<void (*)(const Args&, int64_t begin, int64_t end), Args>;

constexpr RowsEntry<RmsNormArgs> kRmsNorm[] = {FATHOM_SIMD_ENTRIES(RmsNorm),
                                               {"reference", Isa::kReference, reference::RmsNorm}};
constexpr RowsEntry<RopeArgs> kRope[] = {FATHOM_SIMD_ENTRIES(Rope), {"reference", Isa::kReference, reference::Rope}};
constexpr RowsEntry<SwigluArgs> kSwiglu[] = {FATHOM_SIMD_ENTRIES(Swiglu),
                                             {"reference", Isa::kReference, reference::Swiglu}};
constexpr RowsEntry<CombineArgs> kCombine[] = {FATHOM_SIMD_ENTRIES(Combine),
                                               {"reference", Isa::kReference, reference::Combine}};
constexpr RowsEntry<EmbedArgs> kEmbed[] = {FATHOM_SIMD_ENTRIES(Embed),
                                           {"reference", Isa::kReference, reference::Embed}};
constexpr RowsEntry<CacheWriteArgs> kCacheWrite[] = {FATHOM_SIMD_ENTRIES(CacheWrite),
                                                     {"reference", Isa::kReference, reference::CacheWrite}};
constexpr RowsEntry<CacheReadArgs> kCacheRead[] = {FATHOM_SIMD_ENTRIES(CacheRead),
                                                   {"reference", Isa::kReference, reference::CacheRead}};
// One row of n values a call.
struct FirstNonFiniteArgs {
  const float* x = nullptr;
  int64_t n = 0;
};
using FirstNonFiniteEntry = Entry<int64_t (*)(const float* x, int64_t n), FirstNonFiniteArgs>;
constexpr FirstNonFiniteEntry kFirstNonFinite[] = {FATHOM_SIMD_ENTRIES(FirstNonFinite),
                                                   {"reference", Isa::kReference, reference::FirstNonFinite}};

// values: elements that a row costs.
template <class Args, size_t n>
void RunRows(Context& ctx, std::string_view op, const RowsEntry<Args> (&table)[n], const Args& args, int64_t rows,
             int64_t values) {
  FATHOM_CHECK(rows >= 0 && values >= 0);
  const auto fn = Choose(ctx, op, std::span<const RowsEntry<Args>>(table), args).fn;
  const int64_t grain = std::max<int64_t>(kValuesPerTask / std::max<int64_t>(values, 1), 1);
  ctx.pool.ParallelFor((rows + grain - 1) / grain,
                       [&](int64_t task, int) { fn(args, task * grain, std::min(rows, (task + 1) * grain)); });
}

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

}  // namespace

void RmsNorm(Context& ctx, const RmsNormArgs& args) {
  FATHOM_CHECK(IsFloat(args.weight_dtype) && args.n > 0);
  RunRows(ctx, "RmsNorm", kRmsNorm, args, args.rows, args.n);
}

void Rope(Context& ctx, const RopeArgs& args) {
  FATHOM_CHECK(args.dim % 2 == 0);
  RunRows(ctx, "Rope", kRope, args, args.rows, args.heads * args.dim);
}

void Swiglu(Context& ctx, const SwigluArgs& args) { RunRows(ctx, "Swiglu", kSwiglu, args, args.rows, args.n); }

void Combine(Context& ctx, const CombineArgs& args) {
  RunRows(ctx, "Combine", kCombine, args, args.tokens, args.n * (args.top_k + 1));
}

void Embed(Context& ctx, const EmbedArgs& args) {
  FATHOM_CHECK(IsFloat(args.table_dtype));
  RunRows(ctx, "Embed", kEmbed, args, args.rows, args.n);
}

void CacheWrite(Context& ctx, std::span<const CacheWriteArgs> writes) {
  for (const CacheWriteArgs& w : writes) FATHOM_CHECK(w.cache.Valid());
  if (writes.size() == 1) {
    RunRows(ctx, "CacheWrite", kCacheWrite, writes[0], writes[0].rows, writes[0].cache.width);
    return;
  }
  // Many sequences of a few rows each: a sequence a task.
  ctx.pool.ParallelFor(static_cast<int64_t>(writes.size()), [&](int64_t task, int) {
    const CacheWriteArgs& w = writes[static_cast<size_t>(task)];
    Choose(ctx, "CacheWrite", std::span<const RowsEntry<CacheWriteArgs>>(kCacheWrite), w).fn(w, 0, w.rows);
  });
}

void CacheRead(Context& ctx, const CacheReadArgs& args) {
  FATHOM_CHECK(args.cache.Valid() && args.column >= 0 && args.column + args.n <= args.cache.width);
  RunRows(ctx, "CacheRead", kCacheRead, args, args.rows, args.n);
}

int64_t FirstNonFinite(Context& ctx, const float* x, int64_t n) {
  const auto fn = Choose(ctx, "FirstNonFinite", std::span<const FirstNonFiniteEntry>(kFirstNonFinite), {x, n}).fn;
  const int64_t tasks = (n + kValuesPerTask - 1) / kValuesPerTask;
  std::atomic<int64_t> first{n};
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int) {
    const int64_t begin = task * kValuesPerTask;
    if (begin >= first.load(std::memory_order_relaxed)) return;
    const int64_t at = fn(x + begin, std::min(kValuesPerTask, n - begin));
    if (at < 0) return;
    int64_t seen = first.load(std::memory_order_relaxed);
    while (begin + at < seen && !first.compare_exchange_weak(seen, begin + at, std::memory_order_relaxed)) {
    }
  });
  return first < n ? first.load() : -1;
}

void AppendElementwiseOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "RmsNorm", kRmsNorm);
  AppendTable(ops, "Rope", kRope);
  AppendTable(ops, "Swiglu", kSwiglu);
  AppendTable(ops, "Combine", kCombine);
  AppendTable(ops, "Embed", kEmbed);
  AppendTable(ops, "CacheWrite", kCacheWrite);
  AppendTable(ops, "CacheRead", kCacheRead);
  AppendTable(ops, "FirstNonFinite", kFirstNonFinite);
}

}  // namespace fathom::kernels
