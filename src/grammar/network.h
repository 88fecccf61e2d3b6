// Rules as a network of nodes: an edge reads a character of a set, calls a rule and goes on behind it, or is free.
// Whole texts are the ways from the first rule's beginning to its end. Repetitions are written out. Only what lies on a
// way to an end is left: from every node that is kept its rule can be completed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "grammar/syntax.h"

namespace fathom::grammar {

struct Network {
  struct Edge {
    enum class Kind : uint8_t { kFree, kSet, kCall, kBegin, kEnd };
    Kind kind;
    int32_t value;  // index into sets, or of a rule
    int32_t to;
  };
  struct Rule {
    int32_t begin = -1, end = -1;  // nodes; end has no edges
  };
  static constexpr int64_t kMaxNodes = 200'000, kMaxRanges = 4'000'000;

  std::vector<std::vector<Edge>> nodes;
  std::vector<bool> is_end;  // of a rule
  std::vector<CharSet> sets;
  std::vector<Rule> rules;
  bool empty = false;  // no text at all
};

// Rules without left recursion (gbnf.h). An Error: too large when written out.
Result<Network> MakeNetwork(const Rules& rules);

}  // namespace fathom::grammar
