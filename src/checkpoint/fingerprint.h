// Which weights these are, for what is kept of their computations.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "core/threads.h"

namespace fathom::checkpoint {

// Two checkpoints have the same fingerprint only if all parameters have the same names, types, shapes and values. Of
// more than `whole_bytes` of weights not every byte is read: then samples of each tensor stand for it, together with
// the sizes and the times of change of the files.
std::string WeightsFingerprint(const Checkpoint& checkpoint, ThreadPool& pool, int64_t whole_bytes = int64_t{2} << 30);

}  // namespace fathom::checkpoint
