#include "cache/disk_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "cache/disk_state.h"
#include "io/file.h"

namespace fathom::cache {
namespace {

constexpr const char* kLockName = "lock";
constexpr const char* kIndexName = "index.sqlite";

std::optional<Error> MakeDirectory(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  std::error_code error;
  std::filesystem::path above = std::filesystem::path(path).parent_path();
  if (!above.empty()) std::filesystem::create_directories(above, error);
  if (error) return io::FileError("cannot make " + above.string(), path, error.value());
  // What people have written can be told from latent rows: they are for this user alone.
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return std::nullopt;
  return io::FileError("cannot make " + path, path, errno);
}

std::string HolderOf(int fd) {
  char text[32] = {};
  const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
  std::string pid(text, static_cast<size_t>(std::max<ssize_t>(n, 0)));
  pid.erase(std::find_if(pid.begin(), pid.end(), [](char c) { return c < '0' || c > '9'; }), pid.end());
  return pid.empty() ? "another process has it" : "process " + pid + " has it";
}

}  // namespace

Result<DirectoryLock> DirectoryLock::Take(const std::string& directory) {
  const std::string path = directory + "/" + kLockName;
  DirectoryLock lock(path, ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.fd_ < 0) return io::FileError("cannot write " + path, path, errno);
  if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      throw Error("the cache directory is in use", fmt::format("{}: {}", directory, HolderOf(lock.fd_)), "",
                  "give each server a directory of its own");
    }
    return io::FileError("cannot lock " + path, path, errno);
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock.fd_, 0) != 0 || ::pwrite(lock.fd_, pid.data(), pid.size(), 0) < 0)
    return io::FileError("cannot write " + path, path, errno);
  return lock;
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

bool DirectoryLock::StillThere() const {
  struct stat named {
  }, held{};
  return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_, &held) == 0 && named.st_dev == held.st_dev &&
         named.st_ino == held.st_ino;
}

void DiskStore::State::Open() {
  const std::string& directory = options.directory;
  if (const auto error = MakeDirectory(directory)) return Warn(Trouble::kDirectory, *error);
  Result<DirectoryLock> lock = DirectoryLock::Take(directory);
  if (!lock.ok()) return Warn(Trouble::kDirectory, lock.error());
  directory_lock.emplace(std::move(lock).Value());
  Result<IndexFile::Opened> read = IndexFile::Open(directory + "/" + kIndexName);
  if (!read.ok()) return Warn(Trouble::kDirectory, read.error());
  IndexFile::Opened& found = read.Value();
  if (!found.renewed.empty()) Warn(Trouble::kDamage, Error("the index was made anew, without blocks", found.renewed));

  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const int64_t bytes = SlotFile::BlockBytes(entry.path().filename().string());
    int error = 0;
    if (bytes == 0) continue;
    if (auto file = SlotFile::Open(directory, bytes, /*make=*/false, &error)) files[bytes] = std::move(file);
  }
  stats.damaged = found.damaged;
  for (const BlockRow& row : found.rows) {
    const auto file = files.find(row.bytes);
    if (file != files.end() && file->second->Claim(row.offset)) {
      index.Insert(row, /*as_read=*/true);
    } else {
      ++stats.damaged;
      index.MarkChanged(row.key);  // its row goes
    }
  }
  for (auto it = files.begin(); it != files.end();) {
    it->second->Trim();
    if (it->second->taken() > 0) {
      ++it;
    } else {
      ::unlink((directory + "/" + SlotFile::Name(it->first)).c_str());
      it = files.erase(it);
    }
  }
  index_file = std::move(found.file);
  Shrink();
  opened = true;
}

void DiskStore::State::Start() {
  if (!opened) return;
  // Signals are for the program's own threads. SIGXFSZ too: a write beyond the limit of file sizes then only fails.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  writer = std::thread([this] { WriteLoop(); });
  reader = std::thread([this] { ReadLoop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void DiskStore::State::Stop() {
  if (!writer.joinable()) return;
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  wake_writer.notify_all();
  wake_reader.notify_all();
  reader.join();
  writer.join();
}

void DiskStore::State::Warn(Trouble trouble, const Error& error) {
  constexpr auto kAgain = std::chrono::hours(1);
  {
    const std::lock_guard lock(warn_mutex);
    const Clock::time_point now = Clock::now();
    const auto [it, fresh] = warned.try_emplace(trouble, now);
    if (!fresh && now - it->second < kAgain) return;
    it->second = now;
  }
  if (options.warn) options.warn(error);
}

int64_t DiskStore::State::KnownBytes(const BlockKey& key) const {
  const BlockRow* row = index.Find(key);
  const auto it = pending.find(key);
  return std::max(row ? row->bytes : 0, it != pending.end() ? it->second : 0);
}

DiskStore::DiskStore(DiskStoreOptions options) : state_(std::make_unique<State>(std::move(options))) {
  state_->Open();
  state_->Start();
}

DiskStore::~DiskStore() { state_->Stop(); }

int64_t DiskStore::Find(std::span<const BlockKey> keys) const {
  const std::lock_guard lock(state_->mutex);
  const auto end = std::find_if(keys.begin(), keys.end(), [&](const BlockKey& k) { return !state_->index.Find(k); });
  return end - keys.begin();
}

std::shared_ptr<BlockLoad> DiskStore::Load(std::vector<BlockKey> keys) {
  auto load = std::make_shared<DiskLoad>(*state_, std::move(keys));
  const std::lock_guard lock(state_->mutex);
  load->ended = load->keys.empty() || !state_->opened || state_->stopping;
  if (!load->ended) state_->loads.push_back(load);
  state_->wake_reader.notify_one();
  return load;
}

void DiskStore::Touch(const BlockKey& key) {
  const std::lock_guard lock(state_->mutex);
  state_->index.Touch(key);
}

bool DiskStore::Put(const BlockKey& key, const BlockKey* before, std::span<const std::byte> bytes) {
  State& s = *state_;
  const auto size = static_cast<int64_t>(bytes.size());
  {
    const std::lock_guard lock(s.mutex);
    if (s.KnownBytes(key) >= size) return true;
    if (!s.writable() || s.stopping || (before && s.KnownBytes(*before) == 0) ||
        s.stats.queued_bytes + size > s.options.queue_bytes || SlotFile::SlotBytes(size) > s.options.limit_bytes) {
      ++s.stats.dropped;
      return false;
    }
    s.stats.queued_bytes += size;
    s.pending[key] = size;
  }
  State::Queued q{key, before ? *before : BlockKey{}, {bytes.begin(), bytes.end()}};
  const std::lock_guard lock(s.mutex);
  s.queue.push_back(std::move(q));
  s.wake_writer.notify_one();
  return true;
}

double DiskStore::ReadSeconds(int64_t bytes) const {
  const std::lock_guard lock(state_->mutex);
  return state_->seconds_a_byte * static_cast<double>(bytes);
}

StoreStats DiskStore::stats() const {
  const std::lock_guard lock(state_->mutex);
  StoreStats s = state_->stats;
  s.writable = state_->writable();
  s.blocks = state_->index.size();
  s.limit_bytes = state_->options.limit_bytes;
  return s;
}

void DiskStore::Flush() {
  std::unique_lock lock(state_->mutex);
  if (!state_->opened) return;
  const int64_t mine = ++state_->flushes_wanted;
  state_->wake_writer.notify_one();
  state_->written.wait(lock, [&] { return state_->flushes_done >= mine; });
}

std::optional<std::vector<std::byte>> DiskLoad::Take() {
  const std::lock_guard lock(state.mutex);
  if (ready.empty()) return std::nullopt;
  std::vector<std::byte> bytes = std::move(ready.front());
  ready.pop_front();
  ready_bytes -= static_cast<int64_t>(bytes.size());
  state.wake_reader.notify_one();
  return bytes;
}

bool DiskLoad::Ended() const {
  const std::lock_guard lock(state.mutex);
  return ended && ready.empty();
}

void DiskLoad::Wait(double seconds) {
  std::unique_lock lock(state.mutex);
  progress.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return ended || !ready.empty(); });
}

}  // namespace fathom::cache
