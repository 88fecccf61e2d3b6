// Single-thread steps of attention beside those of tiles.h. Plain data: files compiled with their own instruction-set
// flags include it.
#pragma once

#include <cstdint>

namespace fathom::kernels {

// The softmax step of tiled attention (flash.h) for one tile of scores, keys down, queries (or heads) in lanes: all of
// it is vertical. Over keys j < keys and 16 * panels lanes: new maximum, weights e^(score - maximum), their sum added
// to the old sum times alpha = e^(old maximum - new maximum). Sums are of the unrounded weights. A lane whose scores
// are all -inf gets weights 0; +inf and NaN give NaN weights.
struct SoftmaxTile {
  float* scores;  // (keys, 16 * panels), lds apart; with `visible` the hidden ones are overwritten by -inf
  int64_t lds;
  int64_t keys;
  int64_t panels;
  int64_t visible;  // lane q sees keys j < visible + q; kAllVisible: every key
  float* max;       // (16 * panels), -inf before the first tile
  float* sum;
  float* alpha;
  // Weights by panel: float [key][16], or bf16 [pair of keys][16][2], an odd last key paired with zeros.
  void* weights;
  int64_t ldw;  // elements from panel to panel
  bool round;   // float weights: rounded to bf16's values
};
inline constexpr int64_t kAllVisible = INT64_MAX / 2;

// The step of tiled attention's gradient between its products (attention_backward_tiled.cpp) for one tile, keys down,
// queries in lanes: weights p = e^(score - lse) and ds = p (dweight - delta), both zero where a key is hidden.
struct BackwardTile {
  const float* scores;    // (keys, 16 * panels), lds apart
  const float* dweights;  // likewise: the gradient by the weights
  int64_t lds;
  int64_t keys;
  int64_t panels;
  int64_t visible;     // lane q sees keys j < visible + q
  const float* lse;    // (16 * panels); +inf: no query
  const float* delta;  // (16 * panels)
  // Rows (keys, 16 * panels), ldr elements apart, float or bf16.
  void* weights;
  void* dscores;
  int64_t ldr;
  // ds by panel: float [key][16], or bf16 [pair of keys][16][2], an odd last key paired with zeros.
  void* dscore_panels;
  int64_t ldp;  // elements from panel to panel
  bool round;   // float: weights and ds rounded to bf16's values
};

// Decode attention over a few rows of a latent cache for a group of kLatentHeads heads: scores, softmax and the
// weighted sum of the rows' first r values, added to the running state. Products go along the rows for the scores, over
// the rows for the sum.
inline constexpr int64_t kLatentHeads = 8;
inline constexpr int64_t kLatentRows = 32;  // at most, a call: they stay in the first cache between the two products
struct LatentTile {
  const void* const* rows;  // (count), and one more of zeros if count is odd
  int64_t count;
  const void* const* next;  // rows to ask memory for, (next_count)
  int64_t next_count;
  int64_t width, r;
  const void* q;  // (8, ldq), zero from width to ldq, a multiple of 32
  int64_t ldq;
  float scale;
  bool round;  // float32 weights: rounded to bf16's values
  float* max;  // (8), -inf before the first rows
  float* sum;  // (8)
  float* out;  // (8, ldo) float32, ldo a multiple of 32, >= r
  int64_t ldo;
};

// AVX512-BF16: rows and q are bf16; the columns of `out` are in the order that LatentStoreBf16 undoes.
void SoftmaxBf16(const SoftmaxTile& tile);
void BackwardStepBf16(const BackwardTile& tile);
void LatentStepBf16(const LatentTile& tile);
// Columns of a row of LatentTile::out in their order: to (n,).
void LatentStoreBf16(float* to, const float* out, int64_t n);

}  // namespace fathom::kernels
