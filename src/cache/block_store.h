// A place for blocks of latent rows outside of the engine's memory, as the engine sees it. All calls return at once:
// they are made by the thread that steps the engine. disk_store.h is the one that outlives the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/block_key.h"

namespace fathom::cache {

// Counters since the start, and the state now.
struct StoreStats {
  bool writable = false;  // false: nothing is stored now, because the last attempt failed
  int64_t blocks = 0, bytes = 0, limit_bytes = 0;
  int64_t queued_bytes = 0;                    // on their way to the disk
  int64_t stored = 0, stored_bytes = 0;        // blocks written
  int64_t loaded = 0, loaded_bytes = 0;        // blocks read, whole
  int64_t dropped = 0;                         // blocks not taken: the queue was full, or nothing can be written
  int64_t evicted = 0;                         // blocks that made room
  int64_t damaged = 0;                         // blocks that were not what was written: dropped, never used
  int64_t write_errors = 0, read_errors = 0;   // operations that the system refused
  double load_seconds = 0, store_seconds = 0;  // time in reading and writing
};

// Blocks on their way from the store, in the order of the keys that were asked for. Who asks and lets go of this
// object gives up the rest.
class BlockLoad {
 public:
  virtual ~BlockLoad() = default;
  // The next block's bytes, if it is there.
  virtual std::optional<std::vector<std::byte>> Take() = 0;
  // No more will come: all have been taken, or one could not be read.
  virtual bool Ended() const = 0;
  // Until there is a block to take or the end, `seconds` at most.
  virtual void Wait(double seconds) = 0;
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  // How many of the keys are stored, up to the first that is not.
  virtual int64_t Find(std::span<const BlockKey> keys) const = 0;
  virtual std::shared_ptr<BlockLoad> Load(std::vector<BlockKey> keys) = 0;
  // The prefix that ends with this block was used: it and what is before it stay longer.
  virtual void Touch(const BlockKey& key) = 0;

  // Copies a block that follows `before` (null: a prompt's first); one that is longer replaces one stored under this
  // key before. False if it is not taken: the block before it is not there, there is no room in the queue, or nothing
  // can be written.
  virtual bool Put(const BlockKey& key, const BlockKey* before, std::span<const std::byte> bytes) = 0;

  // What reading so many bytes takes, of the latest ones; 0: not known yet.
  virtual double ReadSeconds(int64_t bytes) const = 0;
  virtual StoreStats stats() const = 0;
};

}  // namespace fathom::cache
