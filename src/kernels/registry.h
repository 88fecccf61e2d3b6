// Choosing an implementation: every op has a table of entries, best first, the reference last; the first whose
// instruction set the context allows (and the machine has) and whose predicate accepts the problem is taken.
// FATHOM_FORCE_ISA and Context::isa steer it.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/context.h"
#include "core/error.h"
#include "kernels/ops.h"

namespace fathom::kernels {

// Whether kernels of `wanted` may run under a context set to `limit`: the same set or a lower one of the same
// architecture.
inline bool Allows(Isa limit, Isa wanted) {
  if (wanted == Isa::kReference) return true;
  if (limit == Isa::kNeon || wanted == Isa::kNeon) return limit == wanted;
  return wanted <= limit;
}

template <class Fn, class Args>
struct Entry {
  std::string_view name;
  Isa isa;
  Fn fn;
  bool (*supports)(const Args&) = nullptr;  // null: every valid problem
};

template <class Fn, class Args>
const Entry<Fn, Args>& Choose(const Context& ctx, std::string_view op, std::span<const Entry<Fn, Args>> table,
                              const Args& args) {
  for (const Entry<Fn, Args>& e : table) {
    const bool allowed = Allows(ctx.isa, e.isa) && MachineHas(e.isa);
    const bool fits = allowed && (!e.supports || e.supports(args));
    if (ctx.verbose) {
      ctx.verbose(fmt::format("{}: {} {}", op, e.name,
                              fits       ? "chosen"
                              : !allowed ? "refused: instruction set"
                                         : "refused: problem"));
    }
    if (fits) return e;
  }
  throw Error(fmt::format("no implementation of {}", op), "", "the reference, which is last in every table");
}

// For ListOps: each file with tables has a function that appends them.
template <class Table>
void AppendTable(std::vector<OpEntry>& ops, std::string_view op, const Table& table) {
  for (const auto& e : table) ops.push_back({std::string(op), std::string(e.name), e.isa, MachineHas(e.isa)});
}
void AppendElementwiseOps(std::vector<OpEntry>& ops);
void AppendGateOps(std::vector<OpEntry>& ops);
void AppendLinearOps(std::vector<OpEntry>& ops);
void AppendAttentionOps(std::vector<OpEntry>& ops);
void AppendLatentAttentionOps(std::vector<OpEntry>& ops);
void AppendLinearBackwardOps(std::vector<OpEntry>& ops);
void AppendAttentionBackwardOps(std::vector<OpEntry>& ops);
void AppendTrainRowOps(std::vector<OpEntry>& ops);
void AppendFp8Ops(std::vector<OpEntry>& ops);
void AppendLogitOps(std::vector<OpEntry>& ops);
void AppendUpperBoundsOps(std::vector<OpEntry>& ops);

}  // namespace fathom::kernels
