#include "engine/latent_store.h"

namespace fathom::engine {
namespace {
int64_t Blocks(int64_t positions) { return (positions + kBlockTokens - 1) / kBlockTokens; }
}  // namespace

int64_t LatentStore::Bytes(int64_t layers, int64_t width, int64_t positions, DType dtype) {
  return layers * Blocks(positions) * kBlockTokens * width * SizeOf(dtype);
}

LatentStore::LatentStore(int64_t layers, int64_t width, int64_t positions, DType dtype)
    : positions_(positions), storage_(Bytes(layers, width, positions, dtype)) {
  const int64_t blocks = Blocks(positions), block_bytes = kBlockTokens * width * SizeOf(dtype);
  blocks_.resize(static_cast<size_t>(layers * blocks));
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i] = storage_.data() + static_cast<int64_t>(i) * block_bytes;
  for (int64_t l = 0; l < layers; ++l) {
    caches_.push_back(
        {.blocks = blocks_.data() + l * blocks, .block_tokens = kBlockTokens, .dtype = dtype, .width = width});
  }
}

}  // namespace fathom::engine
