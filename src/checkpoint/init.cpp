#include "checkpoint/init.h"

#include <algorithm>

#include "core/normal.h"

namespace fathom::checkpoint {
namespace {

// FNV-1a, 64 bits: the random stream of a tensor.
uint64_t StreamOf(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

}  // namespace

void FillInitial(std::string_view name, model::ParamKind kind, uint64_t seed, float deviation, int64_t first_row,
                 int64_t rows, int64_t cols, float* out) {
  if (kind == model::ParamKind::kVector || kind == model::ParamKind::kRouterBias) {
    std::fill_n(out, rows * cols, kind == model::ParamKind::kVector ? 1.0f : 0.0f);
    return;
  }
  const uint64_t stream = StreamOf(name);
  const int64_t counters = (cols + 3) / 4;  // of a row
  for (int64_t r = 0; r < rows; ++r)
    FillNormal(seed, stream, static_cast<uint64_t>((first_row + r) * counters), deviation, out + r * cols, cols);
}

void InitCheckpoint(const model::ModelConfig& config, const std::string& out, const InitOptions& options,
                    ThreadPool& pool) {
  const auto values = [&](const model::ParamInfo& info, int64_t first_row, int64_t rows, int64_t cols, float* to) {
    FillInitial(info.name, info.kind, options.seed, static_cast<float>(config.initializer_range), first_row, rows, cols,
                to);
  };
  WriteCheckpoint(config, out,
                  {.precision = options.precision,
                   .max_shard_bytes = options.max_shard_bytes,
                   .force = options.force,
                   .progress = options.progress},
                  values, pool);
}

}  // namespace fathom::checkpoint
