#include "kernels/reference/fp8.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference/linear.h"

namespace fathom::kernels::reference {
namespace {

int64_t Tiles(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }
size_t At(int64_t i) { return static_cast<size_t>(i); }

float Largest(const float* x, int64_t n, float amax = 0) {
  for (int64_t i = 0; i < n; ++i) amax = std::fmax(amax, std::fabs(x[i]));  // NaN is passed over
  return amax;
}

void PutE5M6(std::byte* row, int64_t i, uint32_t code) {
  std::byte* pair = row + i / 2 * 3;
  if (i % 2 == 0) {
    pair[0] = static_cast<std::byte>(code & 0xffu);
    pair[1] = static_cast<std::byte>(code >> 8);
  } else {
    pair[1] |= static_cast<std::byte>(code << 4 & 0xf0u);
    pair[2] = static_cast<std::byte>(code >> 4);
  }
}

uint16_t TakeE5M6(const std::byte* row, int64_t i) {
  const std::byte* pair = row + i / 2 * 3;
  const auto byte = [&](int64_t j) { return std::to_integer<uint32_t>(pair[j]); };
  return static_cast<uint16_t>(i % 2 == 0 ? byte(0) | (byte(1) & 15u) << 8 : byte(1) >> 4 | byte(2) << 4);
}

}  // namespace

void PackTiles(const PackTilesArgs& args, int64_t begin, int64_t end) {
  const bool e5m6 = args.format == TileFormat::kE5M6;
  const int64_t bytes = TileRowBytes(args.format, args.n), tiles = Tiles(args.n);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    std::byte* codes = args.codes + row * bytes;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = t * kFp8Block, last = std::min(first + kFp8Block, args.n);
      const float scale =
          Fp8Scale(Largest(x + first, last - first), args.ue8m0, kFp8TrainingFloor, e5m6 ? kE5M6Max : kE4M3Max);
      args.scales[row * tiles + t] = scale;
      for (int64_t i = first; i < last; ++i) {
        if (e5m6) {
          PutE5M6(codes, i, F32ToE5M6(x[i] / scale));
        } else {
          codes[i] = static_cast<std::byte>(F32ToE4M3(x[i] / scale));
        }
      }
    }
  }
}

void UnpackTiles(const UnpackTilesArgs& args, int64_t begin, int64_t end) {
  const int64_t bytes = TileRowBytes(args.format, args.n), tiles = Tiles(args.n);
  for (int64_t row = begin; row < end; ++row) {
    const std::byte* codes = args.codes + row * bytes;
    for (int64_t i = 0; i < args.n; ++i) {
      const float value = args.format == TileFormat::kE5M6 ? E5M6ToF32(TakeE5M6(codes, i))
                                                           : E4M3ToF32(std::to_integer<uint8_t>(codes[i]));
      args.x[row * args.ldx + i] = value * args.scales[row * tiles + i / kFp8Block];
    }
  }
}

void QuantizeBlocks(const QuantizeBlocksArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.cols, blocks = Tiles(n);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * kFp8Block, last = std::min(first + kFp8Block, args.rows);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t column = b * kFp8Block, width = std::min(kFp8Block, n - column);
      float amax = 0;
      for (int64_t row = first; row < last; ++row) amax = Largest(args.w + row * n + column, width, amax);
      const float scale = Fp8Scale(amax, args.ue8m0, kFp8TrainingFloor);
      args.scales[block * blocks + b] = scale;
      for (int64_t row = first; row < last; ++row) {
        for (int64_t i = row * n + column; i < row * n + column + width; ++i) {
          args.codes[i] = F32ToE4M3(args.w[i] / scale);
        }
      }
    }
  }
}

Operand RowTiles(const QuantizedRows& x, int64_t begin, int64_t end) {
  const int64_t tiles = Tiles(x.n);
  Operand out{std::vector<float>(At((end - begin) * x.n)), std::vector<float>(At((end - begin) * tiles))};
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = t * kFp8Block, n = std::min(kFp8Block, x.n - first);
      const int64_t top = x.blocks ? i / kFp8Block * kFp8Block : i;
      const int64_t bottom = x.blocks ? std::min(top + kFp8Block, x.m) : i + 1;
      float amax = 0;
      for (int64_t r = top; r < bottom; ++r) amax = Largest(x.Row(r) + first, n, amax);
      const float scale = Fp8Scale(amax, x.ue8m0, kFp8TrainingFloor);
      out.scales[At((i - begin) * tiles + t)] = scale;
      for (int64_t j = first; j < first + n; ++j) {
        out.values[At((i - begin) * x.n + j)] = E4M3ToF32(F32ToE4M3(x.Row(i)[j] / scale));
      }
    }
  }
  return out;
}

Operand ColumnTiles(const QuantizedRows& x) {
  const Operand rows = RowTiles(x, 0, x.m);
  const int64_t tiles = Tiles(x.n);
  Operand out{rows.values, std::vector<float>(At(Tiles(x.m) * x.n))};
  for (int64_t t = 0; t < Tiles(x.m); ++t) {
    const int64_t top = t * kFp8Block, bottom = std::min(top + kFp8Block, x.m);
    for (int64_t j = 0; j < x.n; ++j) {
      const auto scale_of = [&](int64_t i) { return rows.scales[At(i * tiles + j / kFp8Block)]; };
      float& scale = out.scales[At(t * x.n + j)];
      if (x.blocks) {
        scale = scale_of(top);
        continue;
      }
      float amax = 0;
      for (int64_t i = top; i < bottom; ++i) {
        amax = std::fmax(amax, std::fabs(rows.values[At(i * x.n + j)] * scale_of(i)));
      }
      scale = Fp8Scale(amax, x.ue8m0, kFp8TrainingFloor);
      for (int64_t i = top; i < bottom; ++i) {
        float& value = out.values[At(i * x.n + j)];
        value = E4M3ToF32(F32ToE4M3(value * scale_of(i) / scale));
      }
    }
  }
  return out;
}

}  // namespace fathom::kernels::reference
