#include "cache/slot_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "core/error.h"

namespace fathom::cache {
namespace {

constexpr int64_t kPage = 4096;
constexpr std::string_view kPrefix = "blocks-";

}  // namespace

std::string SlotFile::Name(int64_t block_bytes) { return fmt::format("{}{}", kPrefix, block_bytes); }

int64_t SlotFile::BlockBytes(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0) return 0;
  int64_t bytes = 0;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, bytes);
  return error == std::errc() && at == end && bytes > 0 && Name(bytes) == name ? bytes : 0;
}

int64_t SlotFile::SlotBytes(int64_t block_bytes) { return (block_bytes + kPage - 1) / kPage * kPage; }

SlotFile::SlotFile(int fd, int64_t block_bytes, int64_t slots)
    : fd_(fd), block_(block_bytes), slot_(SlotBytes(block_bytes)), claimed_(static_cast<size_t>(slots)) {}

SlotFile::~SlotFile() { ::close(fd_); }

std::unique_ptr<SlotFile> SlotFile::Open(const std::string& directory, int64_t block_bytes, bool make, int* error) {
  const std::string path = directory + "/" + Name(block_bytes);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    *error = fd < 0 ? errno : EINVAL;
    if (fd >= 0) ::close(fd);
    return nullptr;
  }
  // The last place has no padding behind its block.
  const int64_t slot = SlotBytes(block_bytes), slots = (status.st_size + slot - block_bytes) / slot;
  return std::unique_ptr<SlotFile>(new SlotFile(fd, block_bytes, slots));
}

bool SlotFile::Claim(int64_t offset) {
  if (offset < 0 || offset % slot_ != 0) return false;
  const auto i = static_cast<size_t>(offset / slot_);
  if (i >= claimed_.size() || claimed_[i]) return false;
  claimed_[i] = true;
  ++taken_;
  return true;
}

void SlotFile::Trim() {
  while (!claimed_.empty() && !claimed_.back()) claimed_.pop_back();
  const auto end = static_cast<int64_t>(claimed_.size());
  if (::ftruncate(fd_, end * slot_) != 0) return;  // then it stays longer
  for (int64_t i = end; i-- > 0;) {
    if (!claimed_[static_cast<size_t>(i)]) spare_.push_back(i * slot_);
  }
  ReleaseSpare();
}

int64_t SlotFile::Take() {
  ++taken_;
  for (auto* list : {&spare_, &holes_}) {
    if (list->empty()) continue;
    const int64_t offset = list->back();
    list->pop_back();
    claimed_[static_cast<size_t>(offset / slot_)] = true;
    return offset;
  }
  claimed_.push_back(true);
  return static_cast<int64_t>(claimed_.size() - 1) * slot_;
}

void SlotFile::Give(int64_t offset) {
  const auto i = static_cast<size_t>(offset / slot_);
  FATHOM_CHECK(offset % slot_ == 0 && i < claimed_.size() && claimed_[i]);
  claimed_[i] = false;
  --taken_;
  spare_.push_back(offset);
}

bool SlotFile::Punch(int64_t offset) const {
  return ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, slot_) == 0;
}

void SlotFile::ReleaseSpare() {
  if (taken_ == 0 && ::ftruncate(fd_, 0) == 0) {
    claimed_.clear();
    spare_.clear();
    holes_.clear();
    return;
  }
  const auto kept = std::stable_partition(spare_.begin(), spare_.end(), [&](int64_t offset) { return !Punch(offset); });
  holes_.insert(holes_.end(), kept, spare_.end());
  spare_.erase(kept, spare_.end());
}

int SlotFile::Write(int64_t offset, std::span<const std::byte> bytes) const {
  FATHOM_CHECK(static_cast<int64_t>(bytes.size()) == block_);
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
  return 0;
}

int SlotFile::Read(int64_t offset, std::span<std::byte> bytes) const {
  FATHOM_CHECK(static_cast<int64_t>(bytes.size()) == block_);
  while (!bytes.empty()) {
    const ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENODATA;
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
  return 0;
}

}  // namespace fathom::cache
