#include "core/threads.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <system_error>

#include "core/error.h"

namespace fathom {
namespace {

constexpr uint64_t kFieldBits = 20;
constexpr int64_t kMaxSlice = 1 << 19;  // failed claims also count up: half of the field is left for them
constexpr uint64_t kFieldMask = (1ull << kFieldBits) - 1;
constexpr int kSpins = 2000;  // of ~40 cycles each: some tens of microseconds

uint64_t NextOf(uint64_t t) { return t & kFieldMask; }
uint64_t TasksOf(uint64_t t) { return (t >> kFieldBits) & kFieldMask; }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Topology {
 public:
  Topology() {
    ok_ = hwloc_topology_init(&topology_) == 0 && hwloc_topology_load(topology_) == 0;
    if (!ok_) return;
    allowed_ = hwloc_bitmap_alloc();
    if (hwloc_get_cpubind(topology_, allowed_, HWLOC_CPUBIND_PROCESS) != 0) {
      hwloc_bitmap_copy(allowed_, hwloc_topology_get_allowed_cpuset(topology_));
    }
  }
  ~Topology() {
    if (allowed_) hwloc_bitmap_free(allowed_);
    if (topology_) hwloc_topology_destroy(topology_);
  }
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  int AllowedCores() const {
    if (!ok_) return 0;
    int cores = 0;
    for (hwloc_obj_t c = nullptr; (c = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_CORE, c));) {
      cores += hwloc_bitmap_intersects(c->cpuset, allowed_);
    }
    return cores;
  }
  // The allowed cores of each NUMA node that has any.
  std::vector<hwloc_cpuset_t> Nodes() const {
    std::vector<hwloc_cpuset_t> nodes;
    if (!ok_) return nodes;
    for (hwloc_obj_t n = nullptr; (n = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_NUMANODE, n));) {
      hwloc_cpuset_t set = hwloc_bitmap_alloc();
      hwloc_bitmap_and(set, n->cpuset, allowed_);
      if (hwloc_bitmap_iszero(set)) {
        hwloc_bitmap_free(set);
      } else {
        nodes.push_back(set);
      }
    }
    return nodes;
  }
  void Bind(std::thread& thread, hwloc_cpuset_t set) const {
    hwloc_set_thread_cpubind(topology_, thread.native_handle(), set, 0);  // a refusal costs speed only
  }

 private:
  bool ok_ = false;
  hwloc_topology_t topology_ = nullptr;
  hwloc_bitmap_t allowed_ = nullptr;
};

// CPUs granted by the cgroup (v2 cpu.max, else v1 quota and period), or 0 without a limit.
int CgroupCpuLimit() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period) {
    if (quota == "max" || period <= 0) return 0;
  } else {
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (!(q >> quota) || !(p >> period) || period <= 0 || quota.empty() || quota[0] == '-') return 0;
  }
  try {
    return std::max(1, static_cast<int>(std::ceil(std::stod(quota) / period)));
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace

int DefaultThreadCount() {
  int n = Topology().AllowedCores();
  if (n == 0) n = static_cast<int>(std::thread::hardware_concurrency());
  if (const int limit = CgroupCpuLimit(); limit > 0) n = std::min(n, limit);
  return std::max(n, 1);
}

ThreadPool::ThreadPool(int threads) {
  FATHOM_CHECK(threads >= 1);
  if (threads == 1) return;
  const Topology topology;
  std::vector<hwloc_cpuset_t> nodes = topology.Nodes();
  for (int i = 1; i < threads; ++i) {
    try {
      workers_.emplace_back([this, i] { Work(i); });
    } catch (const std::system_error&) {
      break;  // a limit on threads: fewer are enough
    }
    if (nodes.size() > 1) topology.Bind(workers_.back(), nodes[static_cast<size_t>(i) % nodes.size()]);
  }
  for (hwloc_cpuset_t n : nodes) hwloc_bitmap_free(n);
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (std::thread& w : workers_) w.join();
}

void ThreadPool::Run(int64_t tasks, TaskFn fn, void* context) {
  if (tasks <= 0) return;
  if (tasks == 1 || workers_.empty()) {
    for (int64_t i = 0; i < tasks; ++i) fn(context, i, 0);
    return;
  }
  for (base_ = 0; base_ < tasks; base_ += kMaxSlice) RunSlice(std::min(kMaxSlice, tasks - base_), fn, context);
}

void ThreadPool::RunSlice(int64_t tasks, TaskFn fn, void* context) {
  fn_ = fn;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  const uint64_t epoch = (ticket_.load(std::memory_order_relaxed) >> (2 * kFieldBits)) + 1;
  ticket_.store(epoch << (2 * kFieldBits) | static_cast<uint64_t>(tasks) << kFieldBits, std::memory_order_seq_cst);
  wake_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
  while (ClaimAndRun(0)) {
  }
  const uint32_t all = static_cast<uint32_t>(tasks);
  uint32_t done;
  for (int spin = 0; (done = done_.load(std::memory_order_acquire)) != all; ++spin) {
    if (spin < kSpins) {
      Pause();
    } else {
      done_.wait(done, std::memory_order_acquire);
    }
  }
}

bool ThreadPool::ClaimAndRun(int thread) {
  uint64_t t = ticket_.load(std::memory_order_acquire);
  if (NextOf(t) >= TasksOf(t)) return false;
  t = ticket_.fetch_add(1, std::memory_order_acq_rel);
  if (NextOf(t) >= TasksOf(t)) return false;
  const int64_t tasks = static_cast<int64_t>(TasksOf(t));
  fn_(context_, base_ + static_cast<int64_t>(NextOf(t)), thread);
  if (static_cast<int64_t>(done_.fetch_add(1, std::memory_order_acq_rel)) + 1 == tasks && thread != 0)
    done_.notify_one();
  return true;
}

void ThreadPool::Work(int thread) {
  for (;;) {
    const uint32_t seen = wake_.load(std::memory_order_seq_cst);
    if (stop_.load(std::memory_order_relaxed)) return;
    bool ran = false;
    for (int spin = 0; spin < kSpins && !ran; ++spin) {
      ran = ClaimAndRun(thread);
      if (!ran) Pause();
    }
    if (ran) continue;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (wake_.load(std::memory_order_seq_cst) == seen) wake_.wait(seen, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace fathom
