// Blocks in files of a directory, under an SQLite index, within a limit of bytes: what was computed before a restart is
// read instead of computed again. docs/context-cache.md has the layout.
//
// A block is written by a thread of the store's own, from a queue with a limit, and read by another; the index in
// memory answers at once. What the disk does wrong is never an error of a request: a block that is not what was written
// is dropped; where nothing can be written, nothing is stored for a while. Each of these is counted, and told once.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cache/block_store.h"
#include "core/error.h"

namespace fathom::cache {

struct DiskStoreOptions {
  std::string directory;                        // made if it is not there
  int64_t limit_bytes = int64_t{10} << 30;      // of blocks; the index is some 200 bytes a block more
  int64_t queue_bytes = int64_t{256} << 20;     // waiting to be written
  int64_t ahead_bytes = int64_t{256} << 20;     // read and not taken, for each load; one block at least
  double retry_seconds = 30;                    // after a failure to write
  std::function<void(const Error&)> warn = {};  // called by any thread; the same trouble once an hour at most
};

class DiskStore : public BlockStore {
 public:
  // Throws Error if another process has the directory. One that cannot be used is only warned of: the store is then
  // empty, and stays so.
  explicit DiskStore(DiskStoreOptions options);
  ~DiskStore() override;  // writes what is queued

  int64_t Find(std::span<const BlockKey> keys) const override;
  std::shared_ptr<BlockLoad> Load(std::vector<BlockKey> keys) override;
  void Touch(const BlockKey& key) override;
  bool Put(const BlockKey& key, const BlockKey* before, std::span<const std::byte> bytes) override;
  double ReadSeconds(int64_t bytes) const override;
  StoreStats stats() const override;

  // Returns when all that was put is written, or dropped.
  void Flush();

  struct State;  // disk_state.h

 private:
  std::unique_ptr<State> state_;
};

}  // namespace fathom::cache
