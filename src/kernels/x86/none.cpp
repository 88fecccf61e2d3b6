// On other processors: the primitives of x86/ are not built.
#include "kernels/tiles.h"

namespace fathom::kernels {

bool AddAvx512Bf16(Tiles*) { return false; }
bool AddAmx(Tiles*) { return false; }

}  // namespace fathom::kernels
