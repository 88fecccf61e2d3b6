// Tiled attention with an online softmax for up to kFlashLanes queries (or heads over one latent cache) at once, on
// tiles.h: scores S (keys, queries) = K Q^T with the queries in lanes, softmax down the columns, weights turned to
// rows, out (queries, n) = out * alpha + P V. Keys come in tiles of kFlashKeys, always cut at the same positions, so a
// query's bits do not depend on its neighbours.
//
// One thread's work; scratch from the caller (Bytes). Several blocks of queries can share the tiles of keys and values:
// filling those costs as much as one block's arithmetic on a few dozen queries. bf16: Q, K, V and P are bf16, sums
// float32. Else all is float32 and, with `round`, Q and P (K and V by who fills the tile) are rounded to bf16's values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/context.h"
#include "core/dtype.h"
#include "core/tensor.h"
#include "kernels/attention_tiles.h"
#include "kernels/tiles.h"

namespace fathom::kernels {

inline constexpr int64_t kFlashLanes = 64;
inline constexpr int64_t kFlashKeys = 64;
inline constexpr int64_t kFlashBlocks = 8;  // at most

struct FlashKernels {
  const Tiles* tiles = nullptr;
  void (*softmax)(const SoftmaxTile&) = nullptr;
  void (*pack_panels)(float* b, int64_t ldb, const float* w, int64_t ldw, int64_t k, int64_t n) = nullptr;
  Isa isa = Isa::kReference;
  bool bf16 = false;
  bool round = false;
};
// For `isa`, which must be on this machine; bf16 products if they are wanted and it has them.
FlashKernels FlashKernelsOf(Isa isa, bool want_bf16);

// C (rows, 16 * panels) = [C +] scale * A B, A (rows, k) and the panels of B in bf16 or float32. In bf16 an odd k has a
// zero after it.
struct Product {
  float* c;
  int64_t ldc;
  const std::byte* a;
  int64_t lda;
  const std::byte* b;
  int64_t rows, k, panels;
  float scale;
  bool accumulate;
  int64_t ldb;  // elements from panel to panel
};
void Multiply(const FlashKernels& kernels, const Product& product);
// n values of `dtype` as the products take them.
void ConvertRow(const FlashKernels& kernels, std::byte* to, const std::byte* from, DType dtype, int64_t n);

class Flash {
 public:
  // k: length of queries and keys, n: of values and output rows.
  Flash(const FlashKernels& kernels, int64_t k, int64_t n, int64_t blocks, std::byte* scratch);
  static int64_t Bytes(const FlashKernels& kernels, int64_t k, int64_t n, int64_t blocks);

  int64_t element() const { return kernels_.bf16 ? 2 : 4; }
  int64_t ldk() const { return RoundUp(k_, 32); }
  int64_t ldv() const { return RoundUp(n_, 16); }

  // Rows of bf16 or float32 to fill. Keys need a zero after them if k is odd.
  std::byte* key_tile() const { return key_tile_; }      // (kFlashKeys, ldk)
  std::byte* value_tile() const { return value_tile_; }  // (kFlashKeys, ldv)
  // n values of `dtype` as the tiles hold them.
  void Convert(std::byte* to, const std::byte* from, DType dtype, int64_t n) const {
    ConvertRow(kernels_, to, from, dtype, n);
  }

  // The block takes `lanes` queries, ldq apart, and forgets what it had summed.
  void Begin(int64_t block, const float* q, int64_t ldq, int64_t lanes, float scale);
  // The next tile's values, for all blocks: `keys` rows, ld apart.
  void TakeValues(const std::byte* values, int64_t ld, int64_t keys);
  // `keys` rows of keys, ld apart, with the values taken last; lane i sees those before visible + i.
  void Step(int64_t block, const std::byte* k, int64_t ld, int64_t keys, int64_t visible);
  // Results so far: unnormalised rows, maxima and sums. out_row: n values.
  const float* out_row(int64_t block, int64_t lane) const {
    return states_[static_cast<size_t>(block)].out + lane * ldv();
  }
  const float* max(int64_t block) const { return states_[static_cast<size_t>(block)].max; }
  const float* sum(int64_t block) const { return states_[static_cast<size_t>(block)].sum; }
  // to (lanes, n), ldo apart = out / sum, zero where the sum is zero.
  void Finish(int64_t block, float* to, int64_t ldo) const;

  static int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

 private:
  struct State {
    int64_t lanes, panels;
    float scale;
    std::byte* q_panels;
    float *out, *max, *sum;
  };
  int64_t Layout(int64_t blocks, std::byte* scratch);

  FlashKernels kernels_;
  int64_t k_, n_;
  std::byte *q_rows_, *key_tile_, *value_tile_, *value_panels_, *weight_panels_, *weight_rows_;
  float *scores_, *alpha_;
  std::array<State, kFlashBlocks> states_;
};

// Both forms of attention on given primitives; the tables in attention.cpp and latent_attention.cpp choose them.
struct AttentionArgs;
struct LatentAttentionArgs;
void AttentionTiled(Context& ctx, Arena& scratch, const AttentionArgs& args, const FlashKernels& kernels);
void LatentAttentionTiled(Context& ctx, Arena& scratch, const LatentAttentionArgs& args, const FlashKernels& kernels);

}  // namespace fathom::kernels
