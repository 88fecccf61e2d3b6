// Files: mapped for reading, written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace fathom::io {

// Keeps memory where it is: the system may not take its pages. Throws Error, about `what`, where it does not let so
// much be locked.
void LockMemory(const void* data, int64_t bytes, const std::string& what);

// A whole file mapped read-only. Opening reads nothing of it. The mapping begins at a page's boundary. A file that
// another process truncates while it is mapped ends this process (SIGBUS), as with every mapping.
class MappedFile {
 public:
  static Result<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Copies file bytes [begin, begin + count) through read(), so that an unreadable disk is an Error and not a signal.
  Result<std::string> Read(int64_t begin, int64_t count) const;
  // Reads all of it into memory and maps it, so that the first use of a byte waits for nothing; `lock`: and keeps it
  // there until the file is closed. read(bytes so far) is called between pieces of at most 64 MiB, and may throw.
  // Throws Error where the disk cannot be read or the system does not let so much be locked.
  void Load(bool lock, const std::function<void(int64_t)>& read) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  int fd_ = -1;
};

// A file that appears under its name only when it is complete: written beside it as NAME.tmp-PID, synchronised,
// renamed. Without Commit() nothing remains, and what was there before stays. Every failure is an Error with the path.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Takes the space at once, so that a full disk is met before the work. Only reserves: the size is what is written.
  void Reserve(int64_t bytes);
  void Write(const void* data, int64_t bytes);
  void Write(std::string_view text) { Write(text.data(), static_cast<int64_t>(text.size())); }
  // Writes at an offset, independent of Write() and of other threads' WriteAt().
  void WriteAt(int64_t offset, const void* data, int64_t bytes);
  void Commit();

 private:
  [[noreturn]] void Fail(const std::string& doing, int error) const;
  std::string path_, temporary_;
  int fd_ = -1;
};

// The names in a folder reach the disk. Without effect where the file system refuses it for folders.
void SyncDirectory(const std::string& path);

void WriteFileAtomically(const std::string& path, std::string_view text);

// The whole of a small file, refused if larger than `limit` bytes.
Result<std::string> ReadFile(const std::string& path, int64_t limit);

// "1.50 GB" (powers of ten, as file sizes and datasheets are given).
std::string HumanBytes(int64_t bytes);

// What an errno of a file operation means to its user.
Error FileError(const std::string& what, const std::string& path, int error);

}  // namespace fathom::io
