#include "data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/rng.h"

namespace fathom::data {
namespace {

// Every token of every document once, in order; every sequence full.
void ExpectSound(const Packing& packing, const std::vector<int64_t>& lengths, int64_t size) {
  std::map<int64_t, std::vector<std::pair<int64_t, int64_t>>> parts;
  int64_t pieces = 0;
  for (const std::vector<Piece>& sequence : packing.sequences) {
    int64_t sum = 0;
    for (size_t i = 0; i < sequence.size(); ++i) {
      const Piece& piece = sequence[i];
      ASSERT_GT(piece.length, 0);
      if (i > 0) {
        ASSERT_LE(sequence[i - 1].document, piece.document);
      }
      parts[piece.document].emplace_back(piece.begin, piece.length);
      sum += piece.length;
      ++pieces;
    }
    ASSERT_EQ(sum, size);
  }
  ASSERT_EQ(parts.size(), lengths.size());
  for (auto& [document, list] : parts) {
    std::sort(list.begin(), list.end());
    int64_t next = 0;
    for (const auto& [begin, length] : list) {
      ASSERT_EQ(begin, next);
      next += length;
    }
    ASSERT_EQ(next, lengths[static_cast<size_t>(document)]);
  }
  EXPECT_EQ(packing.cuts, pieces - static_cast<int64_t>(lengths.size()));
}

TEST(Packing, FindsTheFitsOfSmallCases) {
  struct Case {
    std::vector<int64_t> lengths;
    int64_t size, cuts;
  };
  for (const Case& c : std::vector<Case>{{{10}, 10, 0},
                                         {{4, 6, 7, 3}, 10, 0},        // in order it would take 2 cuts
                                         {{6, 5, 5, 4}, 10, 0},        // the 5s together
                                         {{3, 8, 2, 7, 9, 1}, 10, 0},  // three pairs
                                         {{25, 5}, 10, 2},             // 10 10 5+5: only the cuts of length
                                         {{25, 3, 2}, 10, 2},          // and the rest shares a sequence
                                         {{6, 6, 6, 2}, 10, 1},        // no packing has none
                                         {{7, 7, 7, 7, 2}, 10, 2},     // 7+2 leaves 1; gaps 3 3 1 for a 7
                                         {std::vector<int64_t>(12, 1), 4, 0}}) {
    const Packing packing = PackBestFit(c.lengths, c.size);
    ExpectSound(packing, c.lengths, c.size);
    EXPECT_EQ(packing.cuts, c.cuts) << ::testing::PrintToString(c.lengths);
  }
}

TEST(Packing, TakesTheSequenceWithTheLeastRoom) {
  // 7 and 6 open two sequences; 3 fits both and completes the first, so that 4 fits the second.
  const Packing packing = PackBestFit(std::vector<int64_t>{6, 7, 4, 3}, 10);
  ASSERT_EQ(packing.sequences.size(), 2u);
  EXPECT_EQ(packing.sequences[0][1].document, 2);
  EXPECT_EQ(packing.sequences[1][1].document, 3);
}

TEST(Packing, NothingAndBadSums) {
  EXPECT_TRUE(PackBestFit({}, 5).sequences.empty());
  EXPECT_DEATH(PackBestFit(std::vector<int64_t>{3}, 5), "total % size");
}

// All ways to put documents into whole sequences, for few documents: is there one without a cut?
bool FitsWithoutCut(std::vector<int64_t>& room, const std::vector<int64_t>& lengths, size_t next) {
  if (next == lengths.size()) return true;
  for (int64_t& r : room) {
    if (r < lengths[next]) continue;
    r -= lengths[next];
    const bool fits = FitsWithoutCut(room, lengths, next + 1);
    r += lengths[next];
    if (fits) return true;
  }
  return false;
}

TEST(Packing, RandomDocuments) {
  Rng rng(3);
  int64_t exact = 0, possible = 0;
  for (int round = 0; round < 400; ++round) {
    const int64_t size = 1 + rng.NextBelow(12);
    std::vector<int64_t> lengths;
    int64_t total = 0;
    for (int64_t n = 1 + rng.NextBelow(7); n > 0; --n) {
      lengths.push_back(1 + rng.NextBelow(size));
      total += lengths.back();
    }
    if (total % size != 0) lengths.push_back(size - total % size);
    const int64_t sum = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    const Packing packing = PackBestFit(lengths, size);
    ExpectSound(packing, lengths, size);
    ASSERT_EQ(static_cast<int64_t>(packing.sequences.size()), sum / size);
    EXPECT_LT(packing.cuts, sum / size);  // fewer than gaps
    std::vector<int64_t> room(static_cast<size_t>(sum / size), size);
    possible += FitsWithoutCut(room, lengths, 0);
    exact += packing.cuts == 0;
  }
  // Best-fit decreasing is a heuristic; where a packing without cuts exists it finds nearly all of them.
  EXPECT_GE(exact * 10, possible * 9) << exact << " of " << possible;
  EXPECT_GT(possible, 100);
}

TEST(Packing, CutsFarLessThanCuttingAtEverySequenceEnd) {
  Rng rng(7);
  std::vector<int64_t> lengths;
  int64_t total = 0;
  const int64_t size = 513, count = 2000;
  while (total < size * count) {
    const int64_t length = std::min(1 + rng.NextBelow(1 << (3 + rng.NextBelow(8))), size * count - total);
    lengths.push_back(length);
    total += length;
  }
  const Packing packing = PackBestFit(lengths, size);
  ExpectSound(packing, lengths, size);
  int64_t long_cuts = 0;  // those that no packing avoids
  for (const int64_t length : lengths) long_cuts += (length - 1) / size;
  EXPECT_LT(packing.cuts - long_cuts, count / 50);  // one behind the other: nearly one a sequence
}

}  // namespace
}  // namespace fathom::data
