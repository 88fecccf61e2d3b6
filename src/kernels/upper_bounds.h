// What the implementations of UpperBounds (ops.h) are given. Private to kernels/. Plain data: files compiled with their
// own instruction-set flags include it.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace fathom::kernels {

// Rows of x in codes: x = scale * code + rest.
struct CodedRows {
  int64_t m = 0;
  int8_t* codes = nullptr;  // (m, cols), -127 to 127
  // The codes plus 128 in quads of four rows, zero codes beyond m: groups of QuadGroup(m) rows (tiles.h) of (cols / 16,
  // quads, 4, 16). Where an implementation wants them.
  uint8_t* quads = nullptr;
  float* scales = nullptr;  // (m,)
  float* norms = nullptr;   // (m,) at least the Euclidean norm of scale * code
  float* rests = nullptr;   // (m,) at least that of the rest, and what covers the roundings of products and bounds
};

// y (m, rows) for rows [begin, end) of w:
//   y = w.norm x.rest + (w.rest x.norm + sum (w.scale x.scale)), innermost first, fused
// where `sum` is that of the codes' products.
struct BoundsTask {
  const CodedMatrix* w;
  const CodedRows* x;
  int64_t begin, end;
  float* y;
  int64_t ldy;
  float* maxima;  // (m, ceil(w.rows / kMaximaOf)) of y, or null; begin is a multiple of kMaximaOf, end too or w.rows
};

void BoundsAvx512Bf16(const BoundsTask& task);  // cols a multiple of 64

}  // namespace fathom::kernels
