// Blocks of linear_blocks.h whose products are of FP8 codes: operands are quantised while they are packed, pieces of
// 128 of k are summed apart and then scaled (tiles.h: MulScaled). Terms of a job whose weight is not FP8 have scales
// of 1, and so have rows of x that are rounded to bf16 instead.
//
// Dgrad: rows of dy in 1x128 tiles along k, W as it is. Wgrad (A turned): dy and x in tiles of 128 rows, by way of
// their 1x128 codes (tiles.h: ColumnTile), which is why such jobs are cut at multiples of 128 (linear_blocks.cpp).
#include <algorithm>
#include <cstring>

#include "kernels/linear_packing.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kPieces = kDepthBytes / 2 / kSumCutCodes;  // of k at a time
constexpr int64_t kTilePanels = kFp8Block / kLanes;
static_assert(kTurnedGroupPanels % kTilePanels == 0 && kTurnedDepthBytes / 4 % kSumCutCodes == 0);

struct alignas(64) Workspace {
  std::byte a[kBlockRows * (kDepthBytes + kLine)];
  std::byte b[std::max(kGroupPanels * (kDepthBytes * kLanes + kLine),
                       kTurnedGroupPanels*(kTurnedDepthBytes* kLanes + kLine))];
  std::byte tile[kColumnTileBytes];
  std::byte panels[kFp8Block * kFp8Block * 4];  // of a tile that is turned
  float row_scale[kPieces][kBlockRows];
  float lane_scale[kPieces][kTurnedGroupPanels * kLanes];
  float sums[kBlockRows * kLanes];  // of the columns behind the last whole panel
  float row[kBlockRows];            // of B in float32
};

// f(piece, begin, end) for the pieces of a term's values [begin, end), of which the first is piece at / 128.
template <class F>
void ForPieces(int64_t begin, int64_t end, int64_t at, const F& f) {
  for (int64_t k = begin; k < end; k += kSumCutCodes) {
    f((at + k - begin) / kSumCutCodes, k, std::min(k + kSumCutCodes, end));
  }
}

// ---- Dgrad ----

bool Quantised(const BlockTerm& term) { return term.codes && !term.round; }

// The scale of the block of 128 x 128 of a in which row r of the job lies.
float BlockScale(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, int64_t r, int64_t begin,
                 int64_t end) {
  const int64_t top = r / kFp8Block * kFp8Block, bottom = std::min(top + kFp8Block, job.m);
  float amax = 0;
  for (int64_t i = top; i < bottom; ++i) {
    amax = std::max(amax, tiles.largest(reinterpret_cast<const float*>(term.a.At(i, begin)), end - begin));
  }
  return Fp8Scale(amax, term.ue8m0, kFp8TrainingFloor);
}

// A row of a as it is multiplied where quantize_rows_bf16 does not make it. Its scales go to scale[0],
// scale[kBlockRows] and so on.
void PackRow(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, const float* x, int64_t n, std::byte* out,
             float* scale) {
  float* floats = reinterpret_cast<float*>(out);
  float scales[kPieces];
  std::fill_n(scales, kPieces, 1.0f);
  if (Quantised(term)) {
    tiles.quantize(nullptr, floats, scales, x, n, term.ue8m0, kFp8TrainingFloor);
  } else if (job.bf16) {
    tiles.round_bf16(reinterpret_cast<uint16_t*>(out), x, n);
  } else {
    FloatRow(tiles, floats, reinterpret_cast<const std::byte*>(x), DType::kF32, term.round, n);
  }
  for (int64_t p = 0; p * kSumCutCodes < n; ++p) scale[p * kBlockRows] = scales[p];
}

// The same for rows of a that are quantised in blocks.
void PackBlocks(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, const Ranges& range, int64_t begin,
                int64_t end, const PackedA& to, int64_t at, float* scale, float* values) {
  ForPieces(begin, end, at, [&](int64_t piece, int64_t first, int64_t last) {
    const int64_t n = last - first;
    float block_scale = 0;
    for (int64_t r = 0; r < range.rows; ++r) {
      const int64_t row = range.row + r;
      if (r == 0 || row % kFp8Block == 0) block_scale = BlockScale(tiles, job, term, row, first, last);
      std::byte* out = to.At(r, at + first - begin);
      const float* x = reinterpret_cast<const float*>(term.a.At(row, first));
      tiles.encode_e4m3(nullptr, job.bf16 ? values : reinterpret_cast<float*>(out), x, n, block_scale);
      if (job.bf16) {
        uint16_t* halves = reinterpret_cast<uint16_t*>(out);
        tiles.round_bf16(halves, values, n);  // exact
        if (n % 2 != 0) halves[n] = 0;
      }
      scale[piece * kBlockRows + r] = block_scale;
    }
  });
}

void PackRows(const Tiles& tiles, const BlockJob& job, const Ranges& range, int64_t k, int64_t k_end, const PackedA& to,
              float* scale, float* values) {
  ForTerms(job, k, k_end, [&](const BlockTerm& term, int64_t begin, int64_t end, int64_t at) {
    if (term.a_blocks) return PackBlocks(tiles, job, term, range, begin, end, to, at, scale, values);
    const int64_t n = end - begin;
    float* first_scale = scale + at / kSumCutCodes * kBlockRows;
    const float* rows[kBlockRows];
    for (int64_t r = 0; r < range.rows; ++r) rows[r] = reinterpret_cast<const float*>(term.a.At(range.row + r, begin));
    if (Quantised(term) && job.bf16) {
      tiles.quantize_rows_bf16({reinterpret_cast<uint16_t*>(to.At(0, at)), to.ld, first_scale, kBlockRows, rows,
                                range.rows, n, term.ue8m0, kFp8TrainingFloor});
    }
    for (int64_t r = 0; r < range.rows; ++r) {
      if (!Quantised(term) || !job.bf16) PackRow(tiles, job, term, rows[r], n, to.At(r, at), first_scale + r);
      if (job.bf16 && n % 2 != 0) reinterpret_cast<uint16_t*>(to.At(r, at))[n] = 0;
    }
  });
}

void PackWeights(const Tiles& tiles, const BlockJob& job, int64_t k, int64_t k_end, int64_t column, int64_t n,
                 const PackedB& to, Workspace* space) {
  ForTerms(job, k, k_end, [&](const BlockTerm& term, int64_t begin, int64_t end, int64_t at) {
    ForPieces(begin, end, at, [&](int64_t piece, int64_t first, int64_t) {
      for (int64_t c = 0; c < RoundUp(n, kLanes); ++c) {
        const int64_t at_column = column + std::min(c, n - 1);
        space->lane_scale[piece][c] = !term.codes    ? 1.0f
                                      : job.b_turned ? term.weight->ScaleAt(at_column, first)
                                                     : term.weight->ScaleAt(first, at_column);
      }
    });
    if (!job.bf16) {
      float* out = reinterpret_cast<float*>(to.data) + at * kLanes;
      std::fill(space->row + n, space->row + RoundUp(n, kLanes), 0.0f);
      for (int64_t i = begin; i < end; ++i, out += kLanes) {
        FloatRow(tiles, space->row, term.b.At(i, column), term.b.dtype, term.round, n);
        for (int64_t p = 0; p * kLanes < n; ++p) {
          std::memcpy(out + p * to.ld, space->row + p * kLanes, kLanes * sizeof(float));
        }
      }
      return;
    }
    uint16_t* out = reinterpret_cast<uint16_t*>(to.data) + at * kLanes;
    if (job.b_turned) {
      for (int64_t c = 0; c < n; c += kLanes, out += to.ld) {
        const auto* w = reinterpret_cast<const uint8_t*>(term.b.At(column + c, begin));
        tiles.turn_codes(out, w, term.b.ld, std::min(kLanes, n - c), end - begin);
      }
      return;
    }
    if (!term.codes) {
      const auto* w = reinterpret_cast<const uint16_t*>(term.b.At(begin, column));
      return tiles.pair_rows(out, to.ld, w, term.b.ld, end - begin, n);
    }
    const auto* w = reinterpret_cast<const uint8_t*>(term.b.At(begin, column));
    tiles.pair_codes(out, to.ld, w, term.b.ld, end - begin, n);
  });
}

// ---- Wgrad ----

// Columns [column, column + n) of rows [begin, end) of an operand in tiles of 128 rows: panels, ld elements apart, and
// the columns' scales. n is at most a tile's.
void MakeTile(const Tiles& tiles, const BlockJob& job, const BlockTerm& term, const BlockOperand& x, bool block,
              int64_t begin, int64_t end, int64_t column, int64_t n, std::byte* panels, int64_t ld, float* scales,
              std::byte* scratch) {
  const float* rows[kFp8Block];
  for (int64_t i = begin; i < end; ++i) rows[i - begin] = reinterpret_cast<const float*>(x.At(i, column));
  const ColumnTile tile{rows, end - begin, n, term.ue8m0, block, kFp8TrainingFloor, scales, panels, ld, scratch};
  job.bf16 ? tiles.column_tile_bf16(tile) : tiles.column_tile_f32(tile);
}

void PackTurnedRows(const Tiles& tiles, const BlockJob& job, const Ranges& range, int64_t k, int64_t k_end,
                    const PackedA& to, float* scale, Workspace* space) {
  const BlockTerm term = job.term(job.source, 0);
  ForPieces(k, std::min(k_end, term.k), 0, [&](int64_t piece, int64_t begin, int64_t end) {
    const int64_t units = job.bf16 ? CeilDiv(end - begin, 2) : end - begin;  // of 32 bits
    for (int64_t r = 0; r < range.rows; r += kFp8Block) {
      const int64_t n = std::min(kFp8Block, range.rows - r);
      std::byte* panels = to.panels ? to.At(r, piece * kSumCutCodes) : space->panels;
      const int64_t ld = to.panels ? to.ld : kFp8Block * kLanes;
      MakeTile(tiles, job, term, term.a, term.a_blocks, begin, end, range.row + r, n, panels, ld,
               scale + piece * kBlockRows + r, space->tile);
      for (int64_t p = 0; !to.panels && p < n; p += kLanes) {
        tiles.transpose32(to.At(r + p, piece * kSumCutCodes), to.ld * to.size / 4, panels + p * kFp8Block * to.size,
                          kLanes, units, std::min(kLanes, n - p));
      }
    }
  });
}

void PackColumns(const Tiles& tiles, const BlockJob& job, int64_t k, int64_t k_end, int64_t column, int64_t columns,
                 const PackedB& to, Workspace* space) {
  const BlockTerm term = job.term(job.source, 0);
  ForPieces(k, std::min(k_end, term.k), 0, [&](int64_t piece, int64_t begin, int64_t end) {
    for (int64_t c = 0; c < columns; c += kFp8Block) {
      const int64_t n = std::min(kFp8Block, columns - c);
      float* scales = space->lane_scale[piece] + c;
      std::byte* panels = to.data + (c / kLanes * to.ld + piece * kSumCutCodes * kLanes) * ElementSize(job);
      MakeTile(tiles, job, term, term.b, false, begin, end, column + c, n, panels, to.ld, scales, space->tile);
      std::fill(scales + n, scales + RoundUp(n, kLanes), 1.0f);
    }
  });
}

// ---- C ----

void MultiplyGroup(const Tiles& tiles, const BlockJob& job, const Ranges& r, const PackedA& a, const PackedB& b,
                   int64_t k, int64_t k_end, const float* row_scale, Workspace* space) {
  bool accumulate = job.accumulate || k > 0;
  const int64_t panels = r.columns / kLanes, rest = r.columns % kLanes;
  float* c = static_cast<float*>(job.c) + r.row * job.ldc + r.column;
  ForTerms(job, k, k_end, [&](const BlockTerm&, int64_t begin, int64_t end, int64_t at) {
    const int64_t piece = at / kSumCutCodes;
    MulScaled m{c,
                job.ldc,
                a.At(0, at),
                a.ld,
                b.data + at * kLanes * ElementSize(job),
                b.ld,
                r.rows,
                end - begin,
                panels,
                row_scale + piece * kBlockRows,
                kBlockRows,
                space->lane_scale[piece],
                kTurnedGroupPanels * kLanes,
                accumulate,
                a.panels};
    const auto multiply = job.bf16 ? tiles.mul_scaled_bf16 : tiles.mul_scaled_f32;
    if (panels > 0) multiply(m);
    if (rest > 0) {
      m.c = space->sums;
      m.ldc = kLanes;
      m.b = b.data + (at * kLanes + panels * b.ld) * ElementSize(job);
      m.panels = 1;
      m.lane_scale += panels * kLanes;
      m.accumulate = false;
      multiply(m);
      for (int64_t i = 0; i < r.rows; ++i) {
        float* to = c + i * job.ldc + panels * kLanes;
        const float* sum = space->sums + i * kLanes;
        for (int64_t j = 0; j < rest; ++j) to[j] = accumulate ? to[j] + sum[j] : sum[j];
      }
    }
    accumulate = true;
  });
}

}  // namespace

int64_t ScaledScratch() { return static_cast<int64_t>(sizeof(Workspace)); }

void RunScaledBlock(const Tiles& tiles, std::span<const BlockJob> jobs, const BlockCut& cut, int64_t task,
                    std::byte* scratch) {
  Workspace* space = reinterpret_cast<Workspace*>(scratch);
  const BlockJob& job = jobs.front();
  const int64_t column = task % cut.n_blocks * cut.columns, columns = std::min(cut.columns, job.n - column);
  const int64_t row = task / cut.n_blocks * cut.rows;
  int64_t rows = 0;
  const bool same_a = job.b_turned;  // the jobs share their A, else their B
  for (const BlockJob& j : jobs) {
    const int64_t height = std::min(cut.rows, j.m - row);
    if (j.k == 0) ZeroRows(j, {row, height, column, columns});
    rows = same_a ? height : rows + height;
  }
  FATHOM_CHECK(job.c_dtype == DType::kF32 && (!job.b_turned || job.bf16));
  const int64_t depth = Depth(job);
  const bool panels = InPanels(tiles, job);
  const int64_t group = (job.a_turned       ? kTurnedGroupPanels
                         : rows > kManyRows ? kGroupPanels / 2
                                            : kGroupPanels) *
                        kLanes;
  const PackedB b{space->b, PackedLd(job, true)};
  // The jobs' rows of A lie one after the other.
  const auto each = [&](const auto& f) {
    PackedA a{space->a, PackedLd(job, panels), panels, ElementSize(job)};
    float* scale = space->row_scale[0];
    for (const BlockJob& j : jobs) {
      const int64_t height = std::min(cut.rows, j.m - row);
      f(j, height, a, scale);
      a.data = a.At(RoundUp(height, kLanes), 0);
      scale += RoundUp(height, kLanes);
    }
  };
  for (int64_t k = 0; k < job.k; k += depth) {
    const int64_t k_end = std::min(k + depth, job.k);
    if (same_a) {
      const PackedA a{space->a, PackedLd(job, panels), panels, ElementSize(job)};
      PackRows(tiles, job, {row, rows, column, columns}, k, k_end, a, space->row_scale[0], space->row);
      for (const BlockJob& j : jobs) {
        const int64_t stop = jobs.size() > 1 ? j.n : column + columns;
        for (int64_t c = column; c < stop; c += group) {
          const int64_t width = std::min(group, stop - c);
          PackWeights(tiles, j, k, k_end, c, width, b, space);
          MultiplyGroup(tiles, j, {row, rows, c, width}, a, b, k, k_end, space->row_scale[0], space);
        }
      }
      continue;
    }
    each([&](const BlockJob& j, int64_t height, const PackedA& a, float* scale) {
      const Ranges range{row, height, column, columns};
      if (j.a_turned) return PackTurnedRows(tiles, j, range, k, k_end, a, scale, space);
      PackRows(tiles, j, range, k, k_end, a, scale, space->row);
    });
    for (int64_t c = column; c < column + columns; c += group) {
      const int64_t width = std::min(group, column + columns - c);
      if (job.a_turned) {
        PackColumns(tiles, job, k, k_end, c, width, b, space);
      } else {
        PackWeights(tiles, job, k, k_end, c, width, b, space);
      }
      each([&](const BlockJob& j, int64_t height, const PackedA& a, const float* scale) {
        MultiplyGroup(tiles, j, {row, height, c, width}, a, b, k, k_end, scale, space);
      });
    }
  }
}

}  // namespace fathom::kernels
