// The store over restarts, limits, damage, full disks and sudden ends.
#include "cache/disk_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <mutex>
#include <thread>

#include "cache/slot_file.h"
#include "cache/test_blocks.h"
#include "io/file.h"

namespace fathom::cache {
namespace {

constexpr int64_t kBlock = 10'000;  // three pages
constexpr int64_t kSlot = 12'288;

struct Warnings {
  std::mutex mutex;
  std::vector<std::string> texts;
  std::function<void(const Error&)> Collect() {
    return [this](const Error& e) {
      const std::lock_guard lock(mutex);
      texts.push_back(e.what());
    };
  }
};

DiskStoreOptions In(const TestDirectory& directory, int64_t blocks = 1000) {
  return {.directory = directory.path(), .limit_bytes = blocks * kSlot};
}

// A store with three prefixes, closed again.
void Fill(const TestDirectory& directory) {
  DiskStore store(In(directory));
  for (int32_t p = 0; p < 3; ++p) EXPECT_EQ(PutAll(store, TestKeys(p, 4), kBlock), 4);
}

TEST(DiskStoreThread, WhatIsPutComesBackAfterARestart) {
  TestDirectory directory;
  const std::vector<BlockKey> keys = TestKeys(0, 20), longer = TestKeys(0, 25);
  {
    DiskStore store(In(directory));
    EXPECT_EQ(store.Find(keys), 0);
    EXPECT_EQ(PutAll(store, keys, kBlock), 20);
    store.Flush();
    EXPECT_EQ(store.Find(longer), 20);
    EXPECT_EQ(LoadAll(store, keys), 20);
    const StoreStats s = store.stats();
    EXPECT_EQ(s.blocks, 20);
    EXPECT_EQ(s.bytes, 20 * kSlot);
    EXPECT_EQ(s.stored_bytes, 20 * kBlock);
    EXPECT_EQ(s.loaded, 20);
    EXPECT_EQ(s.queued_bytes, 0);
    EXPECT_TRUE(s.writable);
    EXPECT_GT(store.ReadSeconds(kBlock), 0);
  }
  Warnings w;
  DiskStoreOptions options = In(directory);
  options.warn = w.Collect();
  DiskStore store(options);
  EXPECT_EQ(store.stats().blocks, 20);
  EXPECT_EQ(LoadAll(store, longer), 20);
  EXPECT_EQ(store.stats().damaged, 0);
  EXPECT_TRUE(w.texts.empty());
  EXPECT_EQ(LoadAll(store, TestKeys(1, 3)), 0);
  EXPECT_EQ(LoadAll(store, {}), 0);
  EXPECT_EQ(std::filesystem::status(directory.path()).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
}

TEST(DiskStoreThread, ALongerVersionReplacesAShorter) {
  TestDirectory directory;
  const std::vector<BlockKey> keys = TestKeys(0, 2);
  for (int run = 0; run < 2; ++run) {
    DiskStore store(In(directory));
    if (run == 0) {
      EXPECT_EQ(PutAll(store, keys, 5000), 2);
      EXPECT_TRUE(store.Put(keys[1], &keys[0], TestBytes(keys[1], kBlock)));
      store.Flush();
      EXPECT_EQ(PutAll(store, keys, 5000), 2);  // known: nothing is written
      store.Flush();
      EXPECT_EQ(store.stats().stored, 3);
    }
    const auto load = store.Load(keys);
    std::vector<size_t> sizes;
    while (!load->Ended()) {
      load->Wait(10);
      while (const auto bytes = load->Take()) sizes.push_back(bytes->size());
    }
    EXPECT_EQ(sizes, (std::vector<size_t>{5000, kBlock}));
    EXPECT_EQ(store.stats().blocks, 2);
  }
}

TEST(DiskStoreThread, TheLimitHoldsAndTheLeastRecentlyUsedGoes) {
  TestDirectory directory;
  const std::vector<BlockKey> a = TestKeys(1, 4), b = TestKeys(2, 4), c = TestKeys(3, 4), d = TestKeys(4, 3);
  {
    DiskStore store(In(directory, 12));
    for (const auto* keys : {&a, &b, &c}) EXPECT_EQ(PutAll(store, *keys, kBlock), 4);
    store.Flush();
    EXPECT_EQ(LoadAll(store, a), 4);  // used now
    store.Touch(b[1]);
  }
  {
    DiskStore store(In(directory, 12));  // remembers the order
    EXPECT_EQ(PutAll(store, d, kBlock), 3);
    store.Flush();
    EXPECT_EQ(store.stats().evicted, 3);
    EXPECT_EQ(store.Find(a), 4);
    EXPECT_EQ(store.Find(b), 2);  // what followed the block that was touched goes first
    EXPECT_EQ(store.Find(c), 3);
    EXPECT_EQ(store.Find(d), 3);
    EXPECT_EQ(store.stats().bytes, 12 * kSlot);
    EXPECT_LE(std::filesystem::file_size(directory / SlotFile::Name(kBlock)), static_cast<uint64_t>(12 * kSlot));
  }
  DiskStore store(In(directory, 4));  // a smaller limit than before
  EXPECT_EQ(store.stats().blocks, 4);
  EXPECT_LE(store.stats().bytes, 4 * kSlot);
  EXPECT_EQ(store.Find(d), 3);
  EXPECT_FALSE(store.Put(TestKeys(9, 1)[0], nullptr, std::vector<std::byte>(5 * kSlot)));  // larger than all
  EXPECT_EQ(LoadAll(store, d), 3);
}

// Bytes of blocks on the disk, as the system counts them.
int64_t DiskBytes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_blocks * 512 : 0;
}

TEST(DiskStoreThread, BlocksOfAnotherModelMakeRoomToo) {
  TestDirectory directory;
  DiskStore store(In(directory, 10));
  PutAll(store, TestKeys(1, 10), kBlock);
  PutAll(store, TestKeys(2, 4), 2 * kSlot);
  store.Flush();
  EXPECT_EQ(store.Find(TestKeys(2, 4)), 4);
  EXPECT_EQ(store.Find(TestKeys(1, 10)), 2);
  EXPECT_LE(store.stats().bytes, 10 * kSlot);
  EXPECT_LE(DiskBytes(directory / SlotFile::Name(kBlock)) + DiskBytes(directory / SlotFile::Name(2 * kSlot)),
            10 * kSlot);
  EXPECT_EQ(LoadAll(store, TestKeys(1, 2)), 2);
  EXPECT_EQ(LoadAll(store, TestKeys(2, 4)), 4);
}

TEST(DiskStoreThread, AFullQueueDropsAndAGapIsNotStoredBehind) {
  TestDirectory directory;
  DiskStoreOptions options = In(directory);
  options.queue_bytes = kBlock - 1;
  DiskStore full(options);
  EXPECT_EQ(PutAll(full, TestKeys(0, 3), kBlock), 0);
  EXPECT_EQ(full.stats().dropped, 3);
  TestDirectory other("other");
  DiskStore store(In(other));
  const std::vector<BlockKey> keys = TestKeys(0, 3);
  EXPECT_FALSE(store.Put(keys[1], &keys[0], TestBytes(keys[1], kBlock)));
  EXPECT_TRUE(store.Put(keys[0], nullptr, TestBytes(keys[0], kBlock)));
  EXPECT_TRUE(store.Put(keys[1], &keys[0], TestBytes(keys[1], kBlock)));
}

TEST(DiskStoreThread, OneDirectoryHasOneProcess) {
  TestDirectory directory;
  DiskStore first(In(directory));
  try {
    DiskStore second(In(directory));
    FAIL() << "two stores have one directory";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(directory.path()), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("process " + std::to_string(::getpid())), std::string::npos) << e.what();
  }
  EXPECT_EQ(PutAll(first, TestKeys(0, 2), kBlock), 2);
}

// What happens with a store whose files were changed: every block that comes is whole (LoadAll sees to that), at most
// `most` do, and it can be used as before.
void ExpectSurvives(const TestDirectory& directory, int64_t most, const std::string& what) {
  SCOPED_TRACE(what);
  int64_t came = 0;
  for (int run = 0; run < 2; ++run) {
    DiskStore store(In(directory));
    came = 0;
    for (int32_t p = 0; p < 3; ++p) came += LoadAll(store, TestKeys(p, 4));
    EXPECT_LE(came, most);
    if (run == 1) {
      EXPECT_EQ(store.stats().damaged, 0) << "found once, gone for good";
    }
  }
  Fill(directory);
  DiskStore store(In(directory));
  for (int32_t p = 0; p < 3; ++p) EXPECT_EQ(LoadAll(store, TestKeys(p, 4)), 4);
  EXPECT_LE(store.stats().bytes, 13 * kSlot);
}

void Sql(const std::string& path, const std::string& text) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, text.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  sqlite3_close(db);
}

TEST(DiskStoreThread, DamageInEveryFieldOfARow) {
  const std::string row = " WHERE key = (SELECT key FROM blocks ORDER BY used LIMIT 1)";  // the first of prefix 0
  for (const char* change : {"UPDATE blocks SET key = randomblob(32)",
                             "UPDATE blocks SET key = x'00'",
                             "UPDATE blocks SET key = 'text'",
                             "UPDATE blocks SET before = randomblob(32)",
                             "UPDATE blocks SET before = key",
                             "UPDATE blocks SET before = NULL",
                             "UPDATE blocks SET bytes = bytes + 1",
                             "UPDATE blocks SET bytes = -1",
                             "UPDATE blocks SET bytes = 1 << 60",
                             "UPDATE blocks SET bytes = 'x'",
                             "UPDATE blocks SET offset = offset + 12288",
                             "UPDATE blocks SET offset = 1",
                             "UPDATE blocks SET offset = -12288",
                             "UPDATE blocks SET offset = 1 << 61",
                             "UPDATE blocks SET checksum = 0",
                             "UPDATE blocks SET used = used + 1",
                             "UPDATE blocks SET used = -5",
                             "UPDATE blocks SET used = 9223372036854775807",
                             "UPDATE blocks SET seal = seal + 1",
                             "DELETE FROM blocks"}) {
    TestDirectory directory;
    Fill(directory);
    Sql(directory / "index.sqlite", change + row);
    ExpectSurvives(directory, 8, change);
  }
}

TEST(DiskStoreThread, RowsThatAreSealedAndWrong) {
  // Two rows that are right in themselves name one place: the second of them is dropped.
  TestDirectory directory, copy("copy");
  Fill(directory);
  std::filesystem::copy(directory.path(), copy.path());
  {
    DiskStore store(In(directory, 3));  // the first block's place has another block now
    PutAll(store, TestKeys(7, 3), kBlock);
  }
  std::filesystem::copy_file(copy / "index.sqlite", directory / "index.sqlite",
                             std::filesystem::copy_options::overwrite_existing);
  ExpectSurvives(directory, 9, "an index that is older than the files");
}

TEST(DiskStoreThread, DamageInTheFilesOfBlocks) {
  const auto file = [](const TestDirectory& d) { return d / SlotFile::Name(kBlock); };
  // 12 blocks in the order in which they were put.
  for (const int64_t at : {int64_t{0}, kBlock - 1, kSlot, 5 * kSlot + 77, 11 * kSlot + kBlock - 1}) {
    TestDirectory directory;
    Fill(directory);
    std::fstream f(file(directory), std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(at);
    const int c = f.get();
    f.seekp(at);
    f.put(static_cast<char>(c ^ 1));
    f.close();
    ExpectSurvives(directory, 12 - (4 - at / kSlot % 4), "a bit at " + std::to_string(at));
  }
  for (const int64_t size : {int64_t{0}, int64_t{1}, kBlock - 1, 5 * kSlot, 11 * kSlot + kBlock - 1}) {
    TestDirectory directory;
    Fill(directory);
    std::filesystem::resize_file(file(directory), static_cast<uint64_t>(size));
    ExpectSurvives(directory, (size + kSlot - kBlock) / kSlot, "cut to " + std::to_string(size));
  }
  TestDirectory directory;
  Fill(directory);
  std::filesystem::remove(file(directory));
  ExpectSurvives(directory, 0, "removed");
  std::filesystem::remove(file(directory));
  std::filesystem::create_directory(file(directory));
  {
    DiskStore store(In(directory));
    EXPECT_EQ(PutAll(store, TestKeys(0, 1), kBlock), 1);
    store.Flush();
    EXPECT_EQ(store.stats().blocks, 0);
    EXPECT_EQ(store.stats().write_errors, 1);
  }
  std::filesystem::remove(file(directory));
  ExpectSurvives(directory, 0, "was a directory");
}

TEST(DiskStoreThread, DamageInTheIndexFile) {
  const auto damage = [](const std::function<void(const std::string& path)>& change, const std::string& what) {
    TestDirectory directory;
    Fill(directory);
    change(directory / "index.sqlite");
    ExpectSurvives(directory, 12, what);
  };
  const auto put = [](const std::string& path, int64_t at, const std::string& text) {
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(at);
    f << text;
  };
  damage([&](const std::string& p) { put(p, 0, "not a database at all"); }, "head");
  damage([&](const std::string& p) { std::filesystem::resize_file(p, 0); }, "empty");
  damage([&](const std::string& p) { std::filesystem::resize_file(p, 100); }, "cut");
  damage([&](const std::string& p) { std::filesystem::resize_file(p, 5000); }, "cut in a page");
  damage([&](const std::string& p) { Sql(p, "PRAGMA user_version = 99"); }, "another version");
  damage([&](const std::string& p) { Sql(p, "DROP TABLE blocks"); }, "no table");
  damage([&](const std::string& p) { Sql(p, "ALTER TABLE blocks DROP COLUMN seal"); }, "a column less");
  damage([&](const std::string& p) { put(p + "-wal", 0, std::string(5000, 'x')); }, "no log");
  damage([&](const std::string& p) { io::WriteFileAtomically(p + "-wal", std::string(50'000, 'x')); }, "a wrong log");
  Rng rng(3);
  for (int i = 0; i < 40; ++i) {
    damage(
        [&](const std::string& p) {
          const auto size = static_cast<int64_t>(std::filesystem::file_size(p));
          for (int n = 0; n < 3; ++n) put(p, rng.NextBelow(size), std::string(1, static_cast<char>(rng.NextU32())));
        },
        "three bytes, " + std::to_string(i));
  }
}

// Runs f in a process of its own; its exit status.
template <class F>
int InChild(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    f();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(DiskStore, AFullDiskOnlyStopsStoring) {
  TestDirectory directory;
  EXPECT_EQ(InChild([&] {
              struct rlimit limit {
                5 * kSlot, RLIM_INFINITY
              };
              ::setrlimit(RLIMIT_FSIZE, &limit);  // what is beyond: EFBIG
              Warnings w;
              DiskStoreOptions options = In(directory);
              options.warn = w.Collect();
              options.retry_seconds = 0.05;
              const std::vector<BlockKey> keys = TestKeys(0, 9);
              DiskStore store(options);
              PutAll(store, keys, kBlock);
              store.Flush();
              EXPECT_GE(store.stats().write_errors, 1);
              EXPECT_FALSE(store.stats().writable);
              EXPECT_GE(store.stats().dropped, 1);
              EXPECT_EQ(store.stats().queued_bytes, 0);
              EXPECT_FALSE(store.Put(TestKeys(1, 1)[0], nullptr, TestBytes(keys[0], kBlock)));
              const int64_t kept = store.Find(keys);
              EXPECT_LE(kept, 5);
              EXPECT_EQ(LoadAll(store, keys), kept);  // reading goes on
              EXPECT_EQ(w.texts.size(), 1u);          // once
              limit.rlim_cur = RLIM_INFINITY;
              ::setrlimit(RLIMIT_FSIZE, &limit);
              std::this_thread::sleep_for(std::chrono::milliseconds(60));
              EXPECT_TRUE(store.stats().writable);
              EXPECT_EQ(PutAll(store, keys, kBlock), 9);
              store.Flush();
              EXPECT_EQ(LoadAll(store, keys), 9);
              EXPECT_EQ(w.texts.size(), 1u);
            }),
            0);
  DiskStore store(In(directory));
  EXPECT_EQ(LoadAll(store, TestKeys(0, 9)), 9);
}

TEST(DiskStore, WhatCannotBeADirectoryIsWarnedOf) {
  TestDirectory directory;
  io::WriteFileAtomically(directory.path(), "a file");
  for (const std::string& path : {directory.path(), directory / "below", std::string("/proc/nowhere/x")}) {
    Warnings w;
    DiskStore store({.directory = path, .warn = w.Collect()});
    EXPECT_EQ(w.texts.size(), 1u) << path;
    EXPECT_FALSE(store.stats().writable);
    EXPECT_EQ(PutAll(store, TestKeys(0, 2), kBlock), 0);
    EXPECT_EQ(store.Find(TestKeys(0, 2)), 0);
    EXPECT_EQ(LoadAll(store, TestKeys(0, 2)), 0);
    store.Flush();
  }
}

TEST(DiskStoreThread, ADirectoryThatVanishesStopsStoring) {
  TestDirectory directory;
  Warnings w;
  DiskStoreOptions options = In(directory);
  options.warn = w.Collect();
  options.retry_seconds = 0;
  DiskStore store(options);
  EXPECT_EQ(PutAll(store, TestKeys(0, 2), kBlock), 2);
  store.Flush();
  std::filesystem::remove_all(directory.path());
  for (int32_t p = 1; p < 4; ++p) {
    PutAll(store, TestKeys(p, 2), kBlock);
    store.Flush();
  }
  EXPECT_FALSE(store.stats().writable);
  EXPECT_EQ(w.texts.size(), 1u);
  EXPECT_EQ(LoadAll(store, TestKeys(0, 2)), 2);  // the files are still open
}

TEST(DiskStore, AfterASuddenEndOnlyWholeBlocksComeBack) {
  TestDirectory directory;
  Rng rng(11);
  int64_t came = 0;
  for (int run = 0; run < 12; ++run) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      DiskStore store(In(directory, 40));  // so small that places are used again and again
      for (int32_t p = 0;; p = (p + 1) % 10) {
        PutAll(store, TestKeys(100 * run + p, 8), kBlock);
        if (p == 2 && ::write(pipe[1], "x", 1) != 1) ::_exit(1);
        if (p % 3 == 0) store.Flush();
      }
    }
    char c = 0;
    ASSERT_EQ(::read(pipe[0], &c, 1), 1);
    ::usleep(static_cast<useconds_t>(rng.NextBelow(30'000)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(pipe[0]);
    ::close(pipe[1]);
    DiskStore store(In(directory, 40));
    for (int32_t p = 0; p < 10; ++p) came += LoadAll(store, TestKeys(100 * run + p, 8));
    EXPECT_LE(store.stats().bytes, 40 * kSlot);
  }
  EXPECT_GT(came, 12 * 8);
}

TEST(DiskStoreThread, LoadsInTurnAndThoseThatAreGivenUp) {
  TestDirectory directory;
  DiskStoreOptions options = In(directory);
  options.ahead_bytes = 2 * kBlock;
  DiskStore store(options);
  const std::vector<BlockKey> a = TestKeys(0, 30), b = TestKeys(1, 30);
  PutAll(store, a, kBlock);
  PutAll(store, b, kBlock);
  store.Flush();
  auto first = store.Load(a);  // nobody takes from it: it must not hold up the other
  EXPECT_EQ(LoadAll(store, b), 30);
  first->Wait(10);
  EXPECT_LE(store.stats().loaded, 33);
  EXPECT_TRUE(first->Take());
  first.reset();
  EXPECT_EQ(LoadAll(store, a), 30);
}

TEST(DiskStoreThread, ManyThreadsAtOnce) {
  TestDirectory directory;
  DiskStore store(In(directory, 60));
  std::vector<std::thread> threads;
  for (int32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int32_t i = 0; i < 40; ++i) {
        const std::vector<BlockKey> keys = TestKeys((t + i) % 12, 8);
        PutAll(store, keys, (t + i) % 5 == 0 ? kBlock + 1 : kBlock);
        const auto load = store.Load(keys);
        if (i % 3 == 0) continue;
        size_t n = 0;
        while (!load->Ended()) {
          load->Wait(10);
          while (const auto bytes = load->Take()) {
            EXPECT_EQ(*bytes, TestBytes(keys[n], static_cast<int64_t>(bytes->size())));
            ++n;
          }
        }
        store.Touch(keys[0]);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  store.Flush();
  const StoreStats s = store.stats();
  EXPECT_LE(s.bytes, 60 * kSlot);
  EXPECT_EQ(s.damaged, 0);
  EXPECT_EQ(s.queued_bytes, 0);
}

}  // namespace
}  // namespace fathom::cache
