// The primitives stream_* of tiles.h for AVX512-BF16.
#pragma once

#include "kernels/tiles.h"

namespace fathom::kernels {

void StreamBf16(const Dot& d);
void StreamE4m3(const Dot& d);

}  // namespace fathom::kernels
