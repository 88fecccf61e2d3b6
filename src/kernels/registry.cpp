#include "kernels/registry.h"

namespace fathom::kernels {

std::vector<OpEntry> ListOps() {
  std::vector<OpEntry> ops;
  AppendElementwiseOps(ops);
  AppendLinearOps(ops);
  AppendGateOps(ops);
  AppendAttentionOps(ops);
  AppendLatentAttentionOps(ops);
  AppendLinearBackwardOps(ops);
  AppendAttentionBackwardOps(ops);
  AppendTrainRowOps(ops);
  AppendFp8Ops(ops);
  AppendLogitOps(ops);
  AppendUpperBoundsOps(ops);
  return ops;
}

}  // namespace fathom::kernels
