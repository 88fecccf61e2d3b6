#include "checkpoint/scan.h"

#include <algorithm>

#include "core/nonfinite.h"

namespace fathom::checkpoint {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;  // of a task
constexpr int64_t kScanSlice = 64;        // tasks between two reports of progress

struct Piece {
  size_t tensor;
  const void* data;
  DType dtype;
  int64_t first, count;  // elements
  int64_t found = 0, found_first = -1;
};

void ScanPiece(Piece& piece) {
  piece.found = CountNonFinite(piece.data, piece.dtype, piece.count);
  if (piece.found > 0) piece.found_first = piece.first + FirstNonFiniteOf(piece.data, piece.dtype, piece.count);
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
  for (size_t begin = 0; begin < pieces.size(); begin += kScanSlice) {
    const int64_t count = std::min<int64_t>(kScanSlice, static_cast<int64_t>(pieces.size() - begin));
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
