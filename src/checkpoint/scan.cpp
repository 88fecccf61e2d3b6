#include "checkpoint/scan.h"

#include <algorithm>
#include <cstring>

namespace fathom::checkpoint {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;  // of a task
constexpr int64_t kSliceTasks = 64;       // tasks between two reports of progress

struct Piece {
  size_t tensor;
  const void* data;
  DType dtype;
  int64_t first, count;  // elements
  int64_t found = 0, found_first = -1;
};

// Counts the elements whose exponent is all ones: magnitude bits at or above `infinity`. The count alone is a loop
// without branches; the place is sought only where there is one.
template <class T>
void ScanWords(Piece& piece, T magnitude, T infinity) {
  const T* x = static_cast<const T*>(piece.data);
  int64_t found = 0;
  for (int64_t i = 0; i < piece.count; ++i) found += (x[i] & magnitude) >= infinity;
  piece.found = found;
  if (found == 0) return;
  int64_t i = 0;
  while ((x[i] & magnitude) < infinity) ++i;
  piece.found_first = piece.first + i;
}

void ScanPiece(Piece& piece) {
  switch (piece.dtype) {
    case DType::kF32:
      return ScanWords<uint32_t>(piece, 0x7fffffffu, 0x7f800000u);
    case DType::kBF16:
      return ScanWords<uint16_t>(piece, 0x7fff, 0x7f80);
    case DType::kF16:
      return ScanWords<uint16_t>(piece, 0x7fff, 0x7c00);
    case DType::kF8E4M3:
      return ScanWords<uint8_t>(piece, 0x7f, 0x7f);
    default:
      FATHOM_CHECK(false, "a type that no parameter has");
  }
}

bool IsNan(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return (static_cast<const uint32_t*>(data)[index] & 0x7fffffu) != 0;
    case DType::kBF16:
      return (static_cast<const uint16_t*>(data)[index] & 0x7fu) != 0;
    case DType::kF16:
      return (static_cast<const uint16_t*>(data)[index] & 0x3ffu) != 0;
    default:
      return true;
  }
}

}  // namespace

std::vector<NonFinite> ScanForNonFinite(const Checkpoint& checkpoint, ThreadPool& pool, const ProgressFn& progress) {
  struct Tensor {
    std::string name;
    const void* data;
    DType dtype;
  };
  std::vector<Tensor> tensors;
  std::vector<Piece> pieces;
  int64_t total = 0;
  const auto add = [&](std::string name, const void* data, DType dtype, int64_t count) {
    if (!data) return;
    const int64_t step = kPieceBytes / SizeOf(dtype);
    for (int64_t first = 0; first < count; first += step)
      pieces.push_back({tensors.size(), static_cast<const std::byte*>(data) + first * SizeOf(dtype), dtype, first,
                        std::min(step, count - first)});
    total += count * SizeOf(dtype);
    tensors.push_back({std::move(name), data, dtype});
  };
  checkpoint.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    add(info.name, w.data, w.dtype, w.rows * w.cols);
    if (w.scale)
      add(info.name + "_scale_inv", w.scale, DType::kF32, (w.rows + kFp8Block - 1) / kFp8Block * w.scale_cols());
  });

  int64_t done = 0;
  for (size_t begin = 0; begin < pieces.size(); begin += kSliceTasks) {
    const int64_t count = std::min<int64_t>(kSliceTasks, static_cast<int64_t>(pieces.size() - begin));
    pool.ParallelFor(count, [&](int64_t task, int) { ScanPiece(pieces[begin + static_cast<size_t>(task)]); });
    for (size_t i = begin; i < begin + static_cast<size_t>(count); ++i)
      done += pieces[i].count * SizeOf(pieces[i].dtype);
    if (progress) progress(done, total);
  }

  std::vector<NonFinite> out;
  size_t last = SIZE_MAX;
  for (const Piece& piece : pieces) {
    if (piece.found == 0) continue;
    if (piece.tensor != last) {
      const Tensor& t = tensors[piece.tensor];
      out.push_back({t.name, 0, piece.found_first, IsNan(t.data, t.dtype, piece.found_first)});
      last = piece.tensor;
    }
    out.back().count += piece.found;
  }
  return out;
}

}  // namespace fathom::checkpoint
