// The FP8 primitives of tiles.h for AVX512-BF16.
#pragma once

#include "kernels/tiles.h"

namespace fathom::kernels {

void MulScaledBf16(const MulScaled& m);
void QuantizeRowsBf16(const QuantizedRowsBf16& q);
void ColumnTileBf16(const ColumnTile& t);
void PairCodes(uint16_t* b, int64_t ldb, const uint8_t* w, int64_t ldw, int64_t k, int64_t n);

}  // namespace fathom::kernels
