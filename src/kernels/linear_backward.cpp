// Gradients of Linear: choice of an implementation.
#include <algorithm>

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
using InputEntry = Entry<void (*)(Context&, Arena&, const InputArgs&), InputArgs>;
constexpr InputEntry kInput[] = {
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
using WeightEntry = Entry<void (*)(Context&, Arena&, const WeightArgs&), WeightArgs>;
constexpr WeightEntry kWeight[] = {
    {"reference", Isa::kReference, ReferenceWeight},
};

}  // namespace

void LinearBackwardInput(Context& ctx, Arena& scratch, std::span<const LinearBackwardInputJob> jobs, Compute compute) {
  for (const LinearBackwardInputJob& job : jobs) {
    FATHOM_CHECK(!job.terms.empty());
    for (const LinearBackwardTerm& term : job.terms) {
      FATHOM_CHECK(term.w.dtype == DType::kF32 || term.w.dtype == DType::kBF16);
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
