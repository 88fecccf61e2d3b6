// Linear, LinearTransposed and QuantizeTiles: choice of an implementation.
#include "kernels/reference/linear.h"
#include "kernels/ops.h"

namespace fathom::kernels {

void Linear(Context& ctx, Arena& scratch, const LinearArgs& args) { reference::Linear(ctx, scratch, args); }
void LinearTransposed(Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs, Compute compute) {
  reference::LinearTransposed(ctx, scratch, jobs, compute);
}
void QuantizeTiles(Context& ctx, const QuantizeTilesArgs& args) { reference::QuantizeTiles(ctx, args); }

}  // namespace fathom::kernels
