// The latent caches of one sequence: every layer's rows in blocks, reserved for a number of positions and touched as
// they are written, so that memory grows with use.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"

namespace fathom::engine {

inline constexpr int64_t kBlockTokens = 64;

class LatentStore {
 public:
  // `layers` layers of `width` values a position, `positions` at most.
  LatentStore(int64_t layers, int64_t width, int64_t positions, DType dtype);

  std::span<const kernels::LatentCache> caches() const { return caches_; }
  int64_t positions() const { return positions_; }
  int64_t bytes() const { return storage_.bytes(); }
  static int64_t Bytes(int64_t layers, int64_t width, int64_t positions, DType dtype);

 private:
  int64_t positions_;
  Buffer storage_;
  std::vector<std::byte*> blocks_;
  std::vector<kernels::LatentCache> caches_;
};

}  // namespace fathom::engine
