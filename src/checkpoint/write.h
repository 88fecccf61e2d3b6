// Writes a model in the published (Hugging Face) layout: config.json, shards, their index, and files that go with it.
//
// Where the values come from is the caller's: random ones (init.h), a trainer's. They are asked for in bands of rows,
// by many threads at once, so that no more than a band a thread is held beside the source.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/layout.h"
#include "core/progress.h"
#include "core/threads.h"

namespace fathom::checkpoint {

// Fills out (rows, cols) with rows [first_row, first_row + rows) of a parameter; vectors are one row. The MTP layers'
// copies of embedding and head ask for the main ones: their name never comes. Called by several threads; may throw.
using ValuesFn =
    std::function<void(const model::ParamInfo& info, int64_t first_row, int64_t rows, int64_t cols, float* out)>;

struct WriteOptions {
  Precision precision = Precision::kBf16;
  int64_t max_shard_bytes = 5'000'000'000;
  bool force = false;  // into a directory that is not empty: its weights and config.json are replaced
  std::vector<std::pair<std::string, std::string>> files = {};  // name and bytes: tokenizer.json and the like
  ProgressFn progress = {};                                     // bytes
};

// Writes directory `out`: built beside it under another name and renamed when complete, so that a full disk or an
// interruption (progress may throw) leaves nothing half-written. The same bytes for any number of threads. Throws
// Error.
void WriteCheckpoint(const model::ModelConfig& config, const std::string& out, const WriteOptions& options,
                     const ValuesFn& values, ThreadPool& pool);

// codes (rows, cols) and scales (ceil(rows/128), ceil(cols/128)) of x (rows, cols): E4M3 in 128x128 blocks,
// scale = Fp8Scale(amax), codes = x / scale rounded to nearest even.
void QuantizeBlocks(const float* x, int64_t rows, int64_t cols, bool ue8m0, uint8_t* codes, float* scales);

}  // namespace fathom::checkpoint
