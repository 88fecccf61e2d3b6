// The gradients of Linear over a table of primitives. Private to kernels/; the tests also run them with an emulated
// table.
#pragma once

#include "kernels/tiles.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {

void LinearBackwardInputWith(const Tiles& tiles, Context& ctx, Arena& scratch,
                             std::span<const LinearBackwardInputJob> jobs, Compute compute);
void LinearBackwardWeightWith(const Tiles& tiles, Context& ctx, Arena& scratch,
                              std::span<const LinearBackwardWeightJob> jobs, Compute compute);

}  // namespace fathom::kernels
