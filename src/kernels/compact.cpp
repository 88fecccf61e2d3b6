#include "kernels/compact.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/linear_tiles.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kHalf = kPieceValues / 2;  // whose codes are the low, or the high, 4 bits of bytes
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

// Of the byte at `at` of 64: its value's row, and its column after the first.
struct Origin {
  uint8_t row, col;
};
struct Origins {
  Origin of[kHalf] = {};
};
constexpr Origins MakeOrigins() {
  Origins origins;
  for (int64_t v = 0; v < kHalf; ++v) {
    origins.of[PlaceOfValue(v)] = {static_cast<uint8_t>(v % 32 / 2), static_cast<uint8_t>(v / 32 * 2 + v % 2)};
  }
  return origins;
}
constexpr Origins kOrigins = MakeOrigins();
constexpr int64_t kHalfCols = kCompactCols / 2;

// The piece of 16 rows that begins at `from`; its rare high bytes to `rare`, of which `room` are left. Returns how many
// they are, more than that if they do not fit.
int64_t CodePiece(const Codes& codes, const uint16_t* from, int64_t ld, uint8_t* piece, uint8_t* rare, int64_t room) {
  int64_t count = 0;
  for (int64_t half = 0; half < 2; ++half) {
    uint8_t* low = piece + kHalf + half * kHalf;
    for (int64_t at = 0; at < kHalf; ++at) {
      const uint16_t value = from[kOrigins.of[at].row * ld + half * kHalfCols + kOrigins.of[at].col];
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

// f(rows from, columns from, piece's place in the block) for each, in their order.
template <class F>
bool ForEachPiece(int64_t cols, const F& f) {
  int64_t place = CompactHead(cols);
  for (int64_t k = 0; k < cols; k += kCompactCols) {
    for (int64_t row = 0; row < kCompactRows; row += kPieceRows, place += kPieceBytes) {
      if (!f(row, k, place)) return false;
    }
  }
  return true;
}

}  // namespace

bool CanBeCompact(const Weight& w) {
  return w.dtype == DType::kBF16 && w.row0 == 0 && w.rows > 0 && w.rows % kCompactRows == 0 && w.cols > 0 &&
         w.cols % kCompactCols == 0;
}

int64_t CompactBytes(int64_t rows, int64_t cols) { return rows / kCompactRows * CompactBlock(cols); }

bool MakeCompact(const Weight& w, uint8_t* memory, CompactMatrix* to) {
  FATHOM_CHECK(CanBeCompact(w));
  const Codes codes = ChooseCodes(w);
  const int64_t marks = CompactMarks(w.cols), room = CompactHead(w.cols) - marks;
  for (int64_t n = 0; n < w.rows; n += kCompactRows, memory += CompactBlock(w.cols)) {
    std::memset(memory, 0, static_cast<size_t>(marks + room));
    uint8_t* rare = memory + marks;
    int64_t count = 0;
    const bool fits = ForEachPiece(w.cols, [&](int64_t row, int64_t k, int64_t place) {
      const auto* from = reinterpret_cast<const uint16_t*>(w.RowData(n + row)) + k;
      const int64_t found = CodePiece(codes, from, w.cols, memory + place, rare + count, room - count);
      if (found > 0) memory[k / kCompactCols / 8] |= static_cast<uint8_t>(1 << k / kCompactCols % 8);
      count += found;
      return count <= room;
    });
    if (!fits) return false;
  }
  *to = {.rows = w.rows, .cols = w.cols, .blocks = memory - CompactBytes(w.rows, w.cols)};
  std::copy(codes.high, codes.high + 16, to->high);
  return true;
}

void ExpandCompact(const CompactMatrix& matrix, uint16_t* out) {
  const uint8_t* block = matrix.blocks;
  for (int64_t n = 0; n < matrix.rows; n += kCompactRows, block += CompactBlock(matrix.cols)) {
    const uint8_t* rare = block + CompactMarks(matrix.cols);
    ForEachPiece(matrix.cols, [&](int64_t row, int64_t k, int64_t place) {
      const uint8_t* piece = block + place;
      for (int64_t half = 0; half < 2; ++half) {
        for (int64_t at = 0; at < kHalf; ++at) {
          const int code = piece[at] >> 4 * half & 15;
          const uint8_t high = code ? matrix.high[code] : *rare++, low = piece[kHalf + half * kHalf + at];
          const Origin& of = kOrigins.of[at];
          out[(n + row + of.row) * matrix.cols + k + half * kHalfCols + of.col] =
              static_cast<uint16_t>(high << 8 | low);
        }
      }
      return true;
    });
  }
}

int64_t CompactRowsOfX(Isa isa, Compute compute, int64_t cols, bool fixed_form) {
  const Tiles* tiles = TilesOf(isa);
  return tiles && ArithmeticOf(compute, DType::kBF16) == Arithmetic::kRounded ? CompactTo(*tiles, cols, fixed_form) : 0;
}

}  // namespace fathom::kernels
