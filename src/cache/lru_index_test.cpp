#include "cache/lru_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "cache/test_blocks.h"

namespace fathom::cache {
namespace {

TEST(BlockKey, EveryPartCounts) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  const BlockKey root = RootKey("model a, f32", 0), first = NextKey(root, tokens);
  EXPECT_EQ(first, NextKey(RootKey("model a, f32", 0), tokens));
  EXPECT_NE(root, RootKey("model a, bf16", 0));
  EXPECT_NE(root, RootKey("model a, f32", 1));
  EXPECT_NE(first, NextKey(RootKey("model a, f32", 1), tokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<int32_t> other = tokens;
    other[i] += 1 << 16;
    EXPECT_NE(first, NextKey(root, other));
    EXPECT_NE(NextKey(first, tokens), NextKey(NextKey(root, other), tokens)) << "the tokens before";
  }
}

std::vector<BlockKey> InOrderOfEviction(LruIndex& index) {
  std::vector<BlockKey> keys;
  while (const BlockRow* oldest = index.Oldest()) keys.push_back(index.Erase(oldest->key).key);
  EXPECT_EQ(index.size(), 0);
  return keys;
}

TEST(LruIndex, ThePathGoesFromItsEnd) {
  LruIndex index;
  const std::vector<BlockKey> a = TestKeys(1, 3), b = TestKeys(2, 2);
  for (const auto& keys : {a, b}) {
    for (size_t i = 0; i < keys.size(); ++i)
      index.Insert({.key = keys[i], .before = i == 0 ? BlockKey{} : keys[i - 1]});
  }
  index.Touch(a[1]);  // used after b: the block behind it was not
  EXPECT_EQ(InOrderOfEviction(index), (std::vector<BlockKey>{a[2], b[1], b[0], a[1], a[0]}));
}

TEST(LruIndex, WhatIsBehindAGapAgesAsTheRest) {
  LruIndex index;
  const std::vector<BlockKey> a = TestKeys(1, 3), b = TestKeys(2, 1);
  index.Insert({.key = a[2], .before = a[1]});
  index.Insert({.key = b[0], .before = {}});
  EXPECT_EQ(index.size(), 2);
  EXPECT_EQ(index.Find(a[1]), nullptr);
  index.Insert({.key = a[1], .before = a[0]});  // follows what is not there, and is followed
  EXPECT_EQ(index.Oldest()->key, a[2]);
  EXPECT_EQ(index.Erase(a[1]).key, a[1]);
  EXPECT_EQ(InOrderOfEviction(index), (std::vector<BlockKey>{a[2], b[0]}));
}

TEST(LruIndex, ChangesAreRowsAsTheyAreNow) {
  LruIndex index;
  const std::vector<BlockKey> a = TestKeys(1, 2);
  index.Insert({.key = a[0], .before = {}, .bytes = 5}, /*as_read=*/true);
  EXPECT_FALSE(index.changed());
  index.Insert({.key = a[1], .before = a[0]});
  index.Erase(a[1]);
  auto changes = index.TakeChanges();
  std::sort(changes.begin(), changes.end(),
            [](const auto& x, const auto& y) { return x.row.has_value() < y.row.has_value(); });
  ASSERT_EQ(changes.size(), 2u);  // a[0] was used when a[1] was
  EXPECT_EQ(changes[0].key, a[1]);
  EXPECT_FALSE(changes[0].row);
  EXPECT_EQ(changes[1].row->bytes, 5);
  EXPECT_FALSE(index.changed());
  index.PutBack(changes);
  EXPECT_EQ(index.TakeChanges().size(), 2u);
}

// Against a naive index over random walks: forests of prefixes with gaps.
TEST(LruIndex, IsTheNaiveOne) {
  struct Naive {
    BlockKey before;
    int64_t used;
  };
  Rng rng(5);
  std::vector<std::vector<BlockKey>> paths;
  for (int32_t p = 0; p < 8; ++p) {
    paths.push_back(TestKeys(p / 2, 6));  // in twos alike
    if (p % 2 == 1) {
      for (size_t i = 3; i < 6; ++i) {
        const int32_t other[] = {p, -1};
        paths.back()[i] = NextKey(paths.back()[i - 1], other);
      }
    }
  }
  LruIndex index;
  std::map<BlockKey, Naive> naive;
  int64_t now = 0;
  const auto oldest = [&] {
    std::vector<BlockKey> followed;
    for (const auto& [key, n] : naive) followed.push_back(n.before);
    const BlockKey* best = nullptr;
    for (const auto& [key, n] : naive) {
      if (std::count(followed.begin(), followed.end(), key) == 0 && (!best || n.used < naive.at(*best).used))
        best = &key;
    }
    return best;
  };
  const auto erase = [&](const BlockKey& key) {
    const Naive gone = naive.at(key);
    naive.erase(key);
    if (const auto it = naive.find(gone.before); it != naive.end())
      it->second.used = std::max(it->second.used, gone.used);
  };
  for (int step = 0; step < 20'000; ++step) {
    const auto& path = paths[rng.NextBelow(static_cast<int64_t>(paths.size()))];
    const auto at = static_cast<size_t>(rng.NextBelow(6));
    const BlockKey& key = path[at];
    const BlockRow* found = index.Find(key);
    ASSERT_EQ(found != nullptr, naive.count(key) == 1);
    switch (rng.NextBelow(4)) {
      case 0:
      case 1:
        if (found) break;
        index.Insert({.key = key, .before = at == 0 ? BlockKey{} : path[at - 1]});
        naive[key] = {at == 0 ? BlockKey{} : path[at - 1], ++now};
        break;
      case 2:
        index.Touch(key);
        if (found) naive[key].used = ++now;
        break;
      default:
        if (const BlockRow* first = index.Oldest()) {
          ASSERT_EQ(naive.at(first->key).used, naive.at(*oldest()).used);
          const BlockKey goes = rng.NextBelow(8) == 0 && found ? key : first->key;  // at times a damaged one
          index.Erase(goes);
          erase(goes);
        } else {
          ASSERT_TRUE(naive.empty());
        }
    }
    ASSERT_EQ(index.size(), static_cast<int64_t>(naive.size()));
  }
}

}  // namespace
}  // namespace fathom::cache
