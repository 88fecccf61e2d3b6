// Counter-based random numbers: the value at (seed, stream, index) is a pure function, so that parallel filling,
// resumed runs and any number of threads give the same numbers. Philox4x32-10 (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC11).
#pragma once

#include <array>
#include <cstdint>

namespace fathom {

std::array<uint32_t, 4> Philox(uint64_t seed, uint64_t stream, uint64_t counter);

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0, uint64_t counter = 0)
      : seed_(seed), stream_(stream), counter_(counter) {}
  uint32_t NextU32();
  uint64_t NextU64() { return uint64_t{NextU32()} << 32 | NextU32(); }
  double NextDouble() { return static_cast<double>(NextU64() >> 11) * 0x1p-53; }  // [0, 1)
  double NextNormal();                                                            // mean 0, variance 1 (Box-Muller)
  int64_t NextBelow(int64_t n);                                                   // [0, n), unbiased

 private:
  uint64_t seed_, stream_, counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace fathom
