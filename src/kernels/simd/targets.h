// The portable kernels are compiled once per instruction set, each into a namespace of its own: sse4, avx2, avx512 on
// x86-64, neon on AArch64. A header declares them for all by FATHOM_SIMD_DECLARE, a table lists those that are built by
// FATHOM_SIMD_ENTRIES, best first, or with a predicate by FATHOM_SIMD_ENTRIES_IF.
#pragma once

#if defined(__x86_64__)
// FATHOM_SIMD_DECLARE(void F(int);)
#define FATHOM_SIMD_DECLARE(...) \
  namespace sse4 {               \
  __VA_ARGS__                    \
  }                              \
  namespace avx2 {               \
  __VA_ARGS__                    \
  }                              \
  namespace avx512 {             \
  __VA_ARGS__                    \
  }
#define FATHOM_SIMD_ENTRIES(fn) \
  {"avx512", Isa::kAvx512, avx512::fn}, {"avx2", Isa::kAvx2, avx2::fn}, { "sse4", Isa::kSse4, sse4::fn }
#define FATHOM_SIMD_ENTRIES_IF(fn, supports)                                                  \
  {"avx512", Isa::kAvx512, avx512::fn, supports}, {"avx2", Isa::kAvx2, avx2::fn, supports}, { \
    "sse4", Isa::kSse4, sse4::fn, supports                                                    \
  }
#elif defined(__aarch64__)
#define FATHOM_SIMD_DECLARE(...) \
  namespace neon {               \
  __VA_ARGS__                    \
  }
#define FATHOM_SIMD_ENTRIES(fn) \
  { "neon", Isa::kNeon, neon::fn }
#define FATHOM_SIMD_ENTRIES_IF(fn, supports) \
  { "neon", Isa::kNeon, neon::fn, supports }
#else
#error "x86-64 and AArch64 only"
#endif
