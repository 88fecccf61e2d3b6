#include "core/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace fathom {
namespace {

TEST(ThreadPool, EveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> ran(static_cast<size_t>(tasks));
      pool.ParallelFor(tasks, [&](int64_t i, int t) {
        EXPECT_GE(t, 0);
        EXPECT_LT(t, pool.size());
        ran[static_cast<size_t>(i)].fetch_add(1);
      });
      for (auto& r : ran) EXPECT_EQ(r.load(), 1);
    }
  }
}

// Many short regions back to back: a late thread of one region must not run the next one's tasks with the wrong
// function.
TEST(ThreadPool, ManyRegions) {
  ThreadPool pool(4);
  std::vector<int64_t> sum(8);
  for (int64_t region = 0; region < 20000; ++region) {
    pool.ParallelFor(8, [&](int64_t i, int) { sum[static_cast<size_t>(i)] += region; });
  }
  for (int64_t s : sum) EXPECT_EQ(s, int64_t{20000} * 19999 / 2);
}

TEST(ThreadPool, MoreTasksThanASlice) {
  ThreadPool pool(3);
  std::atomic<int64_t> count{0}, sum{0};
  const int64_t n = (1 << 20) + 17;
  pool.ParallelFor(n, [&](int64_t i, int) {
    count.fetch_add(1, std::memory_order_relaxed);
    sum.fetch_add(i, std::memory_order_relaxed);
  });
  EXPECT_EQ(count.load(), n);
  EXPECT_EQ(sum.load(), n * (n - 1) / 2);
}

TEST(ThreadPool, DefaultIsPositive) { EXPECT_GE(DefaultThreadCount(), 1); }

}  // namespace
}  // namespace fathom
