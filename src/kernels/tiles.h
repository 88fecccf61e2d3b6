// Single-thread primitives, one table per instruction set, on which the matrix products (linear.cpp) and the attention
// are built. Plain data: files compiled with their own instruction-set flags include it.
//
// Panels. A product C = A B takes B in panels of 16 lanes (tokens, queries or output columns), so that one lane of a
// vector is one of them and A is read where it lies, element by element along its rows:
//   float32  panel [k][16]
//   bf16     panel [kpairs][16][2]: the two values of a pair adjacent ("VNNI"), what vdpbf16ps and AMX tiles take
// Lanes of a panel that nobody asked for must be finite or zero: their results are computed and not looked at.
//
// No primitive reads or writes outside the elements that its arguments name. Pointers need the alignment of their
// element only; panels and C are faster at 64 bytes.
#pragma once

#include <cstdint>

namespace fathom {
enum class Isa : uint8_t;  // core/context.h, which files with their own flags do not include
}

namespace fathom::kernels {

inline constexpr int64_t kLanes = 16;
// Rows of x that quads_* take in a group, where there are m.
inline constexpr int64_t QuadGroup(int64_t m) {
  const int64_t groups = (m + 23) / 24;
  return ((m + groups - 1) / groups + 3) / 4 * 4;
}

// Rows of a result that lie so many values apart may be written around the caches: logits, which are larger than those
// and read much later. Their lines would be fetched only to be overwritten.
inline constexpr int64_t kFarRows = 1 << 16;

// C (rows, 16 * panels) = [C +] scale * lane_scale * (A B). The product is summed in float32, value after value of k
// (in bf16 pair after pair), in pieces of k: each from zero, then scaled and added to C in float32. So one call over k
// gives the same bits as calls over parts of it that end between pieces, and as A and B in each other's place.
inline constexpr int64_t kSumCutF32 = 256, kSumCutBf16 = 512;  // values of k in a piece

struct MulF32 {
  float* c;
  int64_t ldc;
  const float* a;  // (rows, k), lda apart
  int64_t lda;
  const float* b;  // panel p begins at b + p * ldb: [k][16]
  int64_t ldb;
  int64_t rows, k, panels;
  float scale;
  const float* lane_scale;  // (16 * panels,) or null for 1
  bool accumulate;
};
struct MulBf16 {
  float* c;
  int64_t ldc;
  const uint16_t* a;  // (rows, 2 * kpairs) bf16, lda elements apart
  int64_t lda;
  const uint16_t* b;  // panel p begins at b + p * ldb: [kpairs][16][2]
  int64_t ldb;
  int64_t rows, kpairs, panels;
  float scale;
  const float* lane_scale;
  bool accumulate;
  // Where A is not in a cache: the place of the rows that will probably be read after the last one, lda apart, to be
  // fetched ahead (a hint, never an access). Or null.
  const uint16_t* a_next;
  // A in panels too, its rows their lanes: rows 16 q to 16 q + 15 at a + q * lda, [kpairs][16][2]. Only where
  // Tiles::a_panels says so.
  bool a_panels = false;
};

// The products of FP8 codes: C (rows, 16 * panels) = [C +] sum over pieces of 128 of k of row_scale * lane_scale *
// (A B), each piece summed in float32 from zero, value after value or in bf16 pair after pair.
inline constexpr int64_t kSumCutCodes = 128;
struct MulScaled {
  float* c;
  int64_t ldc;
  const void* a;  // as in MulF32 or MulBf16; in elements
  int64_t lda;
  const void* b;
  int64_t ldb;
  int64_t rows, k, panels;  // bf16: an odd k is followed by a zero in A and B
  const float* row_scale;   // of piece p and row r at p * ld_row_scale + r
  int64_t ld_row_scale;
  const float* lane_scale;  // of piece p and lane l at p * ld_lane_scale + l
  int64_t ld_lane_scale;
  bool accumulate;
  bool a_panels;  // A in panels as in MulBf16
};

// Rows of n values in tiles of 128: the codes' values of row r at r * ld, the scale of its tile t, of an amax of at
// least `floor`, at t * ld_scales + r.
struct QuantizedRowsBf16 {
  uint16_t* values;
  int64_t ld;
  float* scales;
  int64_t ld_scales;
  const float* const* rows;  // (count,)
  int64_t count, n;
  bool ue8m0;
  float floor;
};

// A tile of up to 128 rows and 128 columns of float32, quantised in columns: by way of the values of its 1x128 codes
// (rows first), or as one block. The codes' values become panels whose lanes are its columns, scales (n,) the columns'.
struct ColumnTile {
  const float* const* rows;  // (count,), each of n values
  int64_t count, n;
  bool ue8m0, block;
  float floor;  // of amax
  float* scales;
  void* panels;   // panel p at p * ld elements: [row][16], or bf16 [pair][16][2], an odd last row paired with zeros;
  int64_t ld;     // lanes from n on are zero
  void* scratch;  // kColumnTileBytes, aligned to 64 bytes
};
inline constexpr int64_t kColumnTileBytes = 128 * 128 * 4 + 128 * 4;

// y[i * ldy + n] = sum over k of x[i, k] * w[n, k] for n < rows, i < m: accumulators along k, for few rows of x.
// W is read once for every four or eight rows of x. The sum's order does not depend on rows or m.
struct Dot {
  float* y;
  int64_t ldy;
  const void* w;  // (rows, k) contiguous
  const void* x;  // (m, k) ldx apart: float32 for dot_f32_*, bf16 for dot_bf16_*
  int64_t ldx;    // dot_bf16_*: the row is zero from k up to a multiple of 64
  int64_t rows, m, k;
  const float* w_scale;  // of each 128 of k, the same for all rows, or null
  const float* x_scale;  // (m, ceil(k / 128)), ldxs apart, or null (only with w_scale)
  int64_t ldxs;
  const void* next;  // where the thread will probably read on after these rows: what to fetch ahead; or null
  // dot_compact: CompactMatrix::high; w is a block of the matrix, rows whole blocks. Row i of x is row x_rows[i], if
  // given.
  const uint8_t* high;
  const int32_t* x_rows;
};

struct Tiles {
  void (*mul_f32)(const MulF32&);
  void (*mul_bf16)(const MulBf16&);  // null: no unit for bf16; round the values and use float32
  bool a_panels;                     // mul_bf16 takes A in panels

  void (*dot_f32_f32)(const Dot&);  // by the type of w
  void (*dot_f32_bf16)(const Dot&);
  void (*dot_f32_f16)(const Dot&);
  void (*dot_f32_e4m3)(const Dot&);
  void (*dot_bf16_bf16)(const Dot&);  // null without mul_bf16
  void (*dot_bf16_e4m3)(const Dot&);
  void (*dot_compact)(const Dot&);  // rows of bf16 x and a compact matrix (compact.h); null where that is not built
  // The same product, bf16 or E4M3 rows of w, summed as mul_bf16 sums it, to the bit; null where that is not built.
  void (*stream_bf16)(const Dot&);
  void (*stream_e4m3)(const Dot&);
  // The same product for more rows of x, in quads of 4 rows and groups of QuadGroup(m) rows. A group is of
  // bf16, (ldx / 8, quads, 4, 8): eight values of each row; zero from k up to ldx, a multiple of 64, and beyond m. Null
  // where that is not built. The sum's order does not depend on rows or m.
  void (*quads_bf16)(const Dot&);
  void (*quads_e4m3)(const Dot&);

  // Rows of n values; exact (e4m3 and f16 subnormals, infinities and NaN included).
  void (*widen_bf16)(float* out, const void* in, int64_t n);
  void (*widen_f16)(float* out, const void* in, int64_t n);
  void (*widen_e4m3)(float* out, const void* in, int64_t n);
  void (*widen_e4m3_bf16)(uint16_t* out, const void* in, int64_t n);
  // Codes times the float32 scale (at any address) of each 128, rounded to float32; that rounded to bf16 (null without
  // mul_bf16).
  void (*scale_e4m3)(float* out, const void* in, const void* scales, int64_t n);
  void (*scale_e4m3_bf16)(uint16_t* out, const void* in, const void* scales, int64_t n);
  // To the nearest bf16, ties to even; as bf16, or kept as float32. With mul_bf16 results below 2^-126 may be zero.
  void (*round_bf16)(uint16_t* out, const float* in, int64_t n);
  void (*round_f32)(float* out, const float* in, int64_t n);

  // out[c * ldo + r] = in[r * ldi + c] for 32-bit values: x rows to float32 panels (ldo = 16), rows of bf16 pairs to
  // bf16 panels, C back to rows.
  void (*transpose32)(void* out, int64_t ldo, const void* in, int64_t ldi, int64_t rows, int64_t cols);
  // bf16 panels whose lanes are the columns of w (k, n), ldw apart: rows 2i and 2i + 1 interleaved; an odd last row is
  // paired with zeros, lanes from n on are zero. Panel p at b + p * ldb, ceil(n / 16) panels.
  void (*pair_rows)(uint16_t* b, int64_t ldb, const uint16_t* w, int64_t ldw, int64_t k, int64_t n);
  // The same for one pair of rows of n float32 values, rounded as by round_bf16; odd null: zeros.
  void (*pair_rounded)(uint16_t* b, int64_t ldb, const float* even, const float* odd, int64_t n);

  // One row in tiles of 128: scales (ceil(n/128),) of an amax of at least `floor`, and codes or the codes' values,
  // whichever is not null.
  void (*quantize)(uint8_t* codes, float* values, float* scales, const float* x, int64_t n, bool ue8m0, float floor);

  // FP8 of training; those after column_tile_f32 are null without mul_bf16.
  float (*largest)(const float* x, int64_t n);  // magnitude; NaN is passed over
  // x / scale as codes of E4M3 or their values, whichever is not null; as codes of E5M6 (train_ops.h: TileFormat).
  void (*encode_e4m3)(uint8_t* codes, float* values, const float* x, int64_t n, float scale);
  void (*encode_e5m6)(void* out, const float* x, int64_t n, float scale);
  void (*scale_e5m6)(float* out, const void* in, int64_t n, float scale);
  void (*mul_scaled_f32)(const MulScaled&);
  void (*column_tile_f32)(const ColumnTile&);
  void (*mul_scaled_bf16)(const MulScaled&);
  void (*quantize_rows_bf16)(const QuantizedRowsBf16&);
  void (*column_tile_bf16)(const ColumnTile&);
  // pair_rows for codes of E4M3, widened.
  void (*pair_codes)(uint16_t* b, int64_t ldb, const uint8_t* w, int64_t ldw, int64_t k, int64_t n);
  // A panel (at 64 bytes) whose lanes are up to 16 rows of n codes, ld apart: widened [pair][16][2], up to a multiple
  // of 64 codes, what is missing zero.
  void (*turn_codes)(uint16_t* panel, const uint8_t* codes, int64_t ld, int64_t rows, int64_t n);
};

// The table of an instruction set, made of its own primitives and those of the sets below it; null for the reference
// and where it is not built. Whether the machine has the set is not looked at.
const Tiles* TilesOf(Isa isa);

// Parts of them: tables of the portable vector code (simd/tiles.cpp); null where not built.
const Tiles* TilesSse4();
const Tiles* TilesAvx2();
const Tiles* TilesAvx512();
const Tiles* TilesNeon();
// Puts the primitives of an instruction set into a table that holds those of the one below (x86/*.cpp); false where
// not built.
bool AddAvx512Bf16(Tiles* tiles);
bool AddAmx(Tiles* tiles);

}  // namespace fathom::kernels
