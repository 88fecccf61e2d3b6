// Reads every weight of a checkpoint and names those that hold NaN or infinity.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/progress.h"
#include "core/threads.h"

namespace fathom::checkpoint {

struct NonFinite {
  std::string tensor;  // weight_scale_inv under its own name
  int64_t count = 0;
  int64_t first = 0;  // flat index of the first one
  bool nan = false;   // the first one is NaN, else infinity
};

// In the order of the layers. E4M3 has no infinity; its NaN codes are 0x7f and 0xff. Parameters without data (a
// checkpoint opened with audit_only) are passed over.
std::vector<NonFinite> ScanForNonFinite(const Checkpoint& checkpoint, ThreadPool& pool,
                                        const ProgressFn& progress = {});

}  // namespace fathom::checkpoint
