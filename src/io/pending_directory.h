// A directory that exists under its own name only when it is complete: built beside it as NAME.tmp-PID.
#pragma once

#include <string>

#include "io/file.h"

namespace fathom::io {

class PendingDirectory {
 public:
  // Makes the directory under its temporary name, and the folders above it. Throws Error.
  explicit PendingDirectory(std::string out);
  ~PendingDirectory();  // removes what was not committed
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  const std::string& path() const { return temporary_; }
  const std::string& target() const { return out_; }

  // Gives it its name, on the disk too. What has the name now is replaced as a whole; the two change places in one
  // step where the file system can.
  void Commit();

 private:
  std::string out_, temporary_;
};

// Whether a file's name is one that an AtomicFile or a PendingDirectory has before it is complete.
bool IsTemporaryName(const std::string& name);

}  // namespace fathom::io
