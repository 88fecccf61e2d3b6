// The primitives stream_* of tiles.h for AVX512-BF16.
#pragma once

#include "kernels/tiles.h"

namespace fathom::kernels {

void StreamBf16(const Dot& d);
void StreamE4m3(const Dot& d);
void TurnCodes(uint16_t* panel, const uint8_t* codes, int64_t ld, int64_t rows, int64_t n);

}  // namespace fathom::kernels
