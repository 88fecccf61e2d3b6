#include "kernels/compact.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/linear_tiles.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kHalf = kCompactCols / 2;  // values whose codes are the low, or the high, 4 bits of bytes
constexpr int64_t kCountedRows = 64;         // by which high bytes are chosen

struct Codes {
  uint8_t high[16] = {};
  uint8_t of[256] = {};  // 0: rare
};

Codes ChooseCodes(const Weight& w) {
  int64_t counts[256] = {};
  const int64_t rows = std::min(w.rows, kCountedRows);
  for (int64_t i = 0; i < rows; ++i) {
    const auto* row = reinterpret_cast<const uint16_t*>(w.RowData(i * w.rows / rows));
    for (int64_t k = 0; k < w.cols; ++k) ++counts[row[k] >> 8];
  }
  int bytes[256];
  std::iota(bytes, bytes + 256, 0);
  std::stable_sort(bytes, bytes + 256, [&](int a, int b) { return counts[a] > counts[b]; });
  Codes codes;
  for (int code = 1; code < 16; ++code) {
    codes.high[code] = static_cast<uint8_t>(bytes[code - 1]);
    codes.of[bytes[code - 1]] = static_cast<uint8_t>(code);
  }
  return codes;
}

// A piece of a row; its rare high bytes to `rare`, of which `room` are left. Returns how many, more than that if they
// do not fit.
int64_t CodePiece(const Codes& codes, const uint16_t* row, uint8_t* piece, uint8_t* rare, int64_t room) {
  int64_t count = 0;
  for (int64_t half = 0; half < 2; ++half) {
    const uint16_t* from = row + half * kHalf;
    uint8_t* low = piece + kHalf + half * kHalf;
    for (int64_t at = 0; at < kHalf; ++at) {
      const uint16_t value = from[at / 8 % 2 * 32 + at / 16 * 8 + at % 8];
      low[at] = static_cast<uint8_t>(value);
      const int code = codes.of[value >> 8];
      piece[at] = static_cast<uint8_t>(half == 0 ? code : piece[at] | code << 4);
      if (code != 0) continue;
      if (count < room) rare[count] = static_cast<uint8_t>(value >> 8);
      ++count;
    }
  }
  return count;
}

}  // namespace

bool CanBeCompact(const Weight& w) {
  return w.dtype == DType::kBF16 && w.row0 == 0 && w.rows > 0 && w.rows % kCompactRows == 0 && w.cols > 0 &&
         w.cols % kCompactCols == 0 && w.cols <= UINT16_MAX;
}

int64_t CompactBytes(int64_t rows, int64_t cols) { return rows / kCompactRows * CompactBlock(cols); }

bool MakeCompact(const Weight& w, uint8_t* memory, CompactMatrix* to) {
  FATHOM_CHECK(CanBeCompact(w));
  const Codes codes = ChooseCodes(w);
  for (int64_t n = 0; n < w.rows; n += kCompactRows) {
    uint8_t* block = memory + n / kCompactRows * CompactBlock(w.cols);
    uint8_t* rare = block + kCompactPlaces;
    std::memset(block, 0, static_cast<size_t>(CompactHead(w.cols)));
    int64_t count = 0;
    for (int64_t r = 0; r < kCompactRows; ++r) {
      const auto place = static_cast<uint16_t>(count);
      std::memcpy(block + r * static_cast<int64_t>(sizeof place), &place, sizeof place);
      const auto* row = reinterpret_cast<const uint16_t*>(w.RowData(n + r));
      for (int64_t k = 0; k < w.cols; k += kCompactCols) {
        uint8_t* piece = block + CompactPieceAt(w.cols, r, k / kCompactCols);
        count += CodePiece(codes, row + k, piece, rare + count, CompactRare(w.cols) - count);
        if (count > CompactRare(w.cols)) return false;
      }
    }
  }
  *to = {.rows = w.rows, .cols = w.cols, .blocks = memory};
  std::copy(codes.high, codes.high + 16, to->high);
  return true;
}

void ExpandCompact(const CompactMatrix& matrix, uint16_t* out) {
  for (int64_t n = 0; n < matrix.rows; ++n) {
    const uint8_t* block = matrix.blocks + n / kCompactRows * CompactBlock(matrix.cols);
    uint16_t place;
    std::memcpy(&place, block + n % kCompactRows * static_cast<int64_t>(sizeof place), sizeof place);
    const uint8_t* rare = block + kCompactPlaces + place;
    for (int64_t k = 0; k < matrix.cols; k += kHalf) {
      const int64_t half = k / kHalf % 2;
      const uint8_t* piece = block + CompactPieceAt(matrix.cols, n % kCompactRows, k / kCompactCols);
      uint16_t values[kHalf];
      for (int64_t at = 0; at < kHalf; ++at) {
        const int code = piece[at] >> 4 * half & 15;
        values[at] =
            static_cast<uint16_t>((code ? matrix.high[code] : *rare++) << 8 | piece[kHalf + half * kHalf + at]);
      }
      for (int64_t i = 0; i < kHalf; ++i) out[n * matrix.cols + k + i] = values[CompactPlaceOf(i)];
    }
  }
}

bool UsesCompact(Isa isa, Compute compute) {
  const Tiles* tiles = TilesOf(isa);
  return tiles && tiles->dot_compact && ArithmeticOf(compute, DType::kBF16) == Arithmetic::kRounded;
}

}  // namespace fathom::kernels
