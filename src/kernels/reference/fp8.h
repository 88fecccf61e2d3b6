// FP8 of training in scalar code (contracts in train_ops.h): tiles and blocks, and the operands of the gradients'
// products.
#pragma once

#include <vector>

#include "kernels/train_ops.h"

namespace fathom::kernels::reference {

// Rows [begin, end).
void PackTiles(const PackTilesArgs& args, int64_t begin, int64_t end);
void UnpackTiles(const UnpackTilesArgs& args, int64_t begin, int64_t end);
// Rows of blocks [begin, end).
void QuantizeBlocks(const QuantizeBlocksArgs& args, int64_t begin, int64_t end);

// Rows of y [begin, end).
void Fp8TensorCore(const Fp8TensorCoreArgs& args, int64_t begin, int64_t end);

// Rows of float32 to be quantised: row i is row rows[i] (null: i), ld apart.
struct QuantizedRows {
  const float* x = nullptr;
  int64_t ld = 0;
  const int32_t* rows = nullptr;
  int64_t m = 0, n = 0;
  bool ue8m0 = false;
  bool blocks = false;  // tiles of 128 x 128

  const float* Row(int64_t i) const { return x + (rows ? rows[i] : i) * ld; }
};
// The codes' values and the tiles' scales.
struct Operand {
  std::vector<float> values;  // (end - begin, n)
  std::vector<float> scales;
};
// Rows [begin, end) in 1x128 tiles: scales (end - begin, ceil(n / 128)).
Operand RowTiles(const QuantizedRows& x, int64_t begin, int64_t end);
// All rows in 128x1 tiles, made of the values of their 1x128 codes, or as they are in blocks: scales (ceil(m / 128),
// n).
Operand ColumnTiles(const QuantizedRows& x);

}  // namespace fathom::kernels::reference
