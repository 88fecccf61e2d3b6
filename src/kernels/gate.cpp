// Choice of the experts: choice of an implementation.
#include <algorithm>
#include <array>

#include "kernels/ops.h"
#include "kernels/reference/elementwise.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

using GateEntry = Entry<void (*)(const GateArgs&, int64_t begin, int64_t end), GateArgs>;
constexpr std::array<GateEntry, 1> kGate = {{{"reference", Isa::kReference, reference::Gate}}};
constexpr int64_t kTokensPerTask = 8;

}  // namespace

void Gate(Context& ctx, const GateArgs& args) {
  FATHOM_CHECK(args.n_group >= 1 && args.experts % args.n_group == 0);
  FATHOM_CHECK(args.top_k >= 1 && args.top_k <= args.experts);
  FATHOM_CHECK(args.topk_group >= 1 && args.topk_group <= args.n_group);
  const auto fn = Choose(ctx, "Gate", std::span<const GateEntry>(kGate), args).fn;
  ctx.pool.ParallelFor((args.tokens + kTokensPerTask - 1) / kTokensPerTask, [&](int64_t task, int) {
    fn(args, task * kTokensPerTask, std::min(args.tokens, (task + 1) * kTokensPerTask));
  });
}

void AppendGateOps(std::vector<OpEntry>& ops) { AppendTable(ops, "Gate", kGate); }

}  // namespace fathom::kernels
