// The layout of CompactMatrix (ops.h). Private to kernels/. Plain data: files compiled with their own instruction-set
// flags include it.
//
// A matrix is blocks of kCompactRows rows. A block begins with marks, words of 64 bits, the lowest first: one bit for
// each kCompactCols columns, set where rare values are among them. Behind them are the high bytes of the block's rare
// values, in the order in which these stand, room for one value in 256; both together up to a multiple of 64 bytes.
// Then come pieces of kPieceRows rows and kCompactCols columns: for each kCompactCols columns the first rows' piece,
// then the last ones'. A piece is what products of pairs want, rows in lanes: for each two columns their values of
// every row side by side,
//
//   value 32 p + 2 l + e is that of row l and column 2 p + e,
//
// as 64 bytes of codes and 128 of low bytes. The low 4 bits of the codes are of the first 64 low bytes, in the same
// place, the high ones of the others. Bytes of 64 values stand so that interleaving low and high ones within quarters
// of 16 bytes gives values in their order.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace fathom::kernels {

inline constexpr int64_t kCompactPass = 8;  // rows of x that pass a block together
inline constexpr int64_t kPieceRows = 16, kPieceValues = kPieceRows * kCompactCols;
inline constexpr int64_t kPieceBytes = kPieceValues * 3 / 2;

// Bytes of a block's marks, of marks and rare values, and of the whole.
inline constexpr int64_t CompactMarks(int64_t cols) { return (cols / kCompactCols + 63) / 64 * 8; }
inline constexpr int64_t CompactHead(int64_t cols) {
  return (CompactMarks(cols) + kCompactRows * cols / 256 + 63) / 64 * 64;
}
inline constexpr int64_t CompactBlock(int64_t cols) { return CompactHead(cols) + kCompactRows * cols * 3 / 2; }

// Of 64 values in their order, where the byte of one stands.
inline constexpr int64_t PlaceOfValue(int64_t value) { return value % 32 / 8 * 16 + value / 32 * 8 + value % 8; }

}  // namespace fathom::kernels
