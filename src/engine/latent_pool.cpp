#include "engine/latent_pool.h"

namespace fathom::engine {

LatentLayout LatentLayout::Of(const model::ModelConfig& config, int64_t layers, DType dtype) {
  FATHOM_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3);
  return {.layers = layers,
          .row = {.block_tokens = kBlockTokens,
                  .dtype = dtype,
                  .width = config.cache_width(),
                  .rope = config.qk_rope_head_dim}};
}

LatentPool::LatentPool(const LatentLayout& layout, int64_t blocks)
    : layout_(layout), blocks_(blocks), storage_(blocks * layout.block_bytes()) {
  free_.reserve(static_cast<size_t>(blocks));
  for (int64_t b = blocks; b-- > 0;) free_.push_back(static_cast<int32_t>(b));
}

int32_t LatentPool::Take() {
  FATHOM_CHECK(!free_.empty());
  const int32_t block = free_.back();
  free_.pop_back();
  return block;
}

void LatentPool::Give(int32_t block) {
  FATHOM_CHECK(block >= 0 && block < blocks_ && free() < blocks_);
  free_.push_back(block);
}

LatentTable::LatentTable(const LatentPool& pool, int64_t max_positions) : pool_(pool) {
  data_.reserve(static_cast<size_t>(BlocksFor(max_positions)));
  const LatentLayout& layout = pool.layout();
  for (int64_t l = 0; l < layout.layers; ++l) {
    caches_.push_back(layout.row);
    caches_.back().blocks = data_.data();
    caches_.back().offset = l * kBlockTokens * layout.row.row_bytes();
  }
}

void LatentTable::Push(int32_t block) {
  FATHOM_CHECK(data_.size() < data_.capacity());  // caches_ point into it
  ids_.push_back(block);
  data_.push_back(pool_.Data(block));
}

int32_t LatentTable::Pop() {
  FATHOM_CHECK(!ids_.empty());
  const int32_t block = ids_.back();
  ids_.pop_back();
  data_.pop_back();
  return block;
}

void LatentTable::Replace(size_t index, int32_t block) {
  ids_.at(index) = block;
  data_[index] = pool_.Data(block);
}

LatentStore::LatentStore(const LatentLayout& layout, int64_t positions)
    : pool_(layout, BlocksFor(positions)), table_(pool_, positions) {
  for (int64_t b = 0; b < pool_.blocks(); ++b) table_.Push(pool_.Take());
}

}  // namespace fathom::engine
