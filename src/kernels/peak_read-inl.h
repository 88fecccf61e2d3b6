// The read loop over a vector type, for the files that define what a vector is: Vec (with kVecBytes), Load, Xor, Fold,
// Prefetch. Internal linkage: each file compiles its own copy under its own flags.
#pragma once

#include <cstdint>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {
namespace {

// Four loads of each stream a turn, each into an accumulator of its own.
template <int kStreams, bool kPrefetch>
inline Vec ReadStreams(const char* data, int64_t part) {
  constexpr int kLoads = 4;
  constexpr int64_t kTurn = kLoads * kVecBytes;
  Vec acc[kStreams][kLoads];
  for (auto& stream : acc) {
    for (Vec& v : stream) v = Vec{};
  }
  for (int64_t i = 0; i < part; i += kTurn) {
    for (int s = 0; s < kStreams; ++s) {
      const char* p = data + s * part + i;
      if (kPrefetch) {
        for (int64_t line = 0; line < kTurn; line += kLine) Prefetch(p + kPrefetchBytes + line);
      }
      for (int l = 0; l < kLoads; ++l) acc[s][l] = Xor(acc[s][l], Load(p + l * kVecBytes));
    }
  }
  Vec all{};
  for (auto& stream : acc) {
    for (Vec& v : stream) all = Xor(all, v);
  }
  return all;
}

inline uint64_t Read(const void* data, int64_t bytes, int streams, bool prefetch) {
  const char* p = static_cast<const char*>(data);
  const int64_t turn = 4 * kVecBytes;
  const int64_t part = bytes / streams / turn * turn;
  Vec all;
  if (streams == 1) {
    all = prefetch ? ReadStreams<1, true>(p, part) : ReadStreams<1, false>(p, part);
  } else if (streams == 2) {
    all = prefetch ? ReadStreams<2, true>(p, part) : ReadStreams<2, false>(p, part);
  } else {
    all = prefetch ? ReadStreams<4, true>(p, part) : ReadStreams<4, false>(p, part);
  }
  for (int64_t i = part * streams; i + kVecBytes <= bytes; i += kVecBytes) all = Xor(all, Load(p + i));
  return Fold(all);
}

}  // namespace
}  // namespace fathom::kernels::peak
