#include "cache/lru_index.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::cache {

const BlockRow* LruIndex::Find(const BlockKey& key) const {
  const auto it = entries_.find(key);
  return it != entries_.end() && it->second.present ? &it->second.row : nullptr;
}

void LruIndex::Insert(BlockRow row, bool as_read) {
  row.used = ++now_;
  if (!IsFirst(row)) {
    const auto [before, fresh] = entries_.try_emplace(row.before);
    if (fresh) ++absent_;
    if (IsLeaf(before->second)) Delist(before->second);
    ++before->second.followers;
  }
  const auto [it, fresh] = entries_.try_emplace(row.key);
  Entry& e = it->second;
  FATHOM_CHECK(!e.present);
  if (!fresh) --absent_;
  e.present = true;
  e.row = row;
  if (IsLeaf(e)) Enlist(e);
  if (!as_read) changed_.insert(row.key);
}

BlockRow LruIndex::Erase(BlockKey key) {  // a copy: the caller's may be the entry's own
  const auto it = entries_.find(key);
  FATHOM_CHECK(it != entries_.end() && it->second.present);
  const BlockRow row = it->second.row;
  if (IsLeaf(it->second)) Delist(it->second);
  if (it->second.followers > 0) {
    it->second.present = false;
    ++absent_;
  } else {
    entries_.erase(it);
  }
  changed_.insert(key);
  if (IsFirst(row)) return row;
  const auto before = entries_.find(row.before);
  Entry& b = before->second;
  --b.followers;
  if (!b.present) {
    if (b.followers > 0) return row;
    entries_.erase(before);
    --absent_;
    return row;
  }
  if (row.used > b.row.used) {
    b.row.used = row.used;
    changed_.insert(row.before);
  }
  if (IsLeaf(b)) Enlist(b);
  return row;
}

void LruIndex::Touch(const BlockKey& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || !it->second.present) return;
  Entry& e = it->second;
  if (IsLeaf(e)) Delist(e);
  e.row.used = ++now_;
  if (IsLeaf(e)) Enlist(e);
  changed_.insert(key);
}

const BlockRow* LruIndex::Oldest() const {
  return leaves_.empty() ? nullptr : &entries_.at(leaves_.begin()->second).row;
}

std::vector<LruIndex::Change> LruIndex::TakeChanges() {
  std::vector<Change> changes;
  for (const BlockKey& key : changed_) {
    const BlockRow* row = Find(key);
    changes.push_back({key, row ? std::optional(*row) : std::nullopt});
  }
  changed_.clear();
  return changes;
}

void LruIndex::PutBack(const std::vector<Change>& changes) {
  for (const Change& c : changes) changed_.insert(c.key);
}

}  // namespace fathom::cache
