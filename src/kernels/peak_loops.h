// The loops behind peak.h, one set per instruction set, each compiled with its own flags. Plain data only, so that
// these files may include it whatever their flags.
#pragma once

#include <cstdint>

namespace fathom::kernels::peak {

inline constexpr int64_t kLine = 64;  // bytes; reads are counted and dealt out in cache lines

// Reads `bytes` bytes from `data`, both multiples of kLine, as `streams` (1, 2 or 4) equal parts side by side, and
// returns something that depends on every one of them. prefetch: asks for lines kPrefetchBytes ahead in each stream.
using ReadFn = uint64_t (*)(const void* data, int64_t bytes, int streams, bool prefetch);
inline constexpr int64_t kPrefetchBytes = 2048;

// Runs `rounds` rounds of independent multiply-adds on registers and returns the operations done (a multiply and an add
// are two). `sink` is given a value that depends on all of them.
using OpsFn = double (*)(int64_t rounds, float* sink);

uint64_t ReadPlain(const void* data, int64_t bytes, int streams, bool prefetch);
double MulAddPlain(int64_t rounds, float* sink);
#if defined(__x86_64__)
uint64_t ReadAvx2(const void* data, int64_t bytes, int streams, bool prefetch);
double FmaAvx2(int64_t rounds, float* sink);
uint64_t ReadAvx512(const void* data, int64_t bytes, int streams, bool prefetch);
double FmaAvx512(int64_t rounds, float* sink);
double DotBf16Avx512(int64_t rounds, float* sink);  // vdpbf16ps
double DotInt8Avx512(int64_t rounds, float* sink);  // vpdpbusd
double DotBf16Amx(int64_t rounds, float* sink);     // tdpbf16ps
double DotInt8Amx(int64_t rounds, float* sink);     // tdpbssd
#endif
#if defined(__aarch64__)
double FmaNeon(int64_t rounds, float* sink);
#endif

}  // namespace fathom::kernels::peak
