// The inside of a DiskStore: disk_store.cpp has opening and the calls of the engine, disk_threads.cpp the two threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "cache/disk_store.h"
#include "cache/index_file.h"
#include "cache/lru_index.h"
#include "cache/slot_file.h"

namespace fathom::cache {

using Clock = std::chrono::steady_clock;

// The lock of a directory: an open file.
class DirectoryLock {
 public:
  // Throws Error if another has it; an Error in the result if the directory cannot be used.
  static Result<DirectoryLock> Take(const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(DirectoryLock&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  bool StillThere() const;  // under its name: the directory has not been removed

 private:
  DirectoryLock(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

struct DiskLoad;

// One mutex for all that both threads and callers see; no file is touched while it is held. Files' places (not their
// bytes) and the index file belong to the writer alone, once it runs.
struct DiskStore::State {
  explicit State(DiskStoreOptions given) : options(std::move(given)) {}
  void Open();
  void Start();
  void Stop();

  // disk_threads.cpp, the writer
  struct Queued {
    BlockKey key, before;
    std::vector<std::byte> bytes;
  };
  void WriteLoop();
  void WriteBlock(const Queued& q);
  void Forget(const Queued& q);
  SlotFile* FileFor(int64_t block_bytes);
  bool MakeRoom(SlotFile& file);
  void CollectGivenBack();
  void WriteIndex();
  void WriteFailed(const Error& error, bool forever = false);
  int64_t TotalBytes() const;
  void Shrink();
  // the reader
  void ReadLoop();
  std::shared_ptr<DiskLoad> NextLoad();
  void ReadBlock(std::unique_lock<std::mutex>& lock, DiskLoad& load);

  enum class Trouble : uint8_t { kDirectory, kWrite, kRead, kDamage };
  void Warn(Trouble trouble, const Error& error);

  int64_t KnownBytes(const BlockKey& key) const;  // stored or queued; 0: not known
  bool writable() const { return opened && Clock::now() >= off_until; }

  const DiskStoreOptions options;
  bool opened = false;
  std::optional<DirectoryLock> directory_lock;

  mutable std::mutex mutex;
  std::condition_variable wake_writer, wake_reader, written;
  LruIndex index;
  std::map<int64_t, std::unique_ptr<SlotFile>> files;  // by the blocks' bytes
  std::deque<Queued> queue;
  std::unordered_map<BlockKey, int64_t, BlockKeyHash> pending;  // queued or being written: bytes
  std::vector<BlockRow> given_back;                             // places of blocks that the reader has dropped
  std::deque<std::weak_ptr<DiskLoad>> loads;                    // the first is served next
  StoreStats stats;
  double seconds_a_byte = 0;  // of the latest reads
  Clock::time_point off_until{};
  int64_t flushes_wanted = 0, flushes_done = 0;
  bool stopping = false;

  std::unique_ptr<IndexFile> index_file;
  std::mutex warn_mutex;
  std::map<Trouble, Clock::time_point> warned;
  std::thread writer, reader;
};

// Its fields are guarded by the store's mutex.
struct DiskLoad : BlockLoad {
  explicit DiskLoad(DiskStore::State& s, std::vector<BlockKey> wanted) : state(s), keys(std::move(wanted)) {}
  std::optional<std::vector<std::byte>> Take() override;
  bool Ended() const override;
  void Wait(double seconds) override;

  DiskStore::State& state;
  std::condition_variable progress;
  const std::vector<BlockKey> keys;
  size_t next = 0;
  std::deque<std::vector<std::byte>> ready;
  int64_t ready_bytes = 0;
  bool ended = false;
};

}  // namespace fathom::cache
