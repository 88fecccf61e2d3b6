// The threads of a DiskStore: one writes blocks and the index, one reads.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "cache/disk_state.h"
#include "io/file.h"

namespace fathom::cache {
namespace {

constexpr auto kIndexDelay = std::chrono::seconds(1);  // until changes of the index alone are written
constexpr int64_t kCommitBlocks = 64;                  // written between two commits

uint64_t ChecksumOf(const BlockKey& key, std::span<const std::byte> bytes) {
  return io::Checksum64(bytes, BlockKeyHash()(key));
}

double Seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

}  // namespace

int64_t DiskStore::State::TotalBytes() const {
  int64_t total = 0;
  for (const auto& [bytes, file] : files) total += file->bytes();
  return total;
}

// Blocks until what is there fits the limit, which may have been another one before.
void DiskStore::State::Shrink() {
  int64_t total = TotalBytes();
  while (total > options.limit_bytes) {
    const BlockRow* oldest = index.Oldest();
    if (!oldest) break;
    const BlockRow row = index.Erase(oldest->key);
    SlotFile& file = *files.at(row.bytes);
    file.Give(row.offset);
    total -= file.slot_bytes();
    ++stats.evicted;
  }
  for (const auto& [bytes, file] : files) file->ReleaseSpare();
  stats.bytes = TotalBytes();
}

SlotFile* DiskStore::State::FileFor(int64_t block_bytes) {
  if (const auto it = files.find(block_bytes); it != files.end()) return it->second.get();
  int error = 0;
  auto file = SlotFile::Open(options.directory, block_bytes, /*make=*/true, &error);
  if (!file) {
    const std::string path = options.directory + "/" + SlotFile::Name(block_bytes);
    WriteFailed(io::FileError("cannot make " + path, path, error));
    return nullptr;
  }
  file->Trim();  // an old file under this name has no block that is known
  const std::lock_guard lock(mutex);
  return (files[block_bytes] = std::move(file)).get();
}

void DiskStore::State::CollectGivenBack() {
  std::vector<BlockRow> rows;
  {
    const std::lock_guard lock(mutex);
    rows.swap(given_back);
  }
  for (const BlockRow& row : rows) files.at(row.bytes)->Give(row.offset);
}

// For one block more in `file`: false if there is nothing that could make room.
bool DiskStore::State::MakeRoom(SlotFile& file) {
  while (!file.has_spare() && TotalBytes() + file.slot_bytes() > options.limit_bytes) {
    BlockRow row;
    {
      const std::lock_guard lock(mutex);
      const BlockRow* oldest = index.Oldest();
      if (!oldest) return false;
      row = index.Erase(oldest->key);
      ++stats.evicted;
    }
    SlotFile& other = *files.at(row.bytes);
    other.Give(row.offset);
    if (&other != &file) other.ReleaseSpare();
  }
  return true;
}

// It is no longer on its way.
void DiskStore::State::Forget(const Queued& q) {
  const auto size = static_cast<int64_t>(q.bytes.size());
  if (const auto it = pending.find(q.key); it != pending.end() && it->second == size) pending.erase(it);
  stats.queued_bytes -= size;
}

void DiskStore::State::WriteBlock(const Queued& q) {
  const auto size = static_cast<int64_t>(q.bytes.size());
  CollectGivenBack();
  SlotFile* file = FileFor(size);
  BlockRow row{.key = q.key, .before = q.before, .bytes = size};
  bool written_whole = false;
  double seconds = 0;
  if (file && MakeRoom(*file)) {
    row.offset = file->Take();
    row.checksum = ChecksumOf(q.key, q.bytes);
    const Clock::time_point begin = Clock::now();
    const int error = file->Write(row.offset, q.bytes);
    seconds = Seconds(begin);
    written_whole = error == 0;
    if (!written_whole) {
      file->Give(row.offset);
      WriteFailed(io::FileError("cannot write into " + options.directory, options.directory, error));
    }
  }
  const std::lock_guard lock(mutex);
  Forget(q);
  stats.bytes = TotalBytes();
  if (!written_whole) {
    ++stats.dropped;
    return;
  }
  const BlockRow* known = index.Find(q.key);
  if (known && known->bytes >= size) {
    file->Give(row.offset);
    return;
  }
  if (known) {
    files.at(known->bytes)->Give(known->offset);
    index.Erase(q.key);
  }
  index.Insert(row);
  ++stats.stored;
  stats.stored_bytes += size;
  stats.store_seconds += seconds;
}

void DiskStore::State::WriteFailed(const Error& error, bool forever) {
  {
    const std::lock_guard lock(mutex);
    ++stats.write_errors;
    stats.dropped += static_cast<int64_t>(queue.size());
    for (const Queued& q : queue) Forget(q);
    queue.clear();
    off_until = forever ? Clock::time_point::max()
                        : Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                             std::chrono::duration<double>(options.retry_seconds));
  }
  Warn(Trouble::kWrite, error);
}

void DiskStore::State::WriteIndex() {
  std::vector<LruIndex::Change> changes;
  {
    const std::lock_guard lock(mutex);
    if (off_until == Clock::time_point::max()) return;
    changes = index.TakeChanges();
  }
  if (changes.empty()) return;
  if (!directory_lock->StillThere()) {
    return WriteFailed(Error(options.directory + " is not there any more", "", "",
                             "nothing is stored until the server is started again"),
                       /*forever=*/true);
  }
  if (const auto error = index_file->Write(changes)) {
    {
      const std::lock_guard lock(mutex);
      index.PutBack(changes);
    }
    WriteFailed(*error);
  }
}

void DiskStore::State::WriteLoop() {
  int64_t uncommitted = 0;
  for (;;) {
    std::optional<Queued> q;
    bool stop = false;
    int64_t wanted = 0;
    {
      std::unique_lock lock(mutex);
      wake_writer.wait_for(lock, kIndexDelay,
                           [&] { return stopping || !queue.empty() || flushes_wanted > flushes_done; });
      stop = stopping;
      wanted = flushes_wanted;
      if (!queue.empty()) {
        q = std::move(queue.front());
        queue.pop_front();
      }
    }
    if (q) {
      WriteBlock(*q);
      if (++uncommitted < kCommitBlocks) continue;
    }
    WriteIndex();
    uncommitted = 0;
    if (q) continue;
    {
      const std::lock_guard lock(mutex);
      flushes_done = wanted;
    }
    written.notify_all();
    if (stop) break;
  }
  index_file.reset();  // here, where signals do not reach: it writes once more
}

// In turn, one that has room for another block. Those that nobody waits for are forgotten.
std::shared_ptr<DiskLoad> DiskStore::State::NextLoad() {
  for (size_t left = loads.size(); left > 0; --left) {
    std::weak_ptr<DiskLoad> first = std::move(loads.front());
    loads.pop_front();
    std::shared_ptr<DiskLoad> load = first.lock();
    if (!load || load->ended) continue;
    loads.push_back(std::move(first));
    if (load->ready.empty() || load->ready_bytes < options.ahead_bytes) return load;
  }
  return nullptr;
}

void DiskStore::State::ReadLoop() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    if (const std::shared_ptr<DiskLoad> load = NextLoad()) {
      ReadBlock(lock, *load);
    } else {
      wake_reader.wait(lock);
    }
  }
  for (const std::weak_ptr<DiskLoad>& waiting : loads) {
    if (const std::shared_ptr<DiskLoad> load = waiting.lock()) {
      load->ended = true;
      load->progress.notify_all();
    }
  }
}

void DiskStore::State::ReadBlock(std::unique_lock<std::mutex>& lock, DiskLoad& load) {
  const BlockKey& key = load.keys[load.next];
  const auto end = [&] {
    load.ended = true;
    if (load.next > 0) index.Touch(load.keys[load.next - 1]);
    load.progress.notify_all();
  };
  const BlockRow* found = index.Find(key);
  if (!found) return end();
  const BlockRow row = *found;
  const SlotFile& file = *files.at(row.bytes);
  lock.unlock();
  const Clock::time_point begin = Clock::now();
  std::vector<std::byte> bytes(static_cast<size_t>(row.bytes));
  const int error = file.Read(row.offset, bytes);
  const bool sound = error == 0 && ChecksumOf(key, bytes) == row.checksum;
  const double seconds = Seconds(begin);
  lock.lock();
  if (sound) {
    const double a_byte = seconds / static_cast<double>(row.bytes);
    constexpr double kNew = 0.2;
    seconds_a_byte = seconds_a_byte == 0 ? a_byte : (1 - kNew) * seconds_a_byte + kNew * a_byte;
    ++stats.loaded;
    stats.loaded_bytes += row.bytes;
    stats.load_seconds += seconds;
    load.ready_bytes += row.bytes;
    load.ready.push_back(std::move(bytes));
    if (++load.next == load.keys.size()) return end();
    load.progress.notify_all();
    return;
  }
  // Its place may have been given to another block meanwhile: then it is only gone.
  const BlockRow* now = index.Find(key);
  if (now && now->bytes == row.bytes && now->offset == row.offset && now->checksum == row.checksum) {
    // What follows cannot be reached without it; when it is computed again, that is too.
    for (size_t i = load.next; i < load.keys.size() && index.Find(load.keys[i]); ++i)
      given_back.push_back(index.Erase(load.keys[i]));
    ++(error == 0 || error == ENODATA ? stats.damaged : stats.read_errors);
    lock.unlock();
    if (error == 0 || error == ENODATA) {
      Warn(Trouble::kDamage, Error("a block in " + options.directory + " was damaged and is dropped"));
    } else {
      Warn(Trouble::kRead, io::FileError("cannot read from " + options.directory, options.directory, error));
    }
    lock.lock();
  }
  end();
}

}  // namespace fathom::cache
