// Both forms of attention: choice of an implementation.
#include <array>

#include "kernels/ops.h"
#include "kernels/reference/attention.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

using AttentionEntry = Entry<void (*)(Context&, Arena&, const AttentionArgs&), AttentionArgs>;
using LatentEntry = Entry<void (*)(Context&, Arena&, const LatentAttentionArgs&), LatentAttentionArgs>;

void AttentionReference(Context& ctx, Arena& scratch, const AttentionArgs& args) {
  ArenaScope scope(scratch);
  double* sums = scratch.Take<double>(args.dv * ctx.pool.size());
  if (scratch.planning()) return;
  ctx.pool.ParallelFor(args.tokens * args.heads, [&](int64_t task, int thread) {
    reference::Attention(args, task / args.heads, task % args.heads, sums + thread * args.dv);
  });
}

void LatentReference(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  ArenaScope scope(scratch);
  double* sums = scratch.Take<double>(args.r * ctx.pool.size());
  if (scratch.planning()) return;
  const auto queries = static_cast<int64_t>(args.lengths.size());
  ctx.pool.ParallelFor(queries * args.heads, [&](int64_t task, int thread) {
    reference::LatentAttention(args, task / args.heads, task % args.heads, sums + thread * args.r);
  });
}

constexpr std::array<AttentionEntry, 1> kAttention = {{{"reference", Isa::kReference, AttentionReference}}};
constexpr std::array<LatentEntry, 1> kLatentAttention = {{{"reference", Isa::kReference, LatentReference}}};

}  // namespace

void Attention(Context& ctx, Arena& scratch, const AttentionArgs& args) {
  Choose(ctx, "Attention", std::span<const AttentionEntry>(kAttention), args).fn(ctx, scratch, args);
}

void LatentAttention(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  FATHOM_CHECK(args.caches.size() == args.lengths.size());
  Choose(ctx, "LatentAttention", std::span<const LatentEntry>(kLatentAttention), args).fn(ctx, scratch, args);
}

void AppendAttentionOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "Attention", kAttention);
  AppendTable(ops, "LatentAttention", kLatentAttention);
}

}  // namespace fathom::kernels
