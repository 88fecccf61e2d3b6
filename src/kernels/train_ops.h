// The operations of training: gradients of those of ops.h, the loss and the optimiser. Conventions as there; each has
// an entry per instruction set and a scalar reference (reference/train.cpp), which is its specification.
//
// Names: dX is the gradient of the loss by X. Gradients of parameters accumulate (+=), gradients of activations are
// assigned unless the field says otherwise. Both are float32. Sums over rows are cut at fixed places: the same bits for
// any number of threads.
#pragma once

#include "kernels/ops.h"

namespace fathom::kernels {

// FP8 (kFp8, V3 report 3.3). Operands are E4M3 with float32 scales amax / 448 of a tile, or the next power of two where
// the weight says `ue8m0`; amax is at least kFp8TrainingFloor, so a tile of zeros has codes 0. Products of codes are
// summed in float32 over 128 of the summed dimension, then the two scales are applied and the result is added to a
// float32 sum (the promotion of 3.3.2).
//   dgrad  dy in 1x128 tiles along N, W in its blocks.
//   wgrad  dy and x in 128x1 tiles along the job's rows (the last may be short), made of the values that their 1x128
//          codes have: dequantised, turned, quantised again.
// `dy_blocks` quantises dy in blocks of 128 rows x 128 columns instead, for both: what the report found to diverge
// (appendix B.2). A value that is not finite gives NaN in its tile.

// dx (m, K) = sum over terms of dy (m, N) W (N, K): the gradients of all products of one input. Row i of a term's dy is
// its row dy_rows[i] (null: i). kBf16: dy is rounded to bf16 where W is BF16, sums in float32; F32 weights: kF32. kFp8:
// dgrad above where W is F8_E4M3, the others as kBf16.
struct LinearBackwardTerm {
  const float* dy = nullptr;
  int64_t ldy = 0;
  const int32_t* dy_rows = nullptr;  // (m,)
  Weight w;                          // F32, BF16, or F8_E4M3 (kFp8)
  bool dy_blocks = false;
};
struct LinearBackwardInputJob {
  float* dx = nullptr;
  int64_t ldx = 0;
  int64_t m = 0;
  std::span<const LinearBackwardTerm> terms;
  bool accumulate = false;  // dx +=
};
void LinearBackwardInput(Context& ctx, Arena& scratch, std::span<const LinearBackwardInputJob> jobs, Compute compute);

// dw (N, K) += dy^T x over m rows, dy (m, N), x (m, K), rows chosen as above. kBf16: both are rounded to bf16, sums in
// float32, the result added in float32. kFp8: wgrad above. Jobs must not write the same elements.
struct LinearBackwardWeightJob {
  float* dw = nullptr;  // contiguous
  int64_t n = 0, k = 0;
  const float* dy = nullptr;
  int64_t ldy = 0;
  const int32_t* dy_rows = nullptr;
  const float* x = nullptr;
  int64_t ldx = 0;
  const int32_t* x_rows = nullptr;
  int64_t m = 0;
  bool ue8m0 = false;  // kFp8: scales are powers of two
  bool dy_blocks = false;
};
void LinearBackwardWeight(Context& ctx, Arena& scratch, std::span<const LinearBackwardWeightJob> jobs, Compute compute);

// Of y = x r w, r = 1 / sqrt(mean(x^2) + eps): dx = r (w dy - x r^2 mean(w dy x)), dw += sum over rows of dy x r.
// dx may be dy (in place), not x.
struct RmsNormBackwardArgs {
  float* dx = nullptr;
  int64_t lddx = 0;
  bool accumulate = false;  // dx +=; then dx is neither dy nor x
  float* dw = nullptr;      // (n,)
  const float* dy = nullptr;
  int64_t lddy = 0;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t n = 0;
  const void* weight = nullptr;
  DType weight_dtype = DType::kF32;
  float eps = 1e-6f;
};
void RmsNormBackward(Context& ctx, Arena& scratch, const RmsNormBackwardArgs& args);

// Of z = weight[row] down(silu(gate) up), given dy = the gradient by down's input before `weight` is taken into account
// (the gradient of z times W_down): dgate = weight dy up silu'(gate), dup = weight dy silu(gate), dweight[row] = sum of
// dy silu(gate) up, and y = weight silu(gate) up, which down_proj's weight gradient needs (SwiGLU recomputed, report
// 3.2.3). weight null: 1, and no dweight. dgate may be gate, dup up, y dy.
struct SwigluBackwardArgs {
  float* dgate = nullptr;  // (rows, n)
  float* dup = nullptr;
  float* y = nullptr;
  float* dweight = nullptr;  // (rows,)
  const float* dy = nullptr;
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* weight = nullptr;  // (rows,)
  int64_t rows = 0;
  int64_t n = 0;  // all (rows, n) contiguous
};
void SwigluBackward(Context& ctx, const SwigluBackwardArgs& args);

// dlogits (T, E) of Gate (ops.h), through the scores of the chosen only, normalised and scaled as there; nothing goes
// to the selection bias. dweights (T, K). `balance` (S, E) or null adds the sequence-wise balance loss: row s is the
// gradient by the normalised scores s' of each token of sequence s (alpha f_i / T, report eq. 17-20), and token t
// belongs to sequence_of[t]; sigmoid scoring only.
struct GateBackwardArgs {
  float* dlogits = nullptr;
  const float* dweights = nullptr;
  const int32_t* ids = nullptr;
  const float* logits = nullptr;
  int64_t tokens = 0;
  int64_t experts = 0;
  int64_t top_k = 0;
  bool sigmoid = true;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1.0f;
  const float* balance = nullptr;
  const int32_t* sequence_of = nullptr;  // (T,)
};
void GateBackward(Context& ctx, const GateBackwardArgs& args);

// The balance loss's figures of one sequence (report eq. 17-20): f (E,) = E / (K T) times how often each expert is
// among the K largest scores, without bias and groups (equal: the lower index first); p (E,) = mean of sigmoid(logits)
// over their sum. The loss is sum f p.
struct BalanceArgs {
  float* f = nullptr;
  float* p = nullptr;
  const float* logits = nullptr;  // (T, E)
  int64_t tokens = 0;
  int64_t experts = 0;
  int64_t top_k = 0;
};
void Balance(Context& ctx, Arena& scratch, std::span<const BalanceArgs> sequences);

// Gradients of Attention (ops.h), one sequence from its beginning: L = T. The arithmetic is recomputed from q, kv and
// the rotated keys with the log-sum-exp that the forward pass left. kBf16: operands of the products are rounded to
// bf16. All sequences have the same `compute`. A value that is not finite may also reach others in its tile of 64.
//   dq (T, heads, dn+dr)   assigned
//   dkv (T, heads, dn+dv)  assigned
//   dk_rope (T, dr)        accumulated: every head shares the rotated key
struct AttentionBackwardArgs {
  float* dq = nullptr;
  int64_t lddq = 0;
  float* dkv = nullptr;
  int64_t lddkv = 0;
  float* dk_rope = nullptr;
  int64_t lddk_rope = 0;
  const float* dout = nullptr;  // (T, heads, dv)
  const float* out = nullptr;
  int64_t ldo = 0;  // of dout and out
  const float* q = nullptr;
  int64_t ldq = 0;
  const void* kv = nullptr;  // F32 or BF16
  DType kv_dtype = DType::kF32;
  int64_t ldkv = 0;
  const float* k_rope = nullptr;  // (T, dr), rotated
  int64_t ldk_rope = 0;
  const float* lse = nullptr;  // (T, heads) rows ld_lse apart, as AttentionArgs::lse
  int64_t ld_lse = 0;
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t dn = 0, dr = 0, dv = 0;
  float scale = 1.0f;
  Compute compute = Compute::kF32;
};
void AttentionBackward(Context& ctx, Arena& scratch, std::span<const AttentionBackwardArgs> sequences);

// Cross-entropy of rows of logits, which become their gradient: losses[i] = lse - logit[target], logits = scale
// (softmax - onehot(target)). target < 0: loss and gradient 0. argmax (rows,) or null: the largest logit before that,
// lowest index first.
struct CrossEntropyArgs {
  float* logits = nullptr;  // (rows, vocab), contiguous
  float* losses = nullptr;  // (rows,)
  int32_t* argmax = nullptr;
  const int32_t* targets = nullptr;  // (rows,)
  int64_t rows = 0;
  int64_t vocab = 0;
  float scale = 1.0f;
};
void CrossEntropy(Context& ctx, const CrossEntropyArgs& args);

// dtable (V, n) [ids[i]] += dy[i], in the order of i.
struct EmbedBackwardArgs {
  float* dtable = nullptr;
  const float* dy = nullptr;
  int64_t lddy = 0;
  const int32_t* ids = nullptr;
  int64_t rows = 0;
  int64_t n = 0;
};
void EmbedBackward(Context& ctx, const EmbedBackwardArgs& args);

// One step of AdamW (Loshchilov and Hutter, decoupled decay) on n values, g = grad_scale grad:
//   w -= lr decay w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w -= lr / c1 m / (sqrt(v / c2) + eps)        c1 = 1 - beta1^step, c2 = 1 - beta2^step
// Moments in float32 or bf16 (rounded to nearest even after use). The gradient is zeroed. Then the copies are made.
struct AdamwArgs {
  float* w = nullptr;
  float* grad = nullptr;
  void* m = nullptr;
  void* v = nullptr;
  DType moment_dtype = DType::kF32;
  uint16_t* bf16 = nullptr;  // w rounded to bf16, or null
  float* ema = nullptr;      // ema = ema_decay ema + (1 - ema_decay) w, or null
  int64_t n = 0;
  float grad_scale = 1, lr = 0, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, decay = 0, c1 = 1, c2 = 1, ema_decay = 0;
};
void Adamw(Context& ctx, std::span<const AdamwArgs> tensors);

// Sum of squares of all values, in double, cut at fixed places.
struct Values {
  const float* x = nullptr;
  int64_t n = 0;
};
double SumOfSquares(Context& ctx, std::span<const Values> tensors);

// FP8 copies of weights: codes (rows, cols) and scales (ceil(rows/128), ceil(cols/128)) of blocks 128x128, amax / 448
// with the floor above, as the release lays them out. All in one parallel region.
struct QuantizeBlocksArgs {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  const float* w = nullptr;  // (rows, cols)
  int64_t rows = 0;
  int64_t cols = 0;
  bool ue8m0 = false;  // the next power of two
};
void QuantizeBlocks(Context& ctx, std::span<const QuantizeBlocksArgs> weights);

// Activations that wait for the backward pass: rows in tiles 1x128 as E4M3 (a byte a value) or E5M6 (F32ToE5M6, two
// values in three bytes, the low bits first), each tile with a float32 scale: amax over the type's largest value (448,
// 65024), with the floor above, or the next power of two (`ue8m0`). E5M6 holds the input of the Linear after attention
// (report 3.3.3).
enum class TileFormat : uint8_t { kE4M3, kE5M6 };
int64_t TileRowBytes(TileFormat format, int64_t n);  // codes of a row; an odd last value of E5M6 takes two bytes
struct PackTilesArgs {
  std::byte* codes = nullptr;  // (rows, TileRowBytes)
  float* scales = nullptr;     // (rows, ceil(n/128))
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t n = 0;
  TileFormat format = TileFormat::kE4M3;
  bool ue8m0 = false;
};
void PackTiles(Context& ctx, const PackTilesArgs& args);
struct UnpackTilesArgs {
  float* x = nullptr;
  int64_t ldx = 0;
  const std::byte* codes = nullptr;
  const float* scales = nullptr;
  int64_t rows = 0;
  int64_t n = 0;
  TileFormat format = TileFormat::kE4M3;
};
void UnpackTiles(Context& ctx, const UnpackTilesArgs& args);

// y (m, n) = x w^T of codes of E4M3, without scales, as a tensor core of Hopper sums it: `group` products are added
// exactly, then they and the sum so far are aligned to the largest exponent and what lies below the highest `bits` bits
// is cut off (V3 report 3.3.2 and 3.5.2: 14 bits, by truncation). Every `interval` products the sum is added to one in
// float32 and begins anew; 0: never. An emulation, to be measured, not to be trained with. The report does not say how
// many products come together; four give its figure, nearly 2 % at K = 4096 (docs/fp8-training.md).
inline constexpr int kTensorCoreBits = 14;
inline constexpr int64_t kTensorCoreGroup = 4;
struct Fp8TensorCoreArgs {
  float* y = nullptr;          // (m, n)
  const uint8_t* x = nullptr;  // (m, k)
  const uint8_t* w = nullptr;  // (n, k)
  int64_t m = 0, n = 0, k = 0;
  int64_t interval = 0;  // a multiple of group
  int64_t group = kTensorCoreGroup;
  int bits = kTensorCoreBits;
};
void Fp8TensorCore(Context& ctx, const Fp8TensorCoreArgs& args);

}  // namespace fathom::kernels
