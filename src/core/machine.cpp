#include "core/machine.h"

#include <fathom_commit.h>  // generated: cmake/commit.cmake
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace fathom {
namespace {

// The value of "key : value" or "key: value kB" in a file of /proc; empty if absent.
std::string Lookup(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

int64_t Kilobytes(const char* path, const std::string& key) {
  std::istringstream value(Lookup(path, key));
  int64_t kb = 0;
  return value >> kb ? kb * 1024 : -1;
}

int64_t NumberIn(const char* path) {
  std::ifstream file(path);
  int64_t n = 0;
  return file >> n ? n : -1;
}

}  // namespace

std::string CpuName() {
  std::string name = Lookup("/proc/cpuinfo", "model name");
  if (name.empty()) {  // on 64-bit ARM, numbers instead
    const std::string maker = Lookup("/proc/cpuinfo", "CPU implementer"), part = Lookup("/proc/cpuinfo", "CPU part");
    if (!part.empty()) name = "ARM CPU " + maker + "/" + part;
  }
  return name.empty() ? "unknown CPU" : name;
}

int64_t AvailableMemory() {
  int64_t available = Kilobytes("/proc/meminfo", "MemAvailable");
  // cgroup v2: a page cache that can be dropped counts as used there, so this errs on the side of too little.
  const int64_t limit = NumberIn("/sys/fs/cgroup/memory.max"), used = NumberIn("/sys/fs/cgroup/memory.current");
  if (limit >= 0 && used >= 0) {
    const int64_t left = std::max<int64_t>(0, limit - used);
    available = available < 0 ? left : std::min(available, left);
  }
  return available;
}

int64_t ResidentBytes() { return Kilobytes("/proc/self/status", "VmRSS"); }
int64_t PeakResidentBytes() { return Kilobytes("/proc/self/status", "VmHWM"); }

int64_t LastLevelCacheBytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  for (int level : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    if (const long bytes = sysconf(level); bytes > 0) return bytes;
  }
#endif
  return int64_t{32} << 20;
}

std::string BuildCommit() { return FATHOM_COMMIT; }

}  // namespace fathom
