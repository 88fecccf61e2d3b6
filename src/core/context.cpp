#include "core/context.h"

#include <array>
#include <cstdlib>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fathom {
namespace {

constexpr std::array<std::string_view, kIsaCount> kIsaNames = {"reference",  "sse4", "avx2", "avx512",
                                                               "avx512bf16", "amx",  "neon"};

#if defined(__x86_64__)
// Linux hands out the AMX tile state on request only (arch_prctl ARCH_REQ_XCOMP_PERM, feature 18).
bool AskForAmx() {
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

bool CpuidBit(unsigned leaf, unsigned subleaf, int reg, int bit) {
  std::array<unsigned, 4> r{};
  if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) return false;
  return (r[static_cast<size_t>(reg)] >> bit) & 1;
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool HasAvx512Bf16() {
  return HasAvx512() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("avx512vnni") && CpuidBit(7, 1, 0, 5);
}
bool HasAmx() {
  constexpr int kEdx = 3;
  static const bool granted = HasAvx512Bf16() && CpuidBit(7, 0, kEdx, 24) && CpuidBit(7, 0, kEdx, 22) && AskForAmx();
  return granted;
}
#endif

}  // namespace

std::string_view Name(Isa isa) { return kIsaNames[static_cast<size_t>(isa)]; }

Isa IsaFromName(std::string_view name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (kIsaNames[static_cast<size_t>(i)] == name) return static_cast<Isa>(i);
  }
  throw Error("unknown instruction set", std::string(name), "reference, sse4, avx2, avx512, avx512bf16, amx or neon",
              "leave it out to use the best one of this machine");
}

namespace {

bool AskMachine(Isa isa) {
  if (isa == Isa::kReference) return true;
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kSse4:
      return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("aes");
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
             CpuidBit(1, 0, 2, 29);
    case Isa::kAvx512:
      return HasAvx512();
    case Isa::kAvx512Bf16:
      return HasAvx512Bf16();
    case Isa::kAmx:
      return HasAmx();
    default:
      return false;
  }
#elif defined(__aarch64__)
  return isa == Isa::kNeon;
#else
  return false;
#endif
}

}  // namespace

// Asked once: every kernel's choice comes by here, and cpuid takes microseconds where a hypervisor traps it.
bool MachineHas(Isa isa) {
  static const std::array<bool, kIsaCount> answers = [] {
    std::array<bool, kIsaCount> a{};
    for (int i = 0; i < kIsaCount; ++i) a[static_cast<size_t>(i)] = AskMachine(static_cast<Isa>(i));
    return a;
  }();
  return answers[static_cast<size_t>(isa)];
}

Isa BestIsa() {
  if (MachineHas(Isa::kNeon)) return Isa::kNeon;
  for (Isa isa : {Isa::kAmx, Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kSse4}) {
    if (MachineHas(isa)) return isa;
  }
  return Isa::kReference;
}

Isa Context::IsaFromEnvironment() {
  const char* forced = std::getenv("FATHOM_FORCE_ISA");
  if (!forced || !*forced) return BestIsa();
  const Isa isa = IsaFromName(forced);
  if (!MachineHas(isa)) {
    throw Error("this machine lacks the instruction set that FATHOM_FORCE_ISA names", forced,
                std::string("one of its own, the best is ") + std::string(Name(BestIsa())));
  }
  return isa;
}

}  // namespace fathom
