// A checkpoint with random weights: projections, embedding, head and gate normal with standard deviation
// initializer_range, norms 1, router bias 0, the copies of MTP layers equal to what they copy.
//
// Each value depends on seed, tensor name and place only: on no number of threads, no shard size. FP8 weights are the
// same normal values, quantised in 128x128 blocks as the release is.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/write.h"

namespace fathom::checkpoint {

struct InitOptions {
  Precision precision = Precision::kBf16;
  uint64_t seed = 0;
  int64_t max_shard_bytes = 5'000'000'000;
  bool force = false;        // into a directory that is not empty: its weights and config.json are replaced
  ProgressFn progress = {};  // bytes
};

// Writes directory `out`: built beside it under another name and renamed when complete, so that a full disk or an
// interruption (progress may throw) leaves nothing half-written. Throws Error.
void InitCheckpoint(const model::ModelConfig& config, const std::string& out, const InitOptions& options,
                    ThreadPool& pool);

// Rows [first_row, first_row + rows) of a parameter's initial values, float32 (rows, cols): what InitCheckpoint stores,
// before rounding.
void FillInitial(std::string_view name, model::ParamKind kind, uint64_t seed, float deviation, int64_t first_row,
                 int64_t rows, int64_t cols, float* out);

}  // namespace fathom::checkpoint
