// Facts about the machine, this process and this build, for plans and reports.
#pragma once

#include <cstdint>
#include <string>

namespace fathom {

std::string CpuName();          // as the system names it, "unknown CPU" if it does not
int64_t AvailableMemory();      // bytes that a new allocation may use: system and cgroup limit; -1 if unknown
int64_t ResidentBytes();        // of this process now, mapped pages included; -1 if unknown
int64_t PeakResidentBytes();    // the most so far; -1 if unknown
int64_t LastLevelCacheBytes();  // of one cache of the outermost level; 32 MiB if unknown
std::string BuildCommit();      // git's description of the sources that were built, "unknown" outside a repository

}  // namespace fathom
