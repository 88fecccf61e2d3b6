// Rules as a network of nodes: an edge reads a character of a set, calls a rule and goes on behind it, or is free.
// Whole texts are the ways from the first rule's beginning to its end. Repetitions are written out. Edges that lie on
// no way to the end of their rule are left out, so that wherever a text leads it can be completed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "grammar/syntax.h"

namespace fathom::grammar {

struct Network {
  enum class EdgeKind : uint8_t {
    kFree,
    kSet,    // value: of sets
    kCall,   // value: of rules
    kBegin,  // free before the first character
    kEnd,    // free behind the last
  };
  struct Edge {
    EdgeKind kind;
    int32_t value;
    int32_t to;
  };
  struct Rule {
    int32_t begin = -1, end = -1;  // nodes; no edges leave `end`
  };
  static constexpr int64_t kMaxNodes = 200'000, kMaxEdges = 1'000'000, kMaxRanges = 1'000'000;

  std::vector<std::vector<Edge>> nodes;
  std::vector<bool> is_end;  // of its rule
  std::vector<CharSet> sets;
  std::vector<Rule> rules;
};

// Of rules without left recursion (left_recursion.h). An Error: too large when written out.
Result<Network> MakeNetwork(const Rules& rules);

}  // namespace fathom::grammar
