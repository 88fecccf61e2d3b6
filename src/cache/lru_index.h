// What the store holds and where, and what goes first: blocks form trees, as prefixes do, and of the blocks that none
// follows the least recently used goes first. Time is a counter, so that clocks do not matter. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cache/block_key.h"

namespace fathom::cache {

// A row of the index. The checksum is of key, size and bytes.
struct BlockRow {
  BlockKey key;
  BlockKey before;    // zeros: a prompt's first
  int64_t bytes = 0;  // also says in which file
  int64_t offset = 0;
  uint64_t checksum = 0;
  int64_t used = 0;  // the larger, the later
};

class LruIndex {
 public:
  const BlockRow* Find(const BlockKey& key) const;
  // Used now, unless the row is `as_read`: of an index that is opened again, least recent first. The key is new.
  void Insert(BlockRow row, bool as_read = false);
  // A block's last use is one of what is before it too.
  BlockRow Erase(BlockKey key);
  void Touch(const BlockKey& key);
  const BlockRow* Oldest() const;  // null: there is none
  int64_t size() const { return static_cast<int64_t>(entries_.size()) - absent_; }

  // Keys whose rows have changed since they were taken: as they are now, nothing if they are gone.
  struct Change {
    BlockKey key;
    std::optional<BlockRow> row;
  };
  std::vector<Change> TakeChanges();
  void PutBack(const std::vector<Change>& changes);  // they could not be written
  bool changed() const { return !changed_.empty(); }
  void MarkChanged(const BlockKey& key) { changed_.insert(key); }

 private:
  struct Entry {
    BlockRow row;
    int64_t followers = 0;
    bool present = false;  // false: only known as what others follow
  };
  using Entries = std::unordered_map<BlockKey, Entry, BlockKeyHash>;
  bool IsLeaf(const Entry& e) const { return e.present && e.followers == 0; }
  void Enlist(const Entry& e) { leaves_.insert({e.row.used, e.row.key}); }
  void Delist(const Entry& e) { leaves_.erase({e.row.used, e.row.key}); }
  static bool IsFirst(const BlockRow& row) { return row.before == BlockKey{}; }

  Entries entries_;
  int64_t absent_ = 0;
  int64_t now_ = 0;
  std::set<std::pair<int64_t, BlockKey>> leaves_;  // by the time of their last use
  std::unordered_set<BlockKey, BlockKeyHash> changed_;
};

}  // namespace fathom::cache
