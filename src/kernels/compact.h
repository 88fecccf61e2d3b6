// The layout of CompactMatrix (ops.h). Private to kernels/. Plain data: files compiled with their own instruction-set
// flags include it.
//
// A matrix is blocks of kCompactRows rows. A block begins with the high bytes of its rare values, in the order in which
// these stand, room for one value in 256, up to a multiple of 64 bytes. Then come pieces of kPieceRows rows and
// kCompactCols columns: for each kCompactCols columns the first rows' piece, then the last ones'. A piece is what
// products of pairs want, rows in lanes: for each two columns their values of every row side by side,
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

inline constexpr int64_t CompactRare(int64_t cols) { return (kCompactRows * cols / 256 + 63) / 64 * 64; }
inline constexpr int64_t CompactBlock(int64_t cols) { return CompactRare(cols) + kCompactRows * cols * 3 / 2; }

// Of 64 values in their order, where the byte of one stands.
inline constexpr int64_t PlaceOfValue(int64_t value) { return value % 32 / 8 * 16 + value / 32 * 8 + value % 8; }

}  // namespace fathom::kernels
