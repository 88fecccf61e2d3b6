// For tests: a scratch directory, and prefixes of blocks whose bytes follow from their keys.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cache/disk_store.h"
#include "core/rng.h"

namespace fathom::cache {

class TestDirectory {
 public:
  explicit TestDirectory(const std::string& name = "store")
      : path_(Parent() / ("fathom_cache_" + name + "_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~TestDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  // In memory where that can be: the store's own fsync would be most of a test's time.
  static std::filesystem::path Parent() {
    const std::filesystem::path memory = "/dev/shm";
    return ::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
  }
  std::filesystem::path path_;
};

// The keys of a prefix of n blocks; `seed` says which.
inline std::vector<BlockKey> TestKeys(int32_t seed, int64_t n) {
  std::vector<BlockKey> keys;
  BlockKey key = RootKey("a test's model", 0);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t tokens[] = {seed, static_cast<int32_t>(i)};
    keys.push_back(key = NextKey(key, tokens));
  }
  return keys;
}

inline std::vector<std::byte> TestBytes(const BlockKey& key, int64_t n) {
  Rng rng(BlockKeyHash()(key), 1);
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng.NextU32());
  return bytes;
}

// How many were taken.
inline int64_t PutAll(BlockStore& store, const std::vector<BlockKey>& keys, int64_t block_bytes) {
  int64_t taken = 0;
  for (size_t i = 0; i < keys.size(); ++i)
    taken += store.Put(keys[i], i == 0 ? nullptr : &keys[i - 1], TestBytes(keys[i], block_bytes)) ? 1 : 0;
  return taken;
}

// Loads them all; every block that comes must be what was put under its key. How many came.
inline int64_t LoadAll(BlockStore& store, const std::vector<BlockKey>& keys) {
  const auto load = store.Load(keys);
  size_t n = 0;
  while (!load->Ended()) {
    load->Wait(10);
    while (const auto bytes = load->Take()) {
      EXPECT_LT(n, keys.size());
      EXPECT_EQ(*bytes, TestBytes(keys[n], static_cast<int64_t>(bytes->size()))) << "block " << n;
      ++n;
    }
  }
  return static_cast<int64_t>(n);
}

}  // namespace fathom::cache
