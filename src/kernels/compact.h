// The layout of CompactMatrix (ops.h). Private to kernels/. Plain data: files compiled with their own instruction-set
// flags include it.
//
// A matrix is blocks of kCompactRows rows, each
//
//   kCompactRows places (uint16, counted from the first) where the rare high bytes of a row begin,
//   rare high bytes, row by row, a row's in the order of its pieces' codes; room for one value in 256,
//   zeros up to a multiple of 64 bytes,
//   the rows in pairs, of each pair the pieces of kCompactCols values in turn, first row first: 64 bytes of codes, 128
//   of low bytes.
//
// The low 4 bits of a piece's codes are of its first 64 low bytes, in the same place, the high ones of the others. Low
// bytes stand so that interleaving them with high bytes within quarters of 16 bytes gives values in their order: value
// 32 h + 8 q + i of 64 (h < 2, q < 4, i < 8) at 16 q + 8 h + i.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace fathom::kernels {

inline constexpr int64_t kCompactPiece = kCompactCols * 3 / 2;  // bytes
inline constexpr int64_t kCompactPlaces = kCompactRows * static_cast<int64_t>(sizeof(uint16_t));

inline constexpr int64_t CompactRare(int64_t cols) { return kCompactRows * cols / 256; }  // of a block, at most
inline constexpr int64_t CompactHead(int64_t cols) { return (kCompactPlaces + CompactRare(cols) + 63) / 64 * 64; }
inline constexpr int64_t CompactRow(int64_t cols) { return cols / kCompactCols * kCompactPiece; }
inline constexpr int64_t CompactBlock(int64_t cols) { return CompactHead(cols) + kCompactRows * CompactRow(cols); }

// A piece of a row of a block, and where the low byte of a value of 64 stands.
inline constexpr int64_t CompactPieceAt(int64_t cols, int64_t row, int64_t piece) {
  return CompactHead(cols) + row / 2 * 2 * CompactRow(cols) + (2 * piece + row % 2) * kCompactPiece;
}
inline constexpr int64_t CompactPlaceOf(int64_t value) { return value % 32 / 8 * 16 + value / 32 * 8 + value % 8; }

}  // namespace fathom::kernels
