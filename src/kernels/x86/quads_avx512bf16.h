// The primitives quads_* of tiles.h for AVX512-BF16.
#pragma once

#include "kernels/tiles.h"

namespace fathom::kernels {

void QuadsBf16(const Dot& d);
void QuadsE4m3(const Dot& d);

}  // namespace fathom::kernels
