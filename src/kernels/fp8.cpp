// Tiles and blocks of FP8 that training keeps (train_ops.h): choice of an implementation, rows dealt out to the
// threads.
#include <algorithm>

#include "kernels/reference/fp8.h"
#include "kernels/registry.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kValuesPerTask = 1 << 14;

template <class Args>
using RowsEntry = Entry<void (*)(const Args&, int64_t begin, int64_t end), Args>;

constexpr RowsEntry<PackTilesArgs> kPackTiles[] = {{"reference", Isa::kReference, reference::PackTiles}};
constexpr RowsEntry<UnpackTilesArgs> kUnpackTiles[] = {{"reference", Isa::kReference, reference::UnpackTiles}};
constexpr RowsEntry<QuantizeBlocksArgs> kQuantizeBlocks[] = {{"reference", Isa::kReference, reference::QuantizeBlocks}};

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

void AppendFp8Ops(std::vector<OpEntry>& ops) {
  AppendTable(ops, "PackTiles", kPackTiles);
  AppendTable(ops, "UnpackTiles", kUnpackTiles);
  AppendTable(ops, "QuantizeBlocks", kQuantizeBlocks);
}

}  // namespace fathom::kernels
