#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace fathom::io {
namespace {

std::string Directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

Result<int> OpenForReading(const std::string& path, int64_t* bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("cannot open " + path, path, errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    const int error = errno;
    ::close(fd);
    return FileError("cannot open " + path, path, error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(fd);
    return Error("cannot read " + path, S_ISDIR(status.st_mode) ? "a directory" : "not a regular file",
                 "a regular file");
  }
  *bytes = status.st_size;
  return fd;
}

// Reads `count` bytes at `begin`; errno of the failure, ENODATA at an early end, 0 if all came.
int ReadFully(int fd, int64_t begin, int64_t count, char* out) {
  while (count > 0) {
    const ssize_t n = ::pread(fd, out, static_cast<size_t>(std::min<int64_t>(count, 1 << 30)), begin);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return ENODATA;
    out += n;
    begin += n;
    count -= n;
  }
  return 0;
}

bool IsOfLocking(int error) { return error == ENOMEM || error == EPERM || error == EAGAIN; }

Error LockError(const std::string& what, int64_t bytes, int error) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string allowed =
      limit.rlim_cur == RLIM_INFINITY ? "no limit" : HumanBytes(static_cast<int64_t>(limit.rlim_cur));
  return Error("cannot keep in memory " + what,
               fmt::format("{}; this process may lock: {} (ulimit -l)", std::system_category().message(error), allowed),
               HumanBytes(bytes),
               "raise the limit (ulimit -l unlimited; LimitMEMLOCK= of a service), or go without --mlock");
}

}  // namespace

Error FileError(const std::string& what, const std::string& path, int error) {
  std::string hint;
  if (error == ENOENT) hint = "check the path";
  if (error == EACCES || error == EPERM) hint = "check the permissions of the file and of its folders";
  if (error == EMFILE || error == ENFILE) hint = "raise the limit of open files (ulimit -n)";
  if (error == EROFS) hint = "the file system is read-only";
  if (error == ENOSPC || error == EDQUOT) {
    std::error_code ignored;
    const auto space = std::filesystem::space(Directory(path), ignored);
    hint = "free some space, or write to another disk";
    if (!ignored) hint = fmt::format("{} are free there; {}", HumanBytes(static_cast<int64_t>(space.available)), hint);
  }
  return Error(what, std::system_category().message(error), "", hint);
}

std::string HumanBytes(int64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"bytes", "kB", "MB", "GB", "TB", "PB"};
  double x = static_cast<double>(bytes);
  size_t unit = 0;
  while (x >= 999.5 && unit + 1 < kUnits.size()) {
    x /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} {}", bytes, bytes == 1 ? "byte" : "bytes");
  return fmt::format("{:.{}f} {}", x, x < 9.995 ? 2 : x < 99.95 ? 1 : 0, kUnits[unit]);
}

Result<MappedFile> MappedFile::Open(const std::string& path) {
  MappedFile file;
  file.path_ = path;
  Result<int> fd = OpenForReading(path, &file.bytes_);
  if (!fd) return fd.error();
  file.fd_ = fd.Value();
  if (file.bytes_ == 0) return file;
  void* p = ::mmap(nullptr, static_cast<size_t>(file.bytes_), PROT_READ, MAP_SHARED | MAP_NORESERVE, file.fd_, 0);
  if (p == MAP_FAILED) {
    const int error = errno;
    if (error != ENOMEM) return FileError("cannot map " + path, path, error);
    return Error("cannot map " + path, fmt::format("no address space for {}", HumanBytes(file.bytes_)), "",
                 "raise the limit of virtual memory (ulimit -v)");
  }
  file.data_ = static_cast<const std::byte*>(p);
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(bytes_));
  if (fd_ >= 0) ::close(fd_);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(fd_, other.fd_);
  return *this;
}

Result<std::string> MappedFile::Read(int64_t begin, int64_t count) const {
  FATHOM_CHECK(begin >= 0 && count >= 0 && begin <= bytes_ && count <= bytes_ - begin);
  std::string out(static_cast<size_t>(count), '\0');
  const int error = ReadFully(fd_, begin, count, out.data());
  if (error == ENODATA) return Error("cannot read " + path_, "the file became shorter while it was read");
  if (error != 0) return FileError("cannot read " + path_, path_, error);
  return out;
}

void LockMemory(const void* data, int64_t bytes, const std::string& what) {
  if (::mlock(data, static_cast<size_t>(bytes)) != 0) throw LockError(what, bytes, errno);
}

void MappedFile::Load(bool lock, const std::function<void(int64_t)>& read) const {
  constexpr int64_t kPiece = int64_t{64} << 20;
#ifndef MADV_POPULATE_READ
  constexpr int MADV_POPULATE_READ = 22;  // NOLINT: the kernel's own name, which older headers lack
#endif
  for (int64_t begin = 0; begin < bytes_; begin += kPiece) {
    const int64_t count = std::min(kPiece, bytes_ - begin);
    auto* p = const_cast<std::byte*>(data_) + begin;
    const auto bring = [&] {
      return lock ? ::mlock(p, static_cast<size_t>(count))
                  : ::madvise(p, static_cast<size_t>(count), MADV_POPULATE_READ);
    };
    int failed = bring();
    while (failed && errno == EINTR) failed = bring();
    const int error = failed ? errno : 0;
    if (lock && IsOfLocking(error)) throw LockError(path_, bytes_, error);
    if (!lock && error == EINVAL) {  // a kernel before 5.14
      ::madvise(p, static_cast<size_t>(bytes_ - begin), MADV_WILLNEED);
      break;
    }
    if (error != 0) throw FileError("cannot read " + path_, path_, error == EFAULT ? EIO : error);
    if (read) read(begin + count);
  }
}

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw FileError("cannot write " + path_, path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::Fail(const std::string& doing, int error) const {
  throw FileError(fmt::format("cannot {} {}", doing, path_), path_, error);
}

void AtomicFile::Reserve(int64_t bytes) {
  if (bytes <= 0) return;
  // Not posix_fallocate: where the file system has no such call, that one writes every block.
  if (::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, bytes) != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    Fail(fmt::format("take {} for", HumanBytes(bytes)), errno);
  }
}

void AtomicFile::Write(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, static_cast<size_t>(std::min<int64_t>(bytes, 1 << 30)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail("write", errno);
    if (n == 0) Fail("write", ENOSPC);
    p += n;
    bytes -= n;
  }
}

void AtomicFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd_, p, static_cast<size_t>(std::min<int64_t>(bytes, 1 << 30)), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail("write", errno);
    if (n == 0) Fail("write", ENOSPC);
    p += n;
    offset += n;
    bytes -= n;
  }
}

void AtomicFile::Commit() {
  FATHOM_CHECK(fd_ >= 0);
  if (::fsync(fd_) != 0) Fail("write", errno);
  // A reservation beyond the written size is given back.
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || ::ftruncate(fd_, status.st_size) != 0) Fail("write", errno);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    Fail("write", error);
  }
  SyncDirectory(Directory(path_));  // the rename itself
}

void SyncDirectory(const std::string& path) {
  const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  ::fsync(directory);
  ::close(directory);
}

void WriteFileAtomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

Result<std::string> ReadFile(const std::string& path, int64_t limit) {
  int64_t bytes = 0;
  Result<int> fd = OpenForReading(path, &bytes);
  if (!fd) return fd.error();
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd.Value()};
  if (bytes > limit) return Error("cannot read " + path, HumanBytes(bytes), "at most " + HumanBytes(limit));
  std::string out(static_cast<size_t>(bytes), '\0');
  const int error = ReadFully(closer.fd, 0, bytes, out.data());
  if (error == ENODATA) return Error("cannot read " + path, "the file became shorter while it was read");
  if (error != 0) return FileError("cannot read " + path, path, error);
  return out;
}

}  // namespace fathom::io
