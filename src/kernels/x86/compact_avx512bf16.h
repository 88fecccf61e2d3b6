// The primitive dot_compact of tiles.h for AVX512-BF16.
#pragma once

#include "kernels/tiles.h"

namespace fathom::kernels {

void DotCompact(const Dot& d);

}  // namespace fathom::kernels
