// A pool of threads for short parallel regions.
//
// ParallelFor deals its tasks one by one from a shared counter, the caller taking part, so a thread that the system
// took away delays nothing but the task in its hands, and a pool that got fewer threads than asked for only runs
// slower. Threads that find no work spin for some microseconds, then sleep in the kernel: nobody spins beside a busy
// neighbour. Which thread runs a task is not fixed: tasks must write disjoint results that do not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace fathom {

// Cores that this process may use: affinity mask and cgroup CPU quota respected; one thread a physical core.
int DefaultThreadCount();

class ThreadPool {
 public:
  // Workers are bound to the NUMA nodes of the allowed cores in turn (hwloc), not to single cores. threads >= 1 counts
  // the caller.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(task, thread) for task in [0, tasks), thread in [0, size()). Returns when all are done. Not reentrant; f
  // must not throw.
  template <class F>
  void ParallelFor(int64_t tasks, F&& f) {
    using Fn = std::remove_reference_t<F>;
    Run(
        tasks, [](void* context, int64_t task, int thread) { (*static_cast<Fn*>(context))(task, thread); },
        const_cast<std::remove_const_t<Fn>*>(&f));
  }

 private:
  using TaskFn = void (*)(void* context, int64_t task, int thread);
  void Run(int64_t tasks, TaskFn fn, void* context);
  void RunSlice(int64_t tasks, TaskFn fn, void* context);
  void Work(int thread);
  bool ClaimAndRun(int thread);

  // Tickets: epoch (24 bits), tasks (20 bits), next task (20 bits). One atomic, so that a late thread can never take a
  // task of a later region with an earlier region's function: after a claim that is in range, fn_ and context_ are that
  // region's.
  std::atomic<uint64_t> ticket_{0};
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t base_ = 0;
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<uint32_t> wake_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace fathom
