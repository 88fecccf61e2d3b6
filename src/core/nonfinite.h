// What counts as not finite in an array of any type: an exponent of all ones; in E4M3, which has no infinity, the NaN
// codes 0x7f and 0xff.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace fathom {

// How many of n values, at any alignment of their bytes, are NaN or infinite.
int64_t CountNonFinite(const void* data, DType dtype, int64_t n);
// The index of the first of them; -1 if there is none.
int64_t FirstNonFiniteOf(const void* data, DType dtype, int64_t n);

}  // namespace fathom
