#include "engine/prefix_tree.h"

#include <algorithm>
#include <random>
#include <set>
#include <unordered_map>

#include "core/error.h"

namespace fathom::engine {

struct PrefixTree::State {
  struct Entry {
    Node parent = kRoot;
    uint64_t scope = 0;
    uint64_t hash = 0;
    std::vector<int32_t> tokens;
    int32_t block = -1;  // -1: the entry is free
    bool drafts = false;
    int64_t users = 0;
    int64_t children = 0;
    uint64_t used = 0;  // time of the last use
  };

  explicit State(int64_t tokens) : block_tokens(static_cast<size_t>(tokens)) {
    std::random_device random;
    salt = uint64_t{random()} << 32 | random();
  }

  const size_t block_tokens;
  uint64_t salt;  // so that nobody outside can choose prompts whose blocks fall together
  uint64_t now = 0;
  std::vector<Entry> entries;
  std::vector<Node> free;
  std::unordered_multimap<uint64_t, Node> by_hash;
  std::set<std::pair<uint64_t, Node>> leaves;  // that nobody uses, by the time of their last use
  int64_t evictable = 0;

  Entry& At(Node node) { return entries[static_cast<size_t>(node)]; }
  Entry& Checked(Node node) {
    FATHOM_CHECK(node >= 0 && node < static_cast<Node>(entries.size()) && At(node).block >= 0);
    return At(node);
  }

  uint64_t Hash(uint64_t scope, Node parent, std::span<const int32_t> tokens) const {
    uint64_t h = salt;
    const auto mix = [&](uint64_t value) {
      h = (h ^ value) * 0x9e3779b97f4a7c15u;
      h ^= h >> 29;
    };
    mix(scope);
    mix(static_cast<uint32_t>(parent));
    for (int32_t token : tokens) mix(static_cast<uint32_t>(token));
    return h;
  }

  // kRoot: none.
  Node Find(uint64_t hash, uint64_t scope, Node parent, std::span<const int32_t> tokens) {
    const auto [begin, end] = by_hash.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
      const Entry& e = At(it->second);
      if (e.parent == parent && e.scope == scope && std::equal(tokens.begin(), tokens.end(), e.tokens.begin()))
        return it->second;
    }
    return kRoot;
  }

  bool IsFreeLeaf(const Entry& e) const { return e.users == 0 && e.children == 0; }

  void Touch(Node node) {
    Entry& e = At(node);
    const bool listed = IsFreeLeaf(e);
    if (listed) leaves.erase({e.used, node});
    e.used = ++now;
    if (listed) leaves.insert({e.used, node});
  }

  void Acquire(Node node) {
    Entry& e = At(node);
    if (IsFreeLeaf(e)) leaves.erase({e.used, node});
    if (e.users++ == 0) --evictable;
    FATHOM_CHECK(e.parent == kRoot || At(e.parent).users >= e.users);
  }
};

PrefixTree::PrefixTree(int64_t block_tokens) {
  FATHOM_CHECK(block_tokens > 0);
  state_ = std::make_unique<State>(block_tokens);
}
PrefixTree::~PrefixTree() = default;

std::vector<PrefixTree::Node> PrefixTree::Match(uint64_t scope, std::span<const int32_t> tokens) {
  std::vector<Node> path;
  Node parent = kRoot;
  for (; tokens.size() >= state_->block_tokens; tokens = tokens.subspan(state_->block_tokens)) {
    const auto block = tokens.first(state_->block_tokens);
    parent = state_->Find(state_->Hash(scope, parent, block), scope, parent, block);
    if (parent == kRoot) break;
    path.push_back(parent);
  }
  // The last first: of two nodes of one path the one behind is never the more recent.
  for (size_t i = path.size(); i-- > 0;) state_->Touch(path[i]);
  return path;
}

int32_t PrefixTree::Block(Node node) const { return state_->Checked(node).block; }
bool PrefixTree::drafts(Node node) const { return state_->Checked(node).drafts; }
int64_t PrefixTree::users(Node node) const { return state_->Checked(node).users; }

void PrefixTree::Acquire(Node node) {
  state_->Checked(node);
  state_->Acquire(node);
}

void PrefixTree::Release(Node node) {
  State::Entry& e = state_->Checked(node);
  FATHOM_CHECK(e.users > 0);
  e.used = ++state_->now;
  if (--e.users > 0) return;
  ++state_->evictable;
  if (e.children == 0) state_->leaves.insert({e.used, node});
}

PrefixTree::Inserted PrefixTree::Insert(uint64_t scope, Node parent, std::span<const int32_t> block_tokens,
                                        int32_t block, bool drafts) {
  FATHOM_CHECK(block_tokens.size() == state_->block_tokens && block >= 0);
  if (parent != kRoot) {
    const State::Entry& p = state_->Checked(parent);
    FATHOM_CHECK(p.users > 0 && p.scope == scope);
  }
  const uint64_t hash = state_->Hash(scope, parent, block_tokens);
  if (const Node found = state_->Find(hash, scope, parent, block_tokens); found != kRoot) {
    state_->Acquire(found);
    return {found, false};
  }
  Node node;
  if (state_->free.empty()) {
    node = static_cast<Node>(state_->entries.size());
    state_->entries.emplace_back();
  } else {
    node = state_->free.back();
    state_->free.pop_back();
  }
  State::Entry& e = state_->At(node);
  e.parent = parent;
  e.scope = scope;
  e.hash = hash;
  e.tokens.assign(block_tokens.begin(), block_tokens.end());
  e.block = block;
  e.drafts = drafts;
  e.users = 1;
  e.children = 0;
  e.used = ++state_->now;
  state_->by_hash.emplace(hash, node);
  if (parent != kRoot) ++state_->At(parent).children;
  return {node, true};
}

int32_t PrefixTree::Replace(Node node, int32_t block) {
  State::Entry& e = state_->Checked(node);
  FATHOM_CHECK(e.users == 1 && block >= 0);
  e.drafts = true;
  return std::exchange(e.block, block);
}

int64_t PrefixTree::Shared(std::span<const Node> path) const {
  return std::partition_point(path.begin(), path.end(), [&](Node node) { return users(node) > 1; }) - path.begin();
}

std::optional<int32_t> PrefixTree::Evict() {
  if (state_->leaves.empty()) return std::nullopt;
  const Node node = state_->leaves.begin()->second;
  state_->leaves.erase(state_->leaves.begin());
  State::Entry& e = state_->At(node);
  const auto [begin, end] = state_->by_hash.equal_range(e.hash);
  state_->by_hash.erase(std::find_if(begin, end, [&](const auto& item) { return item.second == node; }));
  if (e.parent != kRoot) {
    State::Entry& parent = state_->At(e.parent);
    if (--parent.children == 0 && parent.users == 0) state_->leaves.insert({parent.used, e.parent});
  }
  --state_->evictable;
  state_->free.push_back(node);
  return std::exchange(e.block, -1);
}

int64_t PrefixTree::size() const { return static_cast<int64_t>(state_->entries.size() - state_->free.size()); }
int64_t PrefixTree::evictable() const { return state_->evictable; }

}  // namespace fathom::engine
