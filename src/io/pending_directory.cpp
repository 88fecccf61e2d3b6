#include "io/pending_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace fathom::io {
namespace {
namespace fs = std::filesystem;
}  // namespace

PendingDirectory::PendingDirectory(std::string out) : out_(std::move(out)) {
  while (out_.size() > 1 && out_.back() == '/') out_.pop_back();
  temporary_ = fmt::format("{}.tmp-{}", out_, ::getpid());
  std::error_code error;
  fs::remove_all(temporary_, error);  // of a killed process with the same number
  if (!fs::create_directories(temporary_, error) && error)
    throw FileError("cannot make the directory " + temporary_, temporary_, error.value());
}

PendingDirectory::~PendingDirectory() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void PendingDirectory::Commit() {
  SyncDirectory(temporary_);
  std::error_code error;
  if (!fs::exists(out_, error) || fs::is_empty(out_, error)) {
    fs::rename(temporary_, out_, error);  // over an empty directory too
  } else if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) != 0) {
    const std::string aside = fmt::format("{}.tmp-{}-old", out_, ::getpid());
    fs::rename(out_, aside, error);
    if (!error) fs::rename(temporary_, out_, error);
    std::error_code ignored;
    if (error && !fs::exists(out_, ignored)) fs::rename(aside, out_, ignored);
    fs::remove_all(aside, ignored);
  }
  if (error) throw FileError("cannot write " + out_, out_, error.value());
  const std::string parent = fs::path(out_).parent_path().string();
  SyncDirectory(parent.empty() ? "." : parent);
}

bool IsTemporaryName(const std::string& name) { return name.find(".tmp-") != std::string::npos; }

}  // namespace fathom::io
