// Row operations of training: choice of an implementation, rows dealt out to the threads. What is summed over rows is
// cut into chunks of a fixed size whose sums are added in order.
#include <algorithm>

#include "kernels/reference/train.h"
#include "kernels/registry.h"
#include "kernels/simd/train_rows.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kValuesPerTask = 1 << 14;
constexpr int64_t kNormChunk = 128;        // rows whose share of a norm's weight gradient is summed together
constexpr int64_t kBalanceChunk = 256;     // tokens whose shares are summed together
constexpr int64_t kEmbedColumns = 64;      // of a task
constexpr int64_t kAdamwValues = 1 << 15;  // of a task
constexpr int64_t kSquares = 1 << 16;      // of a task

template <class Args>
using RowsEntry = Entry<void (*)(const Args&, int64_t begin, int64_t end), Args>;

constexpr RowsEntry<SwigluBackwardArgs> kSwigluBackward[] = {
    FATHOM_SIMD_ENTRIES(SwigluBackward),
    {"reference", Isa::kReference, reference::SwigluBackward},
};
bool GateFits(const GateBackwardArgs& args) { return args.experts <= kMostGateExperts; }
constexpr RowsEntry<GateBackwardArgs> kGateBackward[] = {
    FATHOM_SIMD_ENTRIES_IF(GateBackward, GateFits),
    {"reference", Isa::kReference, reference::GateBackward},
};
constexpr RowsEntry<CrossEntropyArgs> kCrossEntropy[] = {
    FATHOM_SIMD_ENTRIES(CrossEntropy),
    {"reference", Isa::kReference, reference::CrossEntropy},
};
constexpr RowsEntry<EmbedBackwardArgs> kEmbedBackward[] = {
    FATHOM_SIMD_ENTRIES(EmbedBackward),
    {"reference", Isa::kReference, reference::EmbedBackward},
};
constexpr RowsEntry<AdamwArgs> kAdamw[] = {
    FATHOM_SIMD_ENTRIES(Adamw),
    {"reference", Isa::kReference, reference::Adamw},
};
using NormEntry =
    Entry<void (*)(const RmsNormBackwardArgs&, double* dw, int64_t begin, int64_t end), RmsNormBackwardArgs>;
constexpr NormEntry kRmsNormBackward[] = {
    FATHOM_SIMD_ENTRIES(RmsNormBackward),
    {"reference", Isa::kReference, reference::RmsNormBackward},
};
bool BalanceFits(const BalanceArgs& args) { return args.experts <= kMostGateExperts && args.top_k <= kMostGateChosen; }
using BalanceEntry =
    Entry<void (*)(const BalanceArgs&, double* p, int64_t* counts, int64_t begin, int64_t end), BalanceArgs>;
constexpr BalanceEntry kBalance[] = {
    FATHOM_SIMD_ENTRIES_IF(Balance, BalanceFits),
    {"reference", Isa::kReference, reference::Balance},
};
using SquaresEntry = Entry<double (*)(const float* x, int64_t n), Values>;
constexpr SquaresEntry kSumOfSquares[] = {
    FATHOM_SIMD_ENTRIES(SumOfSquares),
    {"reference", Isa::kReference, reference::SumOfSquares},
};

// values: elements that a row costs.
template <class Args, size_t n>
void RunRows(Context& ctx, std::string_view op, const RowsEntry<Args> (&table)[n], const Args& args, int64_t rows,
             int64_t values) {
  const auto fn = Choose(ctx, op, std::span<const RowsEntry<Args>>(table), args).fn;
  const int64_t grain = std::max<int64_t>(kValuesPerTask / std::max<int64_t>(values, 1), 1);
  ctx.pool.ParallelFor((rows + grain - 1) / grain,
                       [&](int64_t task, int) { fn(args, task * grain, std::min(rows, (task + 1) * grain)); });
}

}  // namespace

void RmsNormBackward(Context& ctx, Arena& scratch, const RmsNormBackwardArgs& args) {
  FATHOM_CHECK(args.weight_dtype == DType::kF32 || args.weight_dtype == DType::kF16 ||
               args.weight_dtype == DType::kBF16);
  ArenaScope scope(scratch);
  const int64_t chunks = (args.rows + kNormChunk - 1) / kNormChunk;
  double* shares = scratch.Take<double>(chunks * args.n);
  if (scratch.planning()) return;
  const auto fn = Choose(ctx, "RmsNormBackward", std::span<const NormEntry>(kRmsNormBackward), args).fn;
  ctx.pool.ParallelFor(chunks, [&](int64_t chunk, int) {
    double* share = shares + chunk * args.n;
    std::fill_n(share, args.n, 0.0);
    fn(args, share, chunk * kNormChunk, std::min(args.rows, (chunk + 1) * kNormChunk));
  });
  for (int64_t i = 0; i < args.n; ++i) {
    double sum = args.dw[i];
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += shares[chunk * args.n + i];
    args.dw[i] = static_cast<float>(sum);
  }
}

void SwigluBackward(Context& ctx, const SwigluBackwardArgs& args) {
  FATHOM_CHECK((args.weight == nullptr) == (args.dweight == nullptr));
  RunRows(ctx, "SwigluBackward", kSwigluBackward, args, args.rows, args.n);
}

void GateBackward(Context& ctx, const GateBackwardArgs& args) {
  FATHOM_CHECK(!args.balance || (args.sigmoid && args.sequence_of));
  RunRows(ctx, "GateBackward", kGateBackward, args, args.tokens, args.experts);
}

void Balance(Context& ctx, Arena& scratch, std::span<const BalanceArgs> sequences) {
  for (const BalanceArgs& args : sequences) {
    FATHOM_CHECK(args.top_k <= args.experts);
    ArenaScope scope(scratch);
    const int64_t chunks = (args.tokens + kBalanceChunk - 1) / kBalanceChunk, e = args.experts;
    double* p = scratch.Take<double>(chunks * e);
    int64_t* counts = scratch.Take<int64_t>(chunks * e);
    if (scratch.planning()) continue;
    const auto fn = Choose(ctx, "Balance", std::span<const BalanceEntry>(kBalance), args).fn;
    ctx.pool.ParallelFor(chunks, [&](int64_t chunk, int) {
      std::fill_n(p + chunk * e, e, 0.0);
      std::fill_n(counts + chunk * e, e, int64_t{0});
      fn(args, p + chunk * e, counts + chunk * e, chunk * kBalanceChunk,
         std::min(args.tokens, (chunk + 1) * kBalanceChunk));
    });
    for (int64_t i = 0; i < e; ++i) {
      double p_sum = 0, count = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        p_sum += p[chunk * e + i];
        count += static_cast<double>(counts[chunk * e + i]);
      }
      const double tokens = static_cast<double>(std::max<int64_t>(args.tokens, 1));
      args.f[i] = static_cast<float>(count * static_cast<double>(e) / (static_cast<double>(args.top_k) * tokens));
      args.p[i] = static_cast<float>(p_sum / tokens);
    }
  }
}

void CrossEntropy(Context& ctx, const CrossEntropyArgs& args) {
  RunRows(ctx, "CrossEntropy", kCrossEntropy, args, args.rows, args.vocab);
}

void EmbedBackward(Context& ctx, const EmbedBackwardArgs& args) {
  const auto fn = Choose(ctx, "EmbedBackward", std::span<const RowsEntry<EmbedBackwardArgs>>(kEmbedBackward), args).fn;
  ctx.pool.ParallelFor((args.n + kEmbedColumns - 1) / kEmbedColumns, [&](int64_t task, int) {
    fn(args, task * kEmbedColumns, std::min(args.n, (task + 1) * kEmbedColumns));
  });
}

void Adamw(Context& ctx, std::span<const AdamwArgs> tensors) {
  struct Piece {
    const AdamwArgs* args;
    int64_t begin;
  };
  std::vector<Piece> pieces;
  for (const AdamwArgs& t : tensors) {
    FATHOM_CHECK(t.moment_dtype == DType::kF32 || t.moment_dtype == DType::kBF16);
    for (int64_t begin = 0; begin < t.n; begin += kAdamwValues) pieces.push_back({&t, begin});
  }
  if (pieces.empty()) return;
  const auto fn = Choose(ctx, "Adamw", std::span<const RowsEntry<AdamwArgs>>(kAdamw), tensors.front()).fn;
  ctx.pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Piece& p = pieces[static_cast<size_t>(i)];
    fn(*p.args, p.begin, std::min(p.args->n, p.begin + kAdamwValues));
  });
}

double SumOfSquares(Context& ctx, std::span<const Values> tensors) {
  std::vector<Values> pieces;
  for (const Values& t : tensors) {
    for (int64_t begin = 0; begin < t.n; begin += kSquares) {
      pieces.push_back({t.x + begin, std::min(kSquares, t.n - begin)});
    }
  }
  if (pieces.empty()) return 0;
  std::vector<double> sums(pieces.size());
  const auto fn = Choose(ctx, "SumOfSquares", std::span<const SquaresEntry>(kSumOfSquares), pieces.front()).fn;
  ctx.pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Values& p = pieces[static_cast<size_t>(i)];
    sums[static_cast<size_t>(i)] = fn(p.x, p.n);
  });
  double total = 0;
  for (double s : sums) total += s;
  return total;
}

void AppendTrainRowOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "RmsNormBackward", kRmsNormBackward);
  AppendTable(ops, "SwigluBackward", kSwigluBackward);
  AppendTable(ops, "GateBackward", kGateBackward);
  AppendTable(ops, "Balance", kBalance);
  AppendTable(ops, "CrossEntropy", kCrossEntropy);
  AppendTable(ops, "EmbedBackward", kEmbedBackward);
  AppendTable(ops, "Adamw", kAdamw);
  AppendTable(ops, "SumOfSquares", kSumOfSquares);
}

}  // namespace fathom::kernels
