// How a task of linear_blocks.h packs its operands: sizes, layouts, and the pieces of k that belong to a term. For
// linear_blocks.cpp and linear_scaled.cpp only.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/linear_blocks.h"

namespace fathom::kernels {

inline constexpr int64_t kLine = 64;
inline constexpr int64_t kBlockRows = 512;  // of C in a task, at most; with their A they fill half of the second cache
inline constexpr int64_t kLeastRows = 64, kLeastColumns = 96;
// Bytes of a row of A that are multiplied at a time, and panels of B that are packed at a time. Sources whose rows lie
// along k are read in long pieces, the others in wide ones.
inline constexpr int64_t kDepthBytes = 1 << 10, kTurnedDepthBytes = 1 << 9;
inline constexpr int64_t kGroupPanels = 12, kTurnedGroupPanels = 32;
inline constexpr int64_t kManyRows = 256;  // beside so many rows of A only half a group
inline constexpr int64_t kStrip = 64;      // values of k that are turned at a time

inline int64_t ElementSize(const BlockJob& job) { return job.bf16 ? 2 : 4; }
inline int64_t Depth(const BlockJob& job) {
  return (job.a_turned ? kTurnedDepthBytes : kDepthBytes) / ElementSize(job);
}

// Packed A: rows or panels, ld elements apart.
struct PackedA {
  std::byte* data;
  int64_t ld;
  bool panels;
  int64_t size;  // of an element

  // Value k of a row, which for panels is a multiple of 16.
  std::byte* At(int64_t row, int64_t k) const {
    return data + (panels ? row / kLanes * ld + k * kLanes : row * ld + k) * size;
  }
};

// Packed B: panels, ld elements apart.
struct PackedB {
  std::byte* data;
  int64_t ld;
};

inline bool InPanels(const Tiles& tiles, const BlockJob& job) { return job.bf16 && job.a_turned && tiles.a_panels; }

inline int64_t PackedLd(const BlockJob& job, bool panels) {
  return Depth(job) * (panels ? kLanes : 1) + kLine / ElementSize(job);
}

// f(term, begin, end, at) for the values [begin, end) of each term that lie in [k, k_end); they begin at k + at.
template <class F>
void ForTerms(const BlockJob& job, int64_t k, int64_t k_end, const F& f) {
  int64_t first = 0;
  for (int64_t i = 0; i < job.terms && first < k_end; ++i) {
    const BlockTerm term = job.term(job.source, i);
    const int64_t begin = std::max<int64_t>(k - first, 0), end = std::min(k_end - first, term.k);
    if (begin < end) f(term, begin, end, first + begin - k);
    first += PaddedK(job, term.k);
  }
}

// n values of an operand's row as float32, rounded if the term says so; codes without their scales.
inline void FloatRow(const Tiles& tiles, float* out, const std::byte* from, DType dtype, bool round, int64_t n) {
  if (dtype == DType::kBF16) {
    tiles.widen_bf16(out, from, n);
  } else if (dtype == DType::kF8E4M3) {
    tiles.widen_e4m3(out, from, n);
  } else if (round) {
    tiles.round_f32(out, reinterpret_cast<const float*>(from), n);
  } else {
    std::memcpy(out, from, static_cast<size_t>(n) * sizeof(float));
  }
}

// Of C.
struct Ranges {
  int64_t row, rows, column, columns;
};

inline void ZeroRows(const BlockJob& job, const Ranges& r) {
  const int64_t size = SizeOf(job.c_dtype);
  for (int64_t i = 0; i < r.rows && !job.accumulate; ++i) {
    std::memset(static_cast<std::byte*>(job.c) + ((r.row + i) * job.ldc + r.column) * size, 0,
                static_cast<size_t>(r.columns * size));
  }
}

}  // namespace fathom::kernels
