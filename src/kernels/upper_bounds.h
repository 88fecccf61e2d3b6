// What the implementations of UpperBounds (ops.h) are given. Private to kernels/. Plain data: files compiled with their
// own instruction-set flags include it.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace fathom::kernels {

// Rows of x in codes: x = scale * code + rest.
struct CodedRows {
  int64_t m = 0;
  int8_t* codes = nullptr;     // (m, width), -127 to 127, zero from cols on
  uint8_t* shifted = nullptr;  // (m, width) the codes plus 128, where an implementation wants them
  int64_t width = 0;           // CodedWidth(cols)
  float* scales = nullptr;     // (m,)
  float* norms = nullptr;      // (m,) at least the Euclidean norm of scale * code
  float* rests = nullptr;      // (m,) at least that of the rest, and what covers the roundings of products and bounds
};

// y (m, rows) for rows [begin, end) of w:
//   y = w.norm x.rest + (w.rest x.norm + sum (w.scale x.scale)), innermost first, fused
// where `sum` is that of the codes' products.
struct BoundsTask {
  const CodedMatrix* w;
  const CodedRows* x;
  int64_t begin, end;  // begin is a multiple of kMaximaOf, end too or w.rows
  int64_t next;        // where the thread will probably read on; w.rows for nowhere
  float* y;
  int64_t ldy;
  float* maxima;  // (m, ceil(w.rows / kMaximaOf)) of y, or null
};

void BoundsAvx512Bf16(const BoundsTask& task);

}  // namespace fathom::kernels
