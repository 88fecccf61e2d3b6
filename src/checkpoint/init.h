// A checkpoint with random weights: projections, embedding, head and gate normal with standard deviation
// initializer_range, norms 1, router bias 0, the copies of MTP layers equal to what they copy.
//
// Each value depends on seed, tensor name and place only: on no number of threads, no shard size. FP8 weights are the
// same normal values, quantised in 128x128 blocks as the release is.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/layout.h"
#include "core/progress.h"
#include "core/threads.h"

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

// codes (rows, cols) and scales (ceil(rows/128), ceil(cols/128)) of x (rows, cols): E4M3 in 128x128 blocks,
// scale = Fp8Scale(amax), codes = x / scale rounded to nearest even.
void QuantizeBlocks(const float* x, int64_t rows, int64_t cols, bool ue8m0, uint8_t* codes, float* scales);

}  // namespace fathom::checkpoint
