// What a computation needs besides its data: threads, the instruction set it may use, and a place for messages. No
// globals: two engines with different settings can live in one process.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/threads.h"

namespace fathom {

enum class Isa : uint8_t { kReference, kSse4, kAvx2, kAvx512, kAvx512Bf16, kAmx, kNeon };
inline constexpr int kIsaCount = 7;

std::string_view Name(Isa isa);          // reference sse4 avx2 avx512 avx512bf16 amx neon
Isa IsaFromName(std::string_view name);  // throws Error with the list of names
bool MachineHas(Isa isa);                // CPU and operating system (AMX: permission asked for here)
Isa BestIsa();                           // of this machine

struct Context {
  ThreadPool& pool;
  Isa isa;                                        // kernels of this instruction set or below it
  std::function<void(std::string_view)> verbose;  // dispatch decisions, if wanted

  // FATHOM_FORCE_ISA if set (throws if unknown or absent on this machine), else the best.
  static Isa IsaFromEnvironment();
};

}  // namespace fathom
