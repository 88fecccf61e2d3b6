// Documents into sequences of one length with as few documents cut as may be: best-fit decreasing (Ding et al., "Fewer
// Truncations Improve Language Modeling", 2024), here without padding.
//
//   1. A document longer than a sequence is cut into whole sequences and a rest.
//   2. The pieces, longest first, each go into the open sequence with the least room that is enough; where none has, a
//      new one is opened, as long as there are sequences left.
//   3. The pieces that found no place are cut to fill the gaps, largest pieces and gaps first. So every sequence is
//      full, and there are fewer such cuts than there are gaps.
//
// A pure function; O(n log n).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom::data {

struct Piece {
  int64_t document;       // by its place in `lengths`
  int64_t begin, length;  // tokens of it
};

struct Packing {
  std::vector<std::vector<Piece>> sequences;  // pieces in the order of their documents; their lengths add up to `size`
  int64_t cuts = 0;                           // pieces less documents
};

// `lengths`, each at least 1, add up to a multiple of `size`. The sequences are in the order of their first documents.
Packing PackBestFit(std::span<const int64_t> lengths, int64_t size);

}  // namespace fathom::data
