#include "engine/prefix_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/rng.h"

namespace fathom::engine {
namespace {

using Node = PrefixTree::Node;
using Tokens = std::vector<int32_t>;

TEST(PrefixTree, FindsWholeBlocksOnly) {
  PrefixTree tree(2);
  const Tokens tokens = {1, 2, 3, 4, 5};
  EXPECT_TRUE(tree.Match(0, tokens).empty());
  const auto a = tree.Insert(0, PrefixTree::kRoot, std::span(tokens).first(2), 10, false);
  const auto b = tree.Insert(0, a.node, std::span(tokens).subspan(2, 2), 11, true);
  EXPECT_TRUE(a.fresh && b.fresh);
  EXPECT_EQ(tree.Match(0, tokens), (std::vector<Node>{a.node, b.node}));
  EXPECT_EQ(tree.Match(0, Tokens{1, 2, 3}), std::vector<Node>{a.node});
  EXPECT_EQ(tree.Match(0, Tokens{1, 2, 3, 5}), std::vector<Node>{a.node});
  EXPECT_TRUE(tree.Match(0, Tokens{3, 4}).empty());  // the same tokens elsewhere
  EXPECT_EQ(tree.Block(b.node), 11);
  EXPECT_FALSE(tree.drafts(a.node));
  EXPECT_TRUE(tree.drafts(b.node));
}

TEST(PrefixTree, ScopesAreApart) {
  PrefixTree tree(1);
  const auto a = tree.Insert(7, PrefixTree::kRoot, Tokens{1}, 0, false);
  EXPECT_TRUE(tree.Match(8, Tokens{1}).empty());
  const auto b = tree.Insert(8, PrefixTree::kRoot, Tokens{1}, 1, false);
  EXPECT_TRUE(b.fresh);
  EXPECT_EQ(tree.Match(7, Tokens{1, 2}), std::vector<Node>{a.node});
  EXPECT_EQ(tree.Match(8, Tokens{1, 2}), std::vector<Node>{b.node});
}

TEST(PrefixTree, SecondOfEqualBlocksIsNotPut) {
  PrefixTree tree(1);
  const auto a = tree.Insert(0, PrefixTree::kRoot, Tokens{1}, 0, false);
  const auto b = tree.Insert(0, PrefixTree::kRoot, Tokens{1}, 1, false);
  EXPECT_FALSE(b.fresh);
  EXPECT_EQ(a.node, b.node);
  EXPECT_EQ(tree.users(a.node), 2);
  EXPECT_EQ(tree.Block(a.node), 0);
  EXPECT_EQ(tree.size(), 1);
}

TEST(PrefixTree, TheOnlyUserReplacesABlock) {
  PrefixTree tree(1);
  const Node node = tree.Insert(0, PrefixTree::kRoot, Tokens{1}, 5, false).node;
  EXPECT_EQ(tree.Replace(node, 6), 5);
  EXPECT_EQ(tree.Block(node), 6);
  EXPECT_TRUE(tree.drafts(node));
  tree.Release(node);
  EXPECT_EQ(tree.Evict(), 6);
}

TEST(PrefixTree, EvictsTheLeastRecentlyUsedLeaf) {
  PrefixTree tree(1);
  const auto put = [&](Node parent, int32_t token) { return tree.Insert(0, parent, Tokens{token}, token, false).node; };
  // 1 - 2, 1 - 3, 4
  const Node n1 = put(PrefixTree::kRoot, 1), n2 = put(n1, 2);
  tree.Acquire(n1);
  const Node n3 = put(n1, 3), n4 = put(PrefixTree::kRoot, 4);
  EXPECT_EQ(tree.Evict(), std::nullopt);
  for (Node node : {n2, n1, n4, n3, n1}) tree.Release(node);
  EXPECT_EQ(tree.evictable(), 4);
  tree.Match(0, Tokens{1, 2});
  EXPECT_EQ(tree.Evict(), 4);
  EXPECT_EQ(tree.Evict(), 3);
  EXPECT_EQ(tree.Evict(), 2);  // its parent was older, but stands before it
  EXPECT_EQ(tree.Evict(), 1);
  EXPECT_EQ(tree.Evict(), std::nullopt);
  EXPECT_EQ(tree.size(), 0);
}

// Blocks found by walking lists of all paths; times of use in a plain map.
class Naive {
 public:
  struct Item {
    uint64_t scope;
    std::vector<Tokens> path;  // its block last
    int32_t block;
    bool drafts;
    int64_t users;
    uint64_t used;
  };
  std::map<Node, Item> items;
  uint64_t now = 0;

  Node Find(uint64_t scope, const std::vector<Tokens>& path) const {
    for (const auto& [node, item] : items) {
      if (item.scope == scope && item.path == path) return node;
    }
    return PrefixTree::kRoot;
  }
  bool HasChildren(const Item& parent) const {
    return std::any_of(items.begin(), items.end(), [&](const auto& other) {
      const Item& o = other.second;
      return o.scope == parent.scope && o.path.size() == parent.path.size() + 1 &&
             std::equal(parent.path.begin(), parent.path.end(), o.path.begin());
    });
  }
  Node Oldest() const {
    Node oldest = PrefixTree::kRoot;
    for (const auto& [node, item] : items) {
      if (item.users > 0 || HasChildren(item)) continue;
      if (oldest == PrefixTree::kRoot || item.used < items.at(oldest).used) oldest = node;
    }
    return oldest;
  }
  int64_t Unused() const {
    return std::count_if(items.begin(), items.end(), [](const auto& i) { return i.second.users == 0; });
  }
};

// Sequences come, take what is there, add blocks, and go; the tree evicts; every answer is the naive one's.
TEST(PrefixTree, AsTheNaiveOne) {
  constexpr int64_t kTokens = 3;
  int64_t evicted = 0, shared = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    PrefixTree tree(kTokens);
    Naive naive;
    struct Sequence {
      uint64_t scope;
      std::vector<Tokens> path;
      std::vector<Node> nodes;
    };
    std::vector<Sequence> sequences;
    int32_t next_block = 0;
    const auto random_block = [&] {
      Tokens block(kTokens, 0);
      block[static_cast<size_t>(rng.NextBelow(kTokens))] = static_cast<int32_t>(rng.NextBelow(2));
      return block;
    };
    for (int step = 0; step < 600; ++step) {
      switch (rng.NextBelow(5)) {
        case 0: {  // a sequence comes
          Sequence s{static_cast<uint64_t>(rng.NextBelow(2)), {}, {}};
          Tokens tokens;
          std::vector<Tokens> blocks;
          for (int64_t i = rng.NextBelow(5); i-- > 0;) {
            blocks.push_back(random_block());
            tokens.insert(tokens.end(), blocks.back().begin(), blocks.back().end());
          }
          tokens.resize(tokens.size() + static_cast<size_t>(rng.NextBelow(kTokens)));
          std::vector<Node> expected;
          for (size_t n = 1; n <= blocks.size(); ++n) {
            const Node node = naive.Find(s.scope, {blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(n)});
            if (node == PrefixTree::kRoot) break;
            expected.push_back(node);
          }
          s.nodes = tree.Match(s.scope, tokens);
          ASSERT_EQ(s.nodes, expected);
          for (size_t i = expected.size(); i-- > 0;) naive.items.at(expected[i]).used = ++naive.now;
          blocks.resize(expected.size());
          s.path = blocks;
          if (rng.NextBelow(4) == 0) break;  // only asked
          for (Node node : s.nodes) {
            tree.Acquire(node);
            ++naive.items.at(node).users;
          }
          shared += static_cast<int64_t>(s.nodes.size());
          sequences.push_back(s);
          break;
        }
        case 1:
        case 2: {  // one goes on
          if (sequences.empty()) break;
          Sequence& s = sequences[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(sequences.size())))];
          if (s.path.size() > 6) break;
          const Tokens block = random_block();
          s.path.push_back(block);
          const Node there = naive.Find(s.scope, s.path), parent = s.nodes.empty() ? PrefixTree::kRoot : s.nodes.back();
          const bool drafts = rng.NextBelow(2) == 0;
          const auto put = tree.Insert(s.scope, parent, block, next_block, drafts);
          ASSERT_EQ(put.fresh, there == PrefixTree::kRoot);
          if (put.fresh) {
            ASSERT_EQ(naive.items.count(put.node), 0u);
            naive.items[put.node] = {s.scope, s.path, next_block++, drafts, 1, ++naive.now};
          } else {
            ASSERT_EQ(put.node, there);
            ++naive.items.at(there).users;
          }
          s.nodes.push_back(put.node);
          break;
        }
        case 3: {  // one goes
          if (sequences.empty()) break;
          const auto at = sequences.begin() + rng.NextBelow(static_cast<int64_t>(sequences.size()));
          for (size_t i = at->nodes.size(); i-- > 0;) {
            tree.Release(at->nodes[i]);
            --naive.items.at(at->nodes[i]).users;
            naive.items.at(at->nodes[i]).used = ++naive.now;
          }
          sequences.erase(at);
          break;
        }
        case 4: {  // a block is wanted
          const Node oldest = naive.Oldest();
          const std::optional<int32_t> block = tree.Evict();
          ASSERT_EQ(block.has_value(), oldest != PrefixTree::kRoot);
          if (!block) break;
          ASSERT_EQ(*block, naive.items.at(oldest).block);
          naive.items.erase(oldest);
          ++evicted;
          break;
        }
      }
      ASSERT_EQ(tree.size(), static_cast<int64_t>(naive.items.size()));
      ASSERT_EQ(tree.evictable(), naive.Unused());
      for (const Sequence& s : sequences) {
        const auto shared_by = [&](Node node) { return naive.items.at(node).users > 1; };
        ASSERT_EQ(tree.Shared(s.nodes), std::count_if(s.nodes.begin(), s.nodes.end(), shared_by));
      }
      for (const auto& [node, item] : naive.items) {
        ASSERT_EQ(tree.Block(node), item.block);
        ASSERT_EQ(tree.drafts(node), item.drafts);
        ASSERT_EQ(tree.users(node), item.users);
      }
    }
    // All that nobody uses can be evicted, one after the other.
    for (int64_t left = tree.evictable(); left > 0; --left) ASSERT_TRUE(tree.Evict().has_value());
    ASSERT_FALSE(tree.Evict().has_value());
  }
  EXPECT_GT(evicted, 400);  // the walk visits what it is meant to
  EXPECT_GT(shared, 400);
}

}  // namespace
}  // namespace fathom::engine
