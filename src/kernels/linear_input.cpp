// Conversion of activations: rounding to bf16, 1x128 tiles, packing into panels.
#include <algorithm>
#include <cstring>

#include "kernels/linear_tiles.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kRowPad = 64;  // dot_bf16_* and quads_* want zeros up to a multiple of this
constexpr int64_t kQuadRows = 4;

bool UsedAsItIs(const LinearInput& in) {
  return in.layout == InputLayout::kRows && !in.x_rows && in.arithmetic == Arithmetic::kPlain;
}

// Values [begin, begin + n) of one row as bf16 (out16) or float32 (out32).
void ConvertRow(const Tiles& tiles, const LinearInput& in, int64_t row, int64_t begin, int64_t n, uint16_t* out16,
                float* out32, float* scales) {
  const float* x = in.x + (in.x_rows ? in.x_rows[row] : row) * in.ldx + begin;
  switch (in.arithmetic) {
    case Arithmetic::kCodes:
      if (in.bf16) {
        tiles.quantize_rows_bf16({out16, 0, scales, 1, &x, 1, n, in.ue8m0, in.floor});
      } else {
        tiles.quantize(nullptr, out32, scales, x, n, in.ue8m0, in.floor);
      }
      return;
    case Arithmetic::kRounded:
      if (in.bf16) {
        tiles.round_bf16(out16, x, n);
      } else {
        tiles.round_f32(out32, x, n);
      }
      return;
    case Arithmetic::kPlain:
      std::memcpy(out32, x, static_cast<size_t>(n) * sizeof(float));
      return;
  }
}

void ConvertOneRow(const Tiles& tiles, const LinearInput& in, int64_t row, std::byte* scratch) {
  float* scales = in.scales ? in.scales + row * in.ld_scales : nullptr;
  if (!in.bf16) return ConvertRow(tiles, in, row, 0, in.k, nullptr, static_cast<float*>(in.data) + row * in.ld, scales);
  uint16_t* out = static_cast<uint16_t*>(in.data) + row * in.ld;
  std::fill(out + in.k, out + in.ld, uint16_t{0});
  for (int64_t begin = 0; begin < in.k; begin += kPackDepth) {
    ConvertRow(tiles, in, row, begin, std::min(kPackDepth, in.k - begin), out + begin,
               reinterpret_cast<float*>(scratch), scales ? scales + begin / kFp8Block : nullptr);
  }
}

// A quad: its rows are written together, or threads would take its lines from each other. Rows beyond the last are
// zero.
void ConvertQuad(const Tiles& tiles, const LinearInput& in, int64_t quad, std::byte* scratch) {
  uint16_t* values = reinterpret_cast<uint16_t*>(scratch);  // (kQuadRows, kPackDepth)
  const int64_t row = quad * kQuadRows, group = QuadGroup(in.m), first = row / group * group;
  const int64_t rows = std::min(kQuadRows, in.m - row);
  const int64_t step = std::min(group, RoundUp(in.m - first, kQuadRows)) * 8;  // from eight values of k to the next
  for (int64_t r = rows; r < kQuadRows; ++r) std::fill_n(values + r * kPackDepth, kPackDepth, uint16_t{0});
  for (int64_t begin = 0; begin < in.k; begin += kPackDepth) {
    const int64_t n = std::min(kPackDepth, in.k - begin), padded = RoundUp(n, kRowPad);
    for (int64_t r = 0; r < rows; ++r) {
      uint16_t* of_row = values + r * kPackDepth;
      float* scales = in.scales ? in.scales + (row + r) * in.ld_scales + begin / kFp8Block : nullptr;
      ConvertRow(tiles, in, row + r, begin, n, of_row, reinterpret_cast<float*>(of_row), scales);
      std::fill(of_row + n, of_row + padded, uint16_t{0});
    }
    uint16_t* out = static_cast<uint16_t*>(in.data) + first * in.ld + begin / 8 * step + (row - first) * 8;
    for (int64_t k = 0; k < padded; k += 8, out += step) {
      for (int64_t r = 0; r < kQuadRows; ++r) {
        std::memcpy(out + r * 8, values + r * kPackDepth + k, 8 * sizeof(uint16_t));
      }
    }
  }
}

void ConvertPanel(const Tiles& tiles, const LinearInput& in, int64_t panel, std::byte* scratch) {
  const int64_t first = panel * kLanes, rows = std::min(kLanes, in.m - first);
  float* values = reinterpret_cast<float*>(scratch);                             // (16, kPackDepth)
  uint16_t* halves = reinterpret_cast<uint16_t*>(values + kLanes * kPackDepth);  // the same as bf16
  constexpr int64_t kMaxTiles = kPackDepth / kFp8Block;
  for (int64_t begin = 0; begin < in.k; begin += kPackDepth) {
    const int64_t n = std::min(kPackDepth, in.k - begin);
    for (int64_t r = 0; r < rows; ++r) {
      float scales[kMaxTiles] = {};
      ConvertRow(tiles, in, first + r, begin, n, halves + r * kPackDepth, values + r * kPackDepth, scales);
      if (in.bf16 && n % 2 != 0) halves[r * kPackDepth + n] = 0;
      if (!in.scales) continue;
      for (int64_t t = 0; t < CeilDiv(n, kFp8Block); ++t) {
        in.scales[(begin / kFp8Block + t) * in.ld_scales + first + r] = scales[t];
      }
    }
    // 32-bit units: values, or pairs of bf16.
    const int64_t units = in.bf16 ? CeilDiv(n, 2) : n;
    const int64_t ld_units = in.bf16 ? in.ld / 2 : in.ld, at = (in.bf16 ? begin / 2 : begin) * kLanes;
    uint32_t* out = static_cast<uint32_t*>(in.data) + panel * ld_units + at;
    if (rows < kLanes) std::memset(out, 0, static_cast<size_t>(units * kLanes) * sizeof(uint32_t));
    if (in.bf16) {
      tiles.transpose32(out, kLanes, halves, kPackDepth / 2, rows, units);
    } else {
      tiles.transpose32(out, kLanes, values, kPackDepth, rows, units);
    }
  }
  for (int64_t t = 0; in.scales && t < in.tiles(); ++t) {
    float* s = in.scales + t * in.ld_scales + first;
    std::fill(s + rows, s + kLanes, 0.0f);
  }
}

}  // namespace

bool LinearInput::SameAs(const LinearInput& o) const {
  return x && x == o.x && x_rows == o.x_rows && ldx == o.ldx && m == o.m && k == o.k && arithmetic == o.arithmetic &&
         bf16 == o.bf16 && layout == o.layout &&
         (arithmetic != Arithmetic::kCodes || (ue8m0 == o.ue8m0 && floor == o.floor));
}

int64_t LinearInput::tasks() const {
  return UsedAsItIs(*this) ? 0 : CeilDiv(m, layout == InputLayout::kPanels ? kLanes : kQuadRows);
}

void TakeInput(LinearInput* in, Arena& scratch) {
  if (UsedAsItIs(*in)) {
    in->data = const_cast<float*>(in->x);
    in->ld = in->ldx;
    return;
  }
  const bool panels = in->layout == InputLayout::kPanels;
  const int64_t count = panels ? CeilDiv(in->m, kLanes) : in->m;
  const int64_t padded = RoundUp(in->k, kRowPad), quads = RoundUp(in->m, kQuadRows) * padded;
  in->ld = panels ? (in->bf16 ? RoundUp(in->k, 2) : in->k) * kLanes : padded;
  if (in->bf16) {
    int64_t values = in->layout == InputLayout::kQuads ? quads : count * in->ld;
    if (scratch.planning()) values = std::max(values, quads);  // fewer rows than planned may be quads
    in->data = scratch.Take<uint16_t>(values);
  } else {
    in->data = scratch.Take<float>(count * in->ld);
  }
  if (in->arithmetic != Arithmetic::kCodes) return;
  in->ld_scales = panels ? count * kLanes : in->tiles();
  in->scales = scratch.Take<float>(panels ? in->tiles() * in->ld_scales : count * in->ld_scales);
}

void ConvertInput(const Tiles& tiles, const LinearInput& input, int64_t task, std::byte* scratch) {
  switch (input.layout) {
    case InputLayout::kRows:
      for (int64_t row = task * kQuadRows; row < std::min((task + 1) * kQuadRows, input.m); ++row) {
        ConvertOneRow(tiles, input, row, scratch);
      }
      return;
    case InputLayout::kQuads:
      return ConvertQuad(tiles, input, task, scratch);
    case InputLayout::kPanels:
      return ConvertPanel(tiles, input, task, scratch);
  }
}

}  // namespace fathom::kernels
