// The list of operations, one Args struct and contract each. This, train_ops.h, logit_ops.h and peak.h are the only
// headers of kernels/ that other folders include. Each op has an entry per instruction set in registry.cpp, best first,
// the scalar reference last: the reference (reference/*.cpp) is the specification, and every other entry is tested
// against it.
//
// Conventions. Activations are float32, row-major, rows of `ld` elements apart. Weights stay in the checkpoint's layout
// and type: (out_features, in_features) row-major. Outputs come first. Nothing allocates: scratch comes from the
// caller's Arena, and a call with a planner Arena (Arena::Planner()) only takes slots and returns, so that memory is
// planned by the code that runs. Results do not depend on the number of threads. Every op runs its own parallel region
// on ctx.pool.
//
// Letters: T tokens of a step, H heads, L cached positions, r = kv_lora_rank, dn/dr/dv = qk_nope/qk_rope/v head dims,
// E routed experts, K experts a token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/dtype.h"
#include "core/tensor.h"

namespace fathom::kernels {

// Arithmetic of the matrix products.
//   kF32   float32 activations, weights widened exactly, float32 accumulation.
//   kBf16  activations rounded to bf16 (nearest even), weights BF16 or FP8 (codes widened exactly, scales applied after
//   each 128 of
//          K in float32), float32 accumulation. F32 and F16 weights are computed as kF32.
//   kW8A8  only where the weight is F8_E4M3: activations quantised to E4M3 in 1x128 tiles on the fly (Fp8Scale, x / s
//          rounded to nearest even), products of codes summed in float32 over 128 of K, then the two scales (V3 report
//          3.3). Other weights: kF32.
//   kFp8   mixed precision of training (V3 report 3.3): where the weight is F8_E4M3 the products of kW8A8, but with a
//          floor of the scales that does not bind (kFp8TrainingFloor: gradients are small); all else, attention too,
//          as kBf16.
enum class Compute : uint8_t { kF32, kBf16, kW8A8, kFp8 };
std::string_view Name(Compute compute);  // f32 bf16 w8a8 fp8
// Of products that are not of FP8: rounded to bf16.
inline bool RoundsToBf16(Compute compute) { return compute == Compute::kBf16 || compute == Compute::kFp8; }

// A BF16 matrix in 12 bits a value, for products that wait for the memory. Nothing is lost: the low byte of a value (a
// bit of the exponent, the mantissa) is kept, the high one (sign, exponent) is one of the 15 that the matrix has most,
// named by 4 bits, or kept elsewhere (compact.h has the layout). Code 0 stands for the latter.
inline constexpr int64_t kCompactRows = 32, kCompactCols = 8;
struct CompactMatrix {
  int64_t rows = 0, cols = 0;  // multiples of kCompactRows and kCompactCols
  const uint8_t* blocks = nullptr;
  uint8_t high[16] = {};  // bytes by code
};
struct Weight;
// Whether w is BF16, whole, and of such a size.
bool CanBeCompact(const Weight& w);
int64_t CompactBytes(int64_t rows, int64_t cols);
// w in `memory` of CompactBytes, aligned to 64 bytes; false where too many of its values have rare high bytes.
bool MakeCompact(const Weight& w, uint8_t* memory, CompactMatrix* to);
// Back to BF16.
void ExpandCompact(const CompactMatrix& matrix, uint16_t* out);
// Rows of x up to which Linear reads a matrix of so many columns in that form: 0 for never, the largest number for
// always.
int64_t CompactRowsOfX(Isa isa, Compute compute, int64_t cols, bool fixed_form = false);

// A weight matrix where it lies, or some of its rows.
struct Weight {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16, kBF16, kF8E4M3
  int64_t rows = 0;           // N, out_features
  int64_t cols = 0;           // K, in_features; rows are contiguous
  // F8_E4M3: weight_scale_inv (ceil(N/128), ceil(K/128)) of the whole matrix; `row0` = index of our first row in it.
  const float* scale = nullptr;
  int64_t row0 = 0;
  bool ue8m0 = false;  // activations' scales are powers of two too (scale_fmt: ue8m0)
  // Of the whole matrix, which products read instead; or null. Rows that are no blocks of it have none.
  const CompactMatrix* compact = nullptr;

  int64_t scale_cols() const { return (cols + kFp8Block - 1) / kFp8Block; }
  float ScaleAt(int64_t row, int64_t col) const {
    return scale[(row0 + row) / kFp8Block * scale_cols() + col / kFp8Block];
  }
  Weight Rows(int64_t begin, int64_t count) const;  // the same weight's rows [begin, begin + count)
  const std::byte* RowData(int64_t row) const {
    return static_cast<const std::byte*>(data) + row * cols * SizeOf(dtype);
  }
};

// y (m, N) = x (m, K) w^T, or y += if accumulate. y is float32, or bf16 (rounded to nearest even; never with
// accumulate). y and x must not overlap. m >= 0.
struct LinearJob {
  void* y = nullptr;
  int64_t ldy = 0;
  DType y_dtype = DType::kF32;
  const float* x = nullptr;
  int64_t ldx = 0;
  const int32_t* x_rows = nullptr;  // (m,): row i of the product is row x_rows[i] of x; null: row i
  int64_t m = 0;
  Weight w;
  bool accumulate = false;

  const float* Row(int64_t i) const { return x + (x_rows ? x_rows[i] : i) * ldx; }
};

// All jobs in one parallel region: a projection, projections of one input (jobs with the same x, ldx and m share its
// conversion), or the experts of a layer (each with its own rows). Jobs must not write the same elements.
struct LinearArgs {
  std::span<const LinearJob> jobs;
  Compute compute = Compute::kF32;
  // A row of y is the same to the bit however many rows a job has. Otherwise the order of its sums may depend on m:
  // what is fastest for one row is not for a thousand. Few rows pay for it, with bf16 products little
  // (docs/kernels.md); many rows are summed as they always are.
  bool fixed_form = false;
};
void Linear(Context& ctx, Arena& scratch, const LinearArgs& args);

// y (m, C) = x (m, R) w for w (R, C) row-major: the product with the other side of a weight, as the absorbed form of
// MLA needs (q_latent = q_nope W_UK). Arithmetic as Linear's kF32 or kBf16; in kW8A8 the input is not quantised
// (demo.md 6: kF32). y float32. Heads: `jobs` many at once.
struct LinearTransposedJob {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t m = 0;
  Weight w;  // (R, C): R rows, C cols
};
void LinearTransposed(Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs, Compute compute);

// A matrix in 8-bit codes, for UpperBounds: row n is scales[n] * codes of n and a rest. Codes are -127 to 127, in
// blocks of kCodedRows rows: of each kCodedCols columns those of the first row side by side, then of the next. Rows and
// columns up to multiples of kCodedRows and kCodedStep are there, zero beyond the last.
inline constexpr int64_t kCodedRows = 32, kCodedCols = 4, kCodedStep = 16;
struct CodedMatrix {
  int64_t rows = 0, cols = 0;
  int8_t* codes = nullptr;
  int32_t* sums = nullptr;  // (rows,) of a row's codes
  float* scales = nullptr;  // (rows,)
  float* norms = nullptr;   // (rows,) at least the Euclidean norm of the row of w; inf where a value is not finite
  float* rests = nullptr;   // (rows,) at least that of its rest
};
constexpr int64_t CodedWidth(int64_t cols) { return (cols + kCodedStep - 1) / kCodedStep * kCodedStep; }
// Where the code of row n and column k is.
constexpr int64_t CodeAt(int64_t width, int64_t n, int64_t k) {
  return n / kCodedRows * kCodedRows * width + k / kCodedCols * kCodedCols * kCodedRows + n % kCodedRows * kCodedCols +
         k % kCodedCols;
}
// One in `memory` of CodedBytes(rows, cols), aligned to 64 bytes.
int64_t CodedBytes(int64_t rows, int64_t cols);
CodedMatrix CodedMatrixIn(std::byte* memory, int64_t rows, int64_t cols);
// Codes of w (F32, F16 or BF16).
void CodeMatrix(Context& ctx, const Weight& w, const CodedMatrix& to);

// Of so many neighbours UpperBounds and Maxima (logit_ops.h) note the largest.
inline constexpr int64_t kMaximaOf = 64;
constexpr int64_t MaximaCount(int64_t n) { return (n + kMaximaOf - 1) / kMaximaOf; }

// y (m, rows): upper bounds of the products x (m, cols) w^T as Linear computes them, whatever the order of its sums.
// What the codes leave out is bounded by norms, so bounds are loose where a few values of a row are much larger than
// the rest. `round`: products of x rounded to bf16. Of a row of x that is not finite: inf or NaN.
struct UpperBoundsArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t m = 0;
  CodedMatrix w;
  bool round = false;
  float* maxima = nullptr;  // (m, MaximaCount(rows)): each row's Maxima (logit_ops.h), or null
};
void UpperBounds(Context& ctx, Arena& scratch, const UpperBoundsArgs& args);
// Whether that is faster than the products themselves, of m rows.
bool FastUpperBounds(const Context& ctx, int64_t m);

// y = x / sqrt(mean(x^2) + eps) * weight, row by row. (rows, n). In place allowed. weight: F32, F16 or BF16.
struct RmsNormArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t n = 0;
  const void* weight = nullptr;
  DType weight_dtype = DType::kF32;
  float eps = 1e-6f;
};
void RmsNorm(Context& ctx, const RmsNormArgs& args);

// Rotates the interleaved pairs (x[2i], x[2i+1]) of each head's last `dim` values in place by the angle of its row's
// position. x (rows, heads, stride_head apart), the rotated part begins at x. cos/sin (max_position, dim/2) tables,
// amplitude included.
struct RopeArgs {
  float* x = nullptr;
  int64_t row_stride = 0;
  int64_t head_stride = 0;
  int64_t rows = 0;
  int64_t heads = 1;
  int64_t dim = 0;
  const int32_t* positions = nullptr;  // (rows,)
  const float* cos = nullptr;          // (positions, dim / 2)
  const float* sin = nullptr;
  bool inverse = false;  // by the negative angle: the gradient of the rotation
};
void Rope(Context& ctx, const RopeArgs& args);

// out = silu(gate) * up, element by element. (rows, n).
struct SwigluArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* gate = nullptr;
  const float* up = nullptr;
  int64_t ldx = 0;  // of gate and up
  int64_t rows = 0;
  int64_t n = 0;
};
void Swiglu(Context& ctx, const SwigluArgs& args);

// Experts of each token. logits (T, E) float32 = router product in float32.
//   noaux_tc              s = sigmoid(logits), selection by s + bias, group score = sum of its two best, groups outside
//   the best
//                         topk_group masked with -inf, weights = s of the selected (report 2.1.2, published Gate)
//   greedy                s = softmax(logits), no groups (V2-Lite)
//   group_limited_greedy  s = softmax(logits), group score = its best (V2)
// then w / (sum + 1e-20) if norm_topk_prob, times routed_scaling_factor. ids come in descending order of selection
// score; equal scores: the lower index first.
enum class TopkMethod : uint8_t { kNoauxTc, kGreedy, kGroupLimitedGreedy };
struct GateArgs {
  int32_t* ids = nullptr;         // (T, K)
  float* weights = nullptr;       // (T, K)
  const float* logits = nullptr;  // (T, E)
  const float* bias = nullptr;    // (E,) e_score_correction_bias or null
  int64_t tokens = 0;
  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  TopkMethod method = TopkMethod::kNoauxTc;
  bool sigmoid = true;  // scoring_func: sigmoid or softmax
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1.0f;
};
void Gate(Context& ctx, const GateArgs& args);

// y (T, n) += sum over k of weights[t, k] * x[row_of[t, k]], in the order of k. row_of < 0: skipped. weights null: 1.
struct CombineArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* x = nullptr;
  int64_t ldx = 0;
  const int32_t* row_of = nullptr;  // (T, K)
  const float* weights = nullptr;   // (T, K)
  int64_t tokens = 0;
  int64_t top_k = 0;
  int64_t n = 0;
};
void Combine(Context& ctx, const CombineArgs& args);

// y (rows, n) = table[ids]. Table F32, F16 or BF16.
struct EmbedArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  const void* table = nullptr;
  DType table_dtype = DType::kF32;
  const int32_t* ids = nullptr;
  int64_t rows = 0;
  int64_t n = 0;
};
void Embed(Context& ctx, const EmbedArgs& args);

// The latent cache of one layer and one sequence: rows [latent after its norm (r); rotated shared key (dr)] in blocks
// of `block_tokens` rows. A block may hold the rows of all layers: this layer's begin `offset` bytes into it. Position
// p is row p % block_tokens of blocks[p / block_tokens]. dtype F32, BF16, or F8_E4M3: the row of FlashMLA, [r codes,
// padded to 4 bytes; ceil(r / 128) float32 scales, amax / 448 of 128 latents each; dr BF16 values], 656 bytes for V3.
struct LatentCache {
  std::byte* const* blocks = nullptr;
  int64_t block_tokens = 0;
  DType dtype = DType::kBF16;
  int64_t width = 0;   // r + dr
  int64_t offset = 0;  // bytes
  int64_t rope = 0;    // dr; needed for F8_E4M3 only

  int64_t latents() const { return width - rope; }
  int64_t scales_at() const { return (latents() + 3) / 4 * 4; }  // bytes into a row of F8_E4M3
  int64_t rope_at() const { return scales_at() + (latents() + kFp8Block - 1) / kFp8Block * 4; }
  int64_t row_bytes() const { return dtype == DType::kF8E4M3 ? rope_at() + rope * 2 : width * SizeOf(dtype); }
  std::byte* Row(int64_t position) const {
    return blocks[position / block_tokens] + offset + (position % block_tokens) * row_bytes();
  }
  // The last dr columns of a row, of rope_dtype().
  const std::byte* RopeRow(int64_t position, int64_t dr) const {
    return Row(position) + (dtype == DType::kF8E4M3 ? rope_at() : (width - dr) * SizeOf(dtype));
  }
  DType rope_dtype() const { return dtype == DType::kF8E4M3 ? DType::kBF16 : dtype; }
  // A type that caches have, and for F8_E4M3 a rope part within the row.
  bool Valid() const;
};

// Writes rows (rows, width) float32 to the cache at `positions`, rounding to its dtype. F8_E4M3: codes and scales of
// the latents are those of QuantizeTiles (scales of any value), padding is zero.
struct CacheWriteArgs {
  LatentCache cache;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t position = 0;  // of the first row; the others follow
};
void CacheWrite(Context& ctx, std::span<const CacheWriteArgs> writes);

// Reads positions [begin, begin + rows) as float32 (rows, n), n <= width values from `column` on: exactly, but that
// the product of a code of E4M3 and its scale is rounded to float32.
struct CacheReadArgs {
  float* y = nullptr;
  int64_t ldy = 0;
  LatentCache cache;
  int64_t begin = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t n = 0;
};
void CacheRead(Context& ctx, const CacheReadArgs& args);

// Causal attention in the full form, one sequence, `heads` heads at once (flash: online softmax over tiles of keys, no
// (T, L) buffer). Query t stands at position begin + t and sees keys 0 .. begin + t; L = begin + T.
//   out (T, heads, dv)   float32, rows ldo apart, heads dv apart
//   q (T, heads, dn+dr)  float32, rows ldq apart, heads dn+dr apart; the last dr rotated
//   kv (L, heads, dn+dv) of kv_dtype (F32 or BF16), rows ldkv apart, heads dn+dv apart: [k_nope; v] as kv_b_proj gives
//   them rotated keys from the cache: its last dr columns
// kF32, kW8A8: all in float32. kBf16: q, k, v and the softmax weights rounded to bf16 for the two products, float32
// sums. A value that is not finite may also reach queries before it, within a tile of 64 keys: their weight of it is 0.
struct AttentionArgs {
  float* out = nullptr;
  int64_t ldo = 0;
  const float* q = nullptr;
  int64_t ldq = 0;
  const void* kv = nullptr;
  DType kv_dtype = DType::kF32;
  int64_t ldkv = 0;
  LatentCache cache;
  int64_t heads = 0;
  int64_t tokens = 0;  // T
  int64_t begin = 0;
  int64_t dn = 0, dr = 0, dv = 0;
  float scale = 1.0f;
  Compute compute = Compute::kF32;
  float* lse = nullptr;  // (T, heads), rows ld_lse apart: log of the sum of e^score, for AttentionBackward; or null
  int64_t ld_lse = 0;
};
void Attention(Context& ctx, Arena& scratch, const AttentionArgs& args);

// Attention in the absorbed form: scores of queries against latent rows, output in the latent space. A batch of
// queries, each of one sequence and position; query i sees positions 0 .. length[i] - 1 of its cache. All queries' work
// is dealt out together, the positions in splits of a fixed size (kDecodeSplit) whose partial results are merged in
// order: the same bits for any threads and any batch.
//   out (Q, H, r)     float32, contiguous
//   q   (Q, H, r+dr)  float32, contiguous: [q_nope W_UK; rotated q]
// A length of 0 gives zeros. kF32 and kW8A8: float32, rows as CacheRead gives them. kBf16 with a BF16 or F8_E4M3 cache:
// q, the softmax weights and what CacheRead gives of an F8_E4M3 row rounded to bf16 for the two products, float32 sums;
// with an F32 cache as kF32.
inline constexpr int64_t kDecodeSplit = 256;
struct LatentAttentionArgs {
  float* out = nullptr;
  const float* q = nullptr;
  std::span<const LatentCache> caches;  // (Q,)
  std::span<const int64_t> lengths;     // (Q,)
  int64_t heads = 0;
  int64_t r = 0, dr = 0;
  float scale = 1.0f;
  Compute compute = Compute::kF32;
};
void LatentAttention(Context& ctx, Arena& scratch, const LatentAttentionArgs& args);

// Quantises rows to E4M3 in 1x128 tiles (the last may be short): codes (rows, n), scales (rows, ceil(n/128)).
struct QuantizeTilesArgs {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  const float* x = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t n = 0;
  bool ue8m0 = false;
};
void QuantizeTiles(Context& ctx, const QuantizeTilesArgs& args);

// Index of the first non-finite value of x (n,), or -1.
int64_t FirstNonFinite(Context& ctx, const float* x, int64_t n);

// The dispatch table, for inspection, tests and docs: entries of an op, best first.
struct OpEntry {
  std::string op, name;
  Isa isa;
  bool on_this_machine;
};
std::vector<OpEntry> ListOps();

}  // namespace fathom::kernels
