// mul_bf16 on AMX tiles: rows of A (the weight, where it lies) are A tiles of 16 rows x 32 values, a panel of B is a
// B tile every 16 pairs, C blocks are 32 rows x 2 panels in four tiles. Ends of rows and of k are copied into zeroed
// tiles. No intrinsics but those of amx_tiles.h: this file is built a second time, emulated, for the tests.
#include "kernels/tiles.h"
#include "kernels/x86/amx_tiles.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTilePairs = 16;
constexpr int64_t kRowBytes = amx::kTileBytes;

struct alignas(64) TileBuffer {
  uint8_t bytes[amx::kTileRows * amx::kTileBytes];
};

template <int kT>
inline void LoadPart(const uint16_t* from, int64_t ld, int64_t rows, int64_t pairs) {
  if (rows == amx::kTileRows && pairs == kTilePairs) {
    amx::Load<kT>(from, 2 * ld);
    return;
  }
  TileBuffer part{};
  for (int64_t r = 0; r < rows; ++r) {
    __builtin_memcpy(part.bytes + r * kRowBytes, from + r * ld, static_cast<unsigned long>(4 * pairs));
  }
  amx::Load<kT>(part.bytes, kRowBytes);
}

// row_scale: of the rows of C, or null for 1.
template <int kT>
inline void StorePart(const MulBf16& m, int64_t row, int64_t rows, int64_t panel, const float* row_scale) {
  alignas(64) float sum[amx::kTileRows][kLanes];
  amx::Store<kT>(sum, kRowBytes);
  alignas(64) float scale[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) scale[j] = m.lane_scale ? m.scale * m.lane_scale[panel * kLanes + j] : m.scale;
  for (int64_t r = 0; r < rows; ++r) {
    float* c = m.c + (row + r) * m.ldc + panel * kLanes;
    if (row_scale) {
      for (int64_t j = 0; j < kLanes; ++j)
        c[j] = sum[r][j] * (scale[j] * row_scale[row + r]) + (m.accumulate ? c[j] : 0);
    } else if (m.accumulate) {
      for (int64_t j = 0; j < kLanes; ++j) c[j] += sum[r][j] * scale[j];
    } else {
      for (int64_t j = 0; j < kLanes; ++j) c[j] = sum[r][j] * scale[j];
    }
  }
}

// kA x kB tiles of C: kA * 16 rows (the last tile may be short), kB panels. C in tiles 0..3, A in 4 and 5, B in 6, 7.
template <int kA, int kB>
inline void Block(const MulBf16& m, int64_t row, int64_t panel, const float* row_scale) {
  const int64_t left = m.rows - row;
  const int64_t rows0 = left < 16 ? left : 16, rows1 = left < 32 ? left - 16 : 16;
  const uint16_t* a = m.a + row * m.lda;
  const uint16_t* b = m.b + panel * m.ldb;
  amx::Zero<0>();
  if constexpr (kB == 2) amx::Zero<1>();
  if constexpr (kA == 2) amx::Zero<2>();
  if constexpr (kA == 2 && kB == 2) amx::Zero<3>();
  for (int64_t k = 0; k < m.kpairs; k += kTilePairs) {
    const int64_t pairs = m.kpairs - k < kTilePairs ? m.kpairs - k : kTilePairs;
    LoadPart<6>(b + k * 2 * kLanes, 2 * kLanes, pairs, kTilePairs);
    LoadPart<4>(a + 2 * k, m.lda, rows0, pairs);
    amx::DotBf16<0, 4, 6>();
    if constexpr (kB == 2) {
      LoadPart<7>(b + m.ldb + k * 2 * kLanes, 2 * kLanes, pairs, kTilePairs);
      amx::DotBf16<1, 4, 7>();
    }
    if constexpr (kA == 2) {
      LoadPart<5>(a + 16 * m.lda + 2 * k, m.lda, rows1, pairs);
      amx::DotBf16<2, 5, 6>();
      if constexpr (kB == 2) amx::DotBf16<3, 5, 7>();
    }
  }
  StorePart<0>(m, row, rows0, panel, row_scale);
  if constexpr (kB == 2) StorePart<1>(m, row, rows0, panel + 1, row_scale);
  if constexpr (kA == 2) StorePart<2>(m, row + 16, rows1, panel, row_scale);
  if constexpr (kA == 2 && kB == 2) StorePart<3>(m, row + 16, rows1, panel + 1, row_scale);
}

// The pieces in which k is summed (tiles.h), and the scales of each.
struct Pieces {
  int64_t pairs = kSumCutBf16 / 2;
  const float* row_scale = nullptr;
  int64_t ld_row_scale = 0;
  int64_t ld_lane_scale = 0;
};

template <int kA, int kB>
inline void Sum(const MulBf16& m, const Pieces& pieces, int64_t row, int64_t panel) {
  const float* row_scale = pieces.row_scale;
  MulBf16 piece = m;
  for (int64_t k = 0; k < m.kpairs; k += pieces.pairs) {
    piece.a = m.a + 2 * k;
    piece.b = m.b + 2 * k * kLanes;
    piece.kpairs = m.kpairs - k < pieces.pairs ? m.kpairs - k : pieces.pairs;
    piece.accumulate = m.accumulate || k > 0;
    Block<kA, kB>(piece, row, panel, row_scale);
    if (row_scale) row_scale += pieces.ld_row_scale;
    if (piece.lane_scale) piece.lane_scale += pieces.ld_lane_scale;
  }
}

template <int kB>
inline void Panels(const MulBf16& m, const Pieces& pieces, int64_t panel) {
  int64_t row = 0;
  for (; row + 16 < m.rows; row += 32) Sum<2, kB>(m, pieces, row, panel);
  if (row < m.rows) Sum<1, kB>(m, pieces, row, panel);
}

void MulPieces(const MulBf16& m, const Pieces& pieces) {
  amx::Configure(amx::TileConfig());
  int64_t panel = 0;
  for (; panel + 2 <= m.panels; panel += 2) Panels<2>(m, pieces, panel);
  if (panel < m.panels) Panels<1>(m, pieces, panel);
  amx::Release();
}

void Mul(const MulBf16& m) { MulPieces(m, Pieces()); }

void MulScaledCodes(const MulScaled& m) {
  MulBf16 all{m.c,
              m.ldc,
              static_cast<const uint16_t*>(m.a),
              m.lda,
              static_cast<const uint16_t*>(m.b),
              m.ldb,
              m.rows,
              (m.k + 1) / 2,
              m.panels,
              1.0f,
              m.lane_scale,
              m.accumulate,
              nullptr};
  MulPieces(all, {kSumCutCodes / 2, m.row_scale, m.ld_row_scale, m.ld_lane_scale});
}

}  // namespace

#ifdef FATHOM_AMX_EMULATED
bool AddAmxEmulated(Tiles* tiles) {
#else
bool AddAmx(Tiles* tiles) {
#endif
  tiles->mul_bf16 = Mul;
  tiles->mul_scaled_bf16 = MulScaledCodes;
  tiles->stream_bf16 = nullptr;  // they sum as vdpbf16ps does
  tiles->stream_e4m3 = nullptr;
  tiles->quads_bf16 = nullptr;  // tiles take as many rows
  tiles->quads_e4m3 = nullptr;
  tiles->a_panels = false;
  return true;
}

}  // namespace fathom::kernels
