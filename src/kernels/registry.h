// Choosing an implementation: every op has a table of entries, best first, the reference last; the first whose
// instruction set the context allows (and the machine has) and whose predicate accepts the problem is taken.
// FATHOM_FORCE_ISA and Context::isa steer it.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string_view>

#include "core/context.h"
#include "core/error.h"

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

}  // namespace fathom::kernels
