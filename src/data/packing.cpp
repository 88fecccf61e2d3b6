#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "core/error.h"

namespace fathom::data {

Packing PackBestFit(std::span<const int64_t> lengths, int64_t size) {
  FATHOM_CHECK(size > 0);
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  FATHOM_CHECK(total % size == 0);
  const auto count = static_cast<size_t>(total / size);
  std::vector<std::vector<Piece>> bins;
  bins.reserve(count);

  std::vector<Piece> pieces;
  for (size_t i = 0; i < lengths.size(); ++i) {
    FATHOM_CHECK(lengths[i] > 0);
    int64_t begin = 0;
    for (; lengths[i] - begin >= size; begin += size) bins.push_back({{static_cast<int64_t>(i), begin, size}});
    if (begin < lengths[i]) pieces.push_back({static_cast<int64_t>(i), begin, lengths[i] - begin});
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.length > b.length; });

  std::set<std::pair<int64_t, size_t>> open;  // room, bin
  std::vector<Piece> homeless;
  const auto put = [&](size_t bin, int64_t room, const Piece& piece) {
    bins[bin].push_back(piece);
    if (room > piece.length) open.emplace(room - piece.length, bin);
  };
  for (const Piece& piece : pieces) {
    const auto best = open.lower_bound({piece.length, 0});
    if (best != open.end()) {
      const auto [room, bin] = *best;
      open.erase(best);
      put(bin, room, piece);
    } else if (bins.size() < count) {
      bins.emplace_back();
      put(bins.size() - 1, size, piece);
    } else {
      homeless.push_back(piece);
    }
  }
  // Either every sequence is open by now, or all pieces have a place and every sequence is full.
  for (Piece piece : homeless) {
    while (piece.length > 0) {
      const auto gap = std::prev(open.end());
      const auto [room, bin] = *gap;
      open.erase(gap);
      const Piece part{piece.document, piece.begin, std::min(room, piece.length)};
      put(bin, room, part);
      piece.begin += part.length;
      piece.length -= part.length;
    }
  }
  FATHOM_CHECK(open.empty());

  Packing packing;
  for (std::vector<Piece>& bin : bins) {
    std::sort(bin.begin(), bin.end(), [](const Piece& a, const Piece& b) {
      return std::pair(a.document, a.begin) < std::pair(b.document, b.begin);
    });
    packing.cuts += static_cast<int64_t>(bin.size());
  }
  packing.cuts -= static_cast<int64_t>(lengths.size());
  std::sort(bins.begin(), bins.end(), [](const std::vector<Piece>& a, const std::vector<Piece>& b) {
    return std::pair(a[0].document, a[0].begin) < std::pair(b[0].document, b[0].begin);
  });
  packing.sequences = std::move(bins);
  return packing;
}

}  // namespace fathom::data
