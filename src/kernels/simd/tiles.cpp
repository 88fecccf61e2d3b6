// The float32 primitives of tiles.h in portable vector code, compiled once per instruction set (SSE4, AVX2, AVX-512;
// NEON). Each target exports its own table; the choice is the registry's, not Highway's.
#include "kernels/tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/tiles.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Highway 1.0.3 has no SSE2 target: on x86-64 its baseline is emulation, which we leave empty.
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
// Each needs the one before.
// clang-format off
#include "kernels/simd/tiles-inl.h"
#include "kernels/simd/fp8-inl.h"
#include "kernels/simd/table-inl.h"
// clang-format on
#endif

#if HWY_ONCE
namespace fathom::kernels {
#if HWY_ARCH_X86
const Tiles* TilesSse4() { return &N_SSE4::kTable; }
const Tiles* TilesAvx2() { return &N_AVX2::kTable; }
const Tiles* TilesAvx512() { return &N_AVX3::kTable; }
const Tiles* TilesNeon() { return nullptr; }
#else
const Tiles* TilesSse4() { return nullptr; }
const Tiles* TilesAvx2() { return nullptr; }
const Tiles* TilesAvx512() { return nullptr; }
#if HWY_ARCH_ARM_A64
const Tiles* TilesNeon() { return &N_NEON::kTable; }
#else
const Tiles* TilesNeon() { return nullptr; }
#endif
#endif
}  // namespace fathom::kernels
#endif
