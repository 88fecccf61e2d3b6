// Gradients of Linear: as products of blocks (linear_blocks.h), and the choice of an implementation.
#include <algorithm>

#include "kernels/linear_backward.h"
#include "kernels/linear_blocks.h"
#include "kernels/reference/train.h"
#include "kernels/registry.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kReferenceRows = 16;  // a task

struct InputArgs {
  std::span<const LinearBackwardInputJob> jobs;
  Compute compute;
};
void ReferenceInput(Context& ctx, Arena& scratch, const InputArgs& args) {
  if (scratch.planning()) return;
  for (const LinearBackwardInputJob& job : args.jobs) {
    ctx.pool.ParallelFor((job.m + kReferenceRows - 1) / kReferenceRows, [&](int64_t task, int) {
      reference::LinearBackwardInput(job, args.compute, task * kReferenceRows,
                                     std::min(job.m, (task + 1) * kReferenceRows));
    });
  }
}
template <Isa isa>
void RunInput(Context& ctx, Arena& scratch, const InputArgs& args) {
  LinearBackwardInputWith(*TilesOf(isa), ctx, scratch, args.jobs, args.compute);
}
using InputEntry = Entry<void (*)(Context&, Arena&, const InputArgs&), InputArgs>;
constexpr InputEntry kInput[] = {
    {"amx", Isa::kAmx, RunInput<Isa::kAmx>},          {"avx512bf16", Isa::kAvx512Bf16, RunInput<Isa::kAvx512Bf16>},
    {"avx512", Isa::kAvx512, RunInput<Isa::kAvx512>}, {"avx2", Isa::kAvx2, RunInput<Isa::kAvx2>},
    {"sse4", Isa::kSse4, RunInput<Isa::kSse4>},       {"neon", Isa::kNeon, RunInput<Isa::kNeon>},
    {"reference", Isa::kReference, ReferenceInput},
};

struct WeightArgs {
  std::span<const LinearBackwardWeightJob> jobs;
  Compute compute;
};
void ReferenceWeight(Context& ctx, Arena& scratch, const WeightArgs& args) {
  if (scratch.planning()) return;
  for (const LinearBackwardWeightJob& job : args.jobs) {
    ctx.pool.ParallelFor((job.n + kReferenceRows - 1) / kReferenceRows, [&](int64_t task, int) {
      reference::LinearBackwardWeight(job, args.compute, task * kReferenceRows,
                                      std::min(job.n, (task + 1) * kReferenceRows));
    });
  }
}
template <Isa isa>
void RunWeight(Context& ctx, Arena& scratch, const WeightArgs& args) {
  LinearBackwardWeightWith(*TilesOf(isa), ctx, scratch, args.jobs, args.compute);
}
using WeightEntry = Entry<void (*)(Context&, Arena&, const WeightArgs&), WeightArgs>;
constexpr WeightEntry kWeight[] = {
    {"amx", Isa::kAmx, RunWeight<Isa::kAmx>},          {"avx512bf16", Isa::kAvx512Bf16, RunWeight<Isa::kAvx512Bf16>},
    {"avx512", Isa::kAvx512, RunWeight<Isa::kAvx512>}, {"avx2", Isa::kAvx2, RunWeight<Isa::kAvx2>},
    {"sse4", Isa::kSse4, RunWeight<Isa::kSse4>},       {"neon", Isa::kNeon, RunWeight<Isa::kNeon>},
    {"reference", Isa::kReference, ReferenceWeight},
};

// ---- dx = sum of dy W: A is dy, B is W ----

bool Rounds(Compute compute, const LinearBackwardTerm& term) {
  return ArithmeticOf(compute, term.w.dtype) == Arithmetic::kRounded;
}

struct InputSource {
  std::span<const LinearBackwardInputJob> jobs;
  Compute compute;
};

template <Compute compute>
BlockTerm InputTerm(const void* source, int64_t i) {
  const LinearBackwardTerm& term = static_cast<const LinearBackwardInputJob*>(source)->terms[static_cast<size_t>(i)];
  BlockTerm t;
  t.a = {term.dy, DType::kF32, term.ldy, term.dy_rows};
  t.b = {term.w.data, term.w.dtype, term.w.cols, nullptr};
  t.k = term.w.rows;
  t.round = Rounds(compute, term);
  t.codes = compute == Compute::kFp8 && term.w.dtype == DType::kF8E4M3;
  if (!t.codes) return t;
  t.a_blocks = term.dy_blocks;
  t.ue8m0 = term.w.ue8m0;
  t.weight = &term.w;
  return t;
}

BlockJob InputJob(const Tiles& tiles, const void* source, int64_t i) {
  const InputSource& args = *static_cast<const InputSource*>(source);
  const LinearBackwardInputJob& from = args.jobs[static_cast<size_t>(i)];
  BlockJob job;
  job.c = from.dx;
  job.ldc = from.ldx;
  job.accumulate = from.accumulate;
  job.m = from.m;
  job.n = from.terms.front().w.cols;
  const auto codes = [&](const LinearBackwardTerm& term) {
    return args.compute == Compute::kFp8 && term.w.dtype == DType::kF8E4M3;
  };
  const auto halves = [&](const LinearBackwardTerm& term) { return codes(term) || Rounds(args.compute, term); };
  job.bf16 = tiles.mul_bf16 && std::all_of(from.terms.begin(), from.terms.end(), halves);
  job.scaled = std::any_of(from.terms.begin(), from.terms.end(), codes);
  for (const LinearBackwardTerm& term : from.terms) job.k += PaddedK(job, term.w.rows);
  job.terms = static_cast<int64_t>(from.terms.size());
  job.term = args.compute == Compute::kFp8    ? InputTerm<Compute::kFp8>
             : args.compute == Compute::kBf16 ? InputTerm<Compute::kBf16>
                                              : InputTerm<Compute::kF32>;
  job.source = &from;
  return job;
}

// ---- dw += dy^T x: A is dy turned, B is x ----

struct WeightSource {
  std::span<const LinearBackwardWeightJob> jobs;
  Compute compute;
};

template <Compute compute>
BlockTerm WeightTerm(const void* source, int64_t) {
  const LinearBackwardWeightJob& job = *static_cast<const LinearBackwardWeightJob*>(source);
  BlockTerm t;
  t.a = {job.dy, DType::kF32, job.ldy, job.dy_rows};
  t.b = {job.x, DType::kF32, job.ldx, job.x_rows};
  t.k = job.m;
  t.round = compute == Compute::kBf16;
  t.codes = compute == Compute::kFp8;
  t.a_blocks = job.dy_blocks;
  t.ue8m0 = job.ue8m0;
  return t;
}

BlockJob WeightJob(const Tiles& tiles, const void* source, int64_t i) {
  const WeightSource& args = *static_cast<const WeightSource*>(source);
  const LinearBackwardWeightJob& from = args.jobs[static_cast<size_t>(i)];
  BlockJob job;
  job.c = from.dw;
  job.ldc = from.k;
  job.accumulate = true;
  job.m = from.n;
  job.n = from.k;
  job.bf16 = tiles.mul_bf16 && args.compute != Compute::kF32;
  job.scaled = args.compute == Compute::kFp8;
  job.k = PaddedK(job, from.m);
  job.a_turned = true;
  job.term = args.compute == Compute::kFp8    ? WeightTerm<Compute::kFp8>
             : args.compute == Compute::kBf16 ? WeightTerm<Compute::kBf16>
                                              : WeightTerm<Compute::kF32>;
  job.source = &from;
  return job;
}

}  // namespace

void LinearBackwardInputWith(const Tiles& tiles, Context& ctx, Arena& scratch,
                             std::span<const LinearBackwardInputJob> jobs, Compute compute) {
  const InputSource source{jobs, compute};
  RunBlocks(tiles, ctx, scratch, {static_cast<int64_t>(jobs.size()), InputJob, &source});
}

void LinearBackwardWeightWith(const Tiles& tiles, Context& ctx, Arena& scratch,
                              std::span<const LinearBackwardWeightJob> jobs, Compute compute) {
  // There are no codes in kW8A8.
  const WeightSource source{jobs, compute == Compute::kW8A8 ? Compute::kF32 : compute};
  RunBlocks(tiles, ctx, scratch, {static_cast<int64_t>(jobs.size()), WeightJob, &source});
}

void LinearBackwardInput(Context& ctx, Arena& scratch, std::span<const LinearBackwardInputJob> jobs, Compute compute) {
  for (const LinearBackwardInputJob& job : jobs) {
    FATHOM_CHECK(!job.terms.empty());
    for (const LinearBackwardTerm& term : job.terms) {
      const bool fp8 = compute == Compute::kFp8 && term.w.dtype == DType::kF8E4M3;
      FATHOM_CHECK(term.w.dtype == DType::kF32 || term.w.dtype == DType::kBF16 || fp8);
      FATHOM_CHECK(!fp8 || term.w.row0 % kFp8Block == 0);
      FATHOM_CHECK(term.w.cols == job.terms.front().w.cols && job.ldx >= term.w.cols && term.ldy >= term.w.rows);
    }
  }
  const InputArgs args{jobs, compute};
  Choose(ctx, "LinearBackwardInput", std::span<const InputEntry>(kInput), args).fn(ctx, scratch, args);
}

void LinearBackwardWeight(Context& ctx, Arena& scratch, std::span<const LinearBackwardWeightJob> jobs,
                          Compute compute) {
  for (const LinearBackwardWeightJob& job : jobs) FATHOM_CHECK(job.ldy >= job.n && job.ldx >= job.k);
  const WeightArgs args{jobs, compute};
  Choose(ctx, "LinearBackwardWeight", std::span<const WeightEntry>(kWeight), args).fn(ctx, scratch, args);
}

void AppendLinearBackwardOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "LinearBackwardInput", kInput);
  AppendTable(ops, "LinearBackwardWeight", kWeight);
}

}  // namespace fathom::kernels
