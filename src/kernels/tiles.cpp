#include "kernels/tiles.h"

#include <array>

#include "core/context.h"

namespace fathom::kernels {
namespace {

struct Table {
  Tiles tiles{};
  bool built = false;
};

Table Made(Isa isa) {
  Table t;
  const Tiles* base = isa == Isa::kSse4   ? TilesSse4()
                      : isa == Isa::kAvx2 ? TilesAvx2()
                      : isa == Isa::kNeon ? TilesNeon()
                                          : TilesAvx512();
  if (!base || isa == Isa::kReference) return t;
  t.tiles = *base;
  t.built = true;
  if (isa == Isa::kAvx512Bf16 || isa == Isa::kAmx) t.built = AddAvx512Bf16(&t.tiles);
  if (isa == Isa::kAmx) t.built = t.built && AddAmx(&t.tiles);
  return t;
}

}  // namespace

const Tiles* TilesOf(Isa isa) {
  static const std::array<Table, kIsaCount> tables = [] {
    std::array<Table, kIsaCount> made;
    for (int i = 0; i < kIsaCount; ++i) made[static_cast<size_t>(i)] = Made(static_cast<Isa>(i));
    return made;
  }();
  const Table& t = tables[static_cast<size_t>(isa)];
  return t.built ? &t.tiles : nullptr;
}

}  // namespace fathom::kernels
