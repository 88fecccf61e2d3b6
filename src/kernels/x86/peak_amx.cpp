// Tile products, four accumulators of 16x16 (tiles 0-3) from two tiles on each side (4, 5 and 6, 7): the shape that a
// matrix product keeps in registers. Only called where MachineHas(Isa::kAmx), which asks the system for the tile state.
#include <immintrin.h>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

struct Tile {
  alignas(64) uint32_t words[16][16];
};

inline void Begin(uint32_t word) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.row_bytes[t] = 64;
    config.rows[t] = 16;
  }
  _tile_loadconfig(&config);
  Tile tile;
  for (auto& row : tile.words) {
    for (uint32_t& w : row) w = word;
  }
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, tile.words, 64);
  _tile_loadd(5, tile.words, 64);
  _tile_loadd(6, tile.words, 64);
  _tile_loadd(7, tile.words, 64);
}

inline float End() {
  Tile tile;
  _tile_stored(0, tile.words, 64);
  float sum = static_cast<float>(tile.words[0][0]);
  _tile_stored(1, tile.words, 64);
  sum += static_cast<float>(tile.words[0][0]);
  _tile_stored(2, tile.words, 64);
  sum += static_cast<float>(tile.words[0][0]);
  _tile_stored(3, tile.words, 64);
  sum += static_cast<float>(tile.words[0][0]);
  _tile_release();
  return sum;
}

}  // namespace

double DotBf16Amx(int64_t rounds, float* sink) {
  Begin(0x3f003f00);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  *sink = End();
  return static_cast<double>(rounds) * 4 * 16 * 16 * 32 * 2;
}

double DotInt8Amx(int64_t rounds, float* sink) {
  Begin(0x01010101);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  *sink = End();
  return static_cast<double>(rounds) * 4 * 16 * 16 * 64 * 2;
}

}  // namespace fathom::kernels::peak
