// Upper bounds of products in scalar code (contracts in ops.h).
#pragma once

#include "kernels/upper_bounds.h"

namespace fathom::kernels::reference {

void UpperBounds(const BoundsTask& task);

}  // namespace fathom::kernels::reference
