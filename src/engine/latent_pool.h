// The latent rows of all sequences: one reservation, cut into blocks of kBlockTokens positions, each with the rows of
// every layer (main layers first, then the MTP modules). Memory is touched as blocks are used.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"
#include "model/config.h"

namespace fathom::engine {

inline constexpr int64_t kBlockTokens = 64;
constexpr int64_t BlocksFor(int64_t positions) { return (positions + kBlockTokens - 1) / kBlockTokens; }

// F32, BF16, or F8_E4M3 (the 656-byte row of FlashMLA: codes, a float32 scale each 128, rope part in BF16).
struct LatentLayout {
  int64_t layers = 0;
  kernels::LatentCache row;  // dtype, width and what else makes a row; blocks and offset are not used

  static LatentLayout Of(const model::ModelConfig& config, int64_t layers, DType dtype);
  int64_t token_bytes() const { return layers * row.row_bytes(); }
  int64_t block_bytes() const { return kBlockTokens * token_bytes(); }
};

class LatentPool {
 public:
  LatentPool(const LatentLayout& layout, int64_t blocks);

  int32_t Take();  // a free block; there must be one
  void Give(int32_t block);
  std::byte* Data(int32_t block) const { return storage_.data() + block * layout_.block_bytes(); }

  int64_t blocks() const { return blocks_; }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t bytes() const { return storage_.bytes(); }
  const LatentLayout& layout() const { return layout_; }
  const Buffer& storage() const { return storage_; }  // blocks in their order, the first ones used first

 private:
  LatentLayout layout_;
  int64_t blocks_;
  Buffer storage_;
  std::vector<int32_t> free_;  // last in, first out: rows that are warm
};

// The blocks of one sequence, as kernels want them.
class LatentTable {
 public:
  LatentTable(const LatentPool& pool, int64_t max_positions);

  void Push(int32_t block);
  int32_t Pop();
  void Replace(size_t index, int32_t block);
  std::span<const int32_t> blocks() const { return ids_; }
  int64_t positions() const { return static_cast<int64_t>(ids_.size()) * kBlockTokens; }
  std::span<const kernels::LatentCache> caches() const { return caches_; }  // (layers,)
  LatentTable(const LatentTable&) = delete;
  LatentTable& operator=(const LatentTable&) = delete;

 private:
  const LatentPool& pool_;
  std::vector<int32_t> ids_;
  std::vector<std::byte*> data_;  // of fixed capacity: caches_ points at it
  std::vector<kernels::LatentCache> caches_;
};

// A pool with one sequence that has all its blocks: traces, benchmarks.
class LatentStore {
 public:
  LatentStore(const LatentLayout& layout, int64_t positions);
  std::span<const kernels::LatentCache> caches() const { return table_.caches(); }
  int64_t bytes() const { return pool_.bytes(); }

 private:
  LatentPool pool_;
  LatentTable table_;
};

}  // namespace fathom::engine
