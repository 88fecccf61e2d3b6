// Parallel regions whose tasks may throw.
#pragma once

#include <atomic>
#include <exception>
#include <mutex>

#include "core/threads.h"

namespace fathom {

// As ThreadPool::ParallelFor; the first exception of any task is thrown here, tasks not begun by then are left out.
template <class F>
void ParallelForThrowing(ThreadPool& pool, int64_t tasks, F&& f) {
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  std::mutex mutex;
  pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    if (failed) return;
    try {
      f(task, thread);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      failed = true;
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fathom
