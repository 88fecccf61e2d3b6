// Sets of texts as finished automata over characters, small ones: a schema's patterns, lengths, enumerated strings and
// names, and what fulfils several of them at once. A state from which no text is accepted is kDead.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/json_budget.h"

namespace fathom::grammar {

class TextDfa {
 public:
  static constexpr int32_t kDead = -1;
  // From this character on to the next edge's; the first edge of a state begins at 0.
  struct Edge {
    uint32_t from;
    int32_t to;
  };
  // How many texts may follow; kMany: that or more, or without end.
  static constexpr int64_t kMany = int64_t{1} << 40;

  static TextDfa OfPattern(const std::string& pattern, Budget& budget);  // texts in which it matches somewhere
  static TextDfa OfTexts(std::vector<std::u32string> texts, Budget& budget);
  static TextDfa OfLength(int64_t least, int64_t most, Budget& budget);  // in characters; most < 0: no bound
  // The texts whose memberships in `parts` (bit i: parts[i], at most 64) are given a class >= 0.
  static TextDfa Combined(const std::vector<const TextDfa*>& parts, const std::function<int32_t(uint64_t)>& class_of,
                          Budget& budget, const char* keyword);

  int32_t start() const { return start_; }
  int32_t states() const { return static_cast<int32_t>(classes_.size()); }
  int32_t Next(int32_t state, uint32_t character) const;
  // The class of the text that leads here; -1: not of the set. Sets that are not of Combined have the class 0.
  int32_t ClassOf(int32_t state) const { return state == kDead ? -1 : classes_[static_cast<size_t>(state)]; }
  int32_t ClassOf(const std::u32string& text) const;
  struct Onward {
    bool live = false;     // some character of the range goes on
    bool uniform = false;  // all of them lead to `to`
    int32_t to = kDead;
  };
  Onward Over(int32_t state, uint32_t first, uint32_t last) const;
  // Texts that may follow the state, the empty one among them.
  int64_t Count(int32_t state) const { return state == kDead ? 0 : counts_[static_cast<size_t>(state)]; }
  // The edges that overlap first..last: f(first, last, to) of each that is live; ends when f returns true.
  bool AnyEdge(int32_t state, uint32_t first, uint32_t last,
               const std::function<bool(uint32_t, uint32_t, int32_t)>& f) const;
  // Takes away classes of which not keep[class], and what then leads nowhere.
  void Keep(const std::vector<bool>& keep);

 private:
  const Edge* EdgesBegin(int32_t state) const { return edges_.data() + begins_[static_cast<size_t>(state)]; }
  const Edge* EdgesEnd(int32_t state) const { return edges_.data() + begins_[static_cast<size_t>(state) + 1]; }
  const Edge* EdgeAt(int32_t state, uint32_t character) const;
  void Prune();  // what leads nowhere becomes kDead; counts

  std::vector<Edge> edges_;
  std::vector<size_t> begins_ = {0};
  std::vector<int32_t> classes_;
  std::vector<int64_t> counts_;
  int32_t start_ = kDead;
};

}  // namespace fathom::grammar
