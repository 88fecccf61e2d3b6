// Tiles and blocks of FP8 that training keeps (train_ops.h): choice of an implementation, rows dealt out to the
// threads.
#include <algorithm>

#include "kernels/reference/fp8.h"
#include "kernels/registry.h"
#include "kernels/tiles.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kValuesPerTask = 1 << 14;

template <class Args>
using RowsEntry = Entry<void (*)(const Args&, int64_t begin, int64_t end), Args>;

template <Isa isa>
void Pack(const PackTilesArgs& args, int64_t begin, int64_t end) {
  const Tiles& tiles = *TilesOf(isa);
  const int64_t bytes = TileRowBytes(args.format, args.n), count = (args.n + kFp8Block - 1) / kFp8Block;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    std::byte* codes = args.codes + row * bytes;
    float* scales = args.scales + row * count;
    if (args.format == TileFormat::kE4M3) {
      tiles.quantize(reinterpret_cast<uint8_t*>(codes), nullptr, scales, x, args.n, args.ue8m0, kFp8TrainingFloor);
      continue;
    }
    for (int64_t i = 0; i < args.n; i += kFp8Block) {
      const int64_t n = std::min(kFp8Block, args.n - i);
      const float scale = Fp8Scale(tiles.largest(x + i, n), args.ue8m0, kFp8TrainingFloor, kE5M6Max);
      tiles.encode_e5m6(codes + i / 2 * 3, x + i, n, scale);
      scales[i / kFp8Block] = scale;
    }
  }
}

template <Isa isa>
void Unpack(const UnpackTilesArgs& args, int64_t begin, int64_t end) {
  const Tiles& tiles = *TilesOf(isa);
  const int64_t bytes = TileRowBytes(args.format, args.n), count = (args.n + kFp8Block - 1) / kFp8Block;
  for (int64_t row = begin; row < end; ++row) {
    float* x = args.x + row * args.ldx;
    const std::byte* codes = args.codes + row * bytes;
    const float* scales = args.scales + row * count;
    if (args.format == TileFormat::kE4M3) {
      tiles.scale_e4m3(x, codes, scales, args.n);
      continue;
    }
    for (int64_t i = 0; i < args.n; i += kFp8Block) {
      tiles.scale_e5m6(x + i, codes + i / 2 * 3, std::min(kFp8Block, args.n - i), scales[i / kFp8Block]);
    }
  }
}

template <Isa isa>
void Blocks(const QuantizeBlocksArgs& args, int64_t begin, int64_t end) {
  const Tiles& tiles = *TilesOf(isa);
  const int64_t blocks = (args.cols + kFp8Block - 1) / kFp8Block;
  for (int64_t b = begin * blocks; b < end * blocks; ++b) {
    const int64_t first = b / blocks * kFp8Block, last = std::min(first + kFp8Block, args.rows);
    const int64_t column = b % blocks * kFp8Block, n = std::min(kFp8Block, args.cols - column);
    float amax = 0;
    for (int64_t r = first; r < last; ++r) amax = std::max(amax, tiles.largest(args.w + r * args.cols + column, n));
    const float scale = args.scales[b] = Fp8Scale(amax, args.ue8m0, kFp8TrainingFloor);
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * args.cols + column;
      tiles.encode_e4m3(args.codes + at, nullptr, args.w + at, n, scale);
    }
  }
}

#if defined(__x86_64__)
#define FATHOM_TILES_ENTRIES(fn)                                                      \
  {"avx512", Isa::kAvx512, fn<Isa::kAvx512>}, {"avx2", Isa::kAvx2, fn<Isa::kAvx2>}, { \
    "sse4", Isa::kSse4, fn<Isa::kSse4>                                                \
  }
#else
#define FATHOM_TILES_ENTRIES(fn) \
  { "neon", Isa::kNeon, fn<Isa::kNeon> }
#endif

constexpr RowsEntry<PackTilesArgs> kPackTiles[] = {FATHOM_TILES_ENTRIES(Pack),
                                                   {"reference", Isa::kReference, reference::PackTiles}};
constexpr RowsEntry<UnpackTilesArgs> kUnpackTiles[] = {FATHOM_TILES_ENTRIES(Unpack),
                                                       {"reference", Isa::kReference, reference::UnpackTiles}};
constexpr RowsEntry<QuantizeBlocksArgs> kQuantizeBlocks[] = {FATHOM_TILES_ENTRIES(Blocks),
                                                             {"reference", Isa::kReference, reference::QuantizeBlocks}};

constexpr RowsEntry<Fp8TensorCoreArgs> kFp8TensorCore[] = {{"reference", Isa::kReference, reference::Fp8TensorCore}};

template <class Args, size_t n>
void RunRows(Context& ctx, std::string_view op, const RowsEntry<Args> (&table)[n], const Args& args) {
  const auto fn = Choose(ctx, op, std::span<const RowsEntry<Args>>(table), args).fn;
  const int64_t grain = std::max<int64_t>(kValuesPerTask / std::max<int64_t>(args.n, 1), 1);
  ctx.pool.ParallelFor((args.rows + grain - 1) / grain,
                       [&](int64_t task, int) { fn(args, task * grain, std::min(args.rows, (task + 1) * grain)); });
}

}  // namespace

int64_t TileRowBytes(TileFormat format, int64_t n) { return format == TileFormat::kE4M3 ? n : n / 2 * 3 + n % 2 * 2; }

void PackTiles(Context& ctx, const PackTilesArgs& args) {
  FATHOM_CHECK(args.ldx >= args.n);
  RunRows(ctx, "PackTiles", kPackTiles, args);
}

void UnpackTiles(Context& ctx, const UnpackTilesArgs& args) {
  FATHOM_CHECK(args.ldx >= args.n);
  RunRows(ctx, "UnpackTiles", kUnpackTiles, args);
}

void QuantizeBlocks(Context& ctx, std::span<const QuantizeBlocksArgs> weights) {
  struct Piece {
    const QuantizeBlocksArgs* args;
    int64_t block;
  };
  std::vector<Piece> pieces;
  for (const QuantizeBlocksArgs& w : weights) {
    for (int64_t block = 0; block * kFp8Block < w.rows; ++block) pieces.push_back({&w, block});
  }
  if (pieces.empty()) return;
  const auto fn =
      Choose(ctx, "QuantizeBlocks", std::span<const RowsEntry<QuantizeBlocksArgs>>(kQuantizeBlocks), weights.front())
          .fn;
  ctx.pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Piece& p = pieces[static_cast<size_t>(i)];
    fn(*p.args, p.block, p.block + 1);
  });
}

void Fp8TensorCore(Context& ctx, const Fp8TensorCoreArgs& args) {
  FATHOM_CHECK(args.group > 0 && args.interval % args.group == 0 && args.bits > 0 && args.bits <= 24);
  const auto fn = Choose(ctx, "Fp8TensorCore", std::span<const RowsEntry<Fp8TensorCoreArgs>>(kFp8TensorCore), args).fn;
  ctx.pool.ParallelFor(args.m, [&](int64_t i, int) { fn(args, i, i + 1); });
}

void AppendFp8Ops(std::vector<OpEntry>& ops) {
  AppendTable(ops, "PackTiles", kPackTiles);
  AppendTable(ops, "UnpackTiles", kUnpackTiles);
  AppendTable(ops, "QuantizeBlocks", kQuantizeBlocks);
  AppendTable(ops, "Fp8TensorCore", kFp8TensorCore);
}

}  // namespace fathom::kernels
