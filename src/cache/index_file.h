// The index on the disk: an SQLite database of one table, a row a block. Each row has a seal over its other fields, so
// that a row that was damaged is as good as none. Not thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cache/lru_index.h"
#include "core/error.h"

namespace fathom::cache {

class IndexFile {
 public:
  struct Opened {
    std::unique_ptr<IndexFile> file;
    std::vector<BlockRow> rows;  // least recently used first
    int64_t damaged = 0;         // rows that were dropped
    std::string renewed;         // why what was there was thrown away; empty: it was not
  };
  // Makes it if there is none. A database that cannot be read, or of another version, is deleted and made again.
  static Result<Opened> Open(const std::string& path);

  // All or none.
  std::optional<Error> Write(const std::vector<LruIndex::Change>& changes);

  ~IndexFile();
  IndexFile(const IndexFile&) = delete;
  IndexFile& operator=(const IndexFile&) = delete;

 private:
  struct Handles;
  explicit IndexFile(std::unique_ptr<Handles> handles);
  static Result<Opened> TryOpen(const std::string& path, bool* unreadable);
  std::unique_ptr<Handles> handles_;
};

}  // namespace fathom::cache
