#include "kernels/latent_row.h"

#include <algorithm>
#include <cstring>

namespace fathom::kernels {

void WriteLatentRow(const Tiles& tiles, const LatentCache& cache, std::byte* row, const float* x) {
  const int64_t r = cache.latents();
  std::fill(row + r, row + cache.scales_at(), std::byte{0});
  for (int64_t c = 0; c < r; c += kFp8Block) {
    float scale;
    tiles.quantize(reinterpret_cast<uint8_t*>(row) + c, nullptr, &scale, x + c, std::min(kFp8Block, r - c), false,
                   kFp8AmaxFloor);
    std::memcpy(row + cache.scales_at() + c / kFp8Block * 4, &scale, sizeof scale);
  }
  // Not by round_bf16, which takes subnormals to zero where the machine's products do: a cache is what the contract
  // says on every machine.
  auto* rope = reinterpret_cast<uint16_t*>(row + cache.rope_at());
  for (int64_t i = 0; i < cache.rope; ++i) rope[i] = F32ToBf16(x[r + i]);
}

void ReadLatentRow(const Tiles& tiles, const LatentCache& cache, const std::byte* row, int64_t column, int64_t n,
                   float* out) {
  const int64_t r = cache.latents(), end = column + n;
  const auto scales = [&](int64_t c) { return row + cache.scales_at() + c / kFp8Block * 4; };
  int64_t c = column;
  if (c < std::min(r, end)) {
    const int64_t stop = std::min({(c + kFp8Block - 1) / kFp8Block * kFp8Block, r, end});
    if (c < stop) tiles.scale_e4m3(out, row + c, scales(c), stop - c);
    c = std::min(r, end);
    if (stop < c) tiles.scale_e4m3(out + stop - column, row + stop, scales(stop), c - stop);
  }
  if (c < end) tiles.widen_bf16(out + c - column, row + cache.rope_at() + (c - r) * 2, end - c);
}

void ReadLatentRow(const Tiles& tiles, const LatentCache& cache, const std::byte* row, uint16_t* out) {
  const int64_t r = cache.latents();
  const std::byte* scales = row + cache.scales_at();
  if (tiles.scale_e4m3_bf16) {
    tiles.scale_e4m3_bf16(out, row, scales, r);
  } else {
    for (int64_t c = 0; c < r; c += kFp8Block) {
      const int64_t count = std::min(kFp8Block, r - c);
      float values[kFp8Block];
      tiles.scale_e4m3(values, row + c, scales + c / kFp8Block * 4, count);
      tiles.round_bf16(out + c, values, count);
    }
  }
  std::memcpy(out + r, row + cache.rope_at(), static_cast<size_t>(2 * cache.rope));
}

}  // namespace fathom::kernels
