#include "grammar/json_text.h"

#include <algorithm>
#include <map>
#include <optional>

#include "grammar/char_machine.h"
#include "grammar/regex.h"

namespace fathom::grammar {
namespace {

constexpr uint32_t kCharactersEnd = kMaxChar + 1;
constexpr int32_t kMaxPatternStates = 20'000;

[[noreturn]] void RefusePattern(const Error& error) {
  throw SchemaError("pattern", "", error.summary() + (error.got().empty() ? "" : ": " + error.got()));
}

}  // namespace

TextDfa TextDfa::OfPattern(const std::string& pattern, Budget& budget) {
  TextDfa dfa;
  auto machine = RegexOverChars(pattern, RegexScope::kSearch);
  if (!machine.ok()) RefusePattern(machine.error());
  try {
    CharMachine& chars = *machine.Value();
    dfa.start_ = chars.Start();
    if (dfa.start_ == CharMachine::kDead) return dfa;
    for (CharMachine::State state = 0; state < chars.states(); state++) {
      if (state >= kMaxPatternStates) throw Error{"the expression takes too many states"};
      dfa.classes_.push_back(chars.Accepts(state) ? 0 : -1);
      uint32_t at = 0;
      for (const CharMachine::Edge& edge : chars.Edges(state)) {
        if (edge.first > at) dfa.edges_.push_back({at, kDead});
        dfa.edges_.push_back({edge.first, edge.next});
        at = edge.last + 1;
      }
      if (at < kCharactersEnd) dfa.edges_.push_back({at, kDead});
      budget.Charge(static_cast<int64_t>(1 + dfa.edges_.size() - dfa.begins_.back()), "pattern");
      dfa.begins_.push_back(dfa.edges_.size());
    }
  } catch (const Error& error) {
    RefusePattern(error);
  }
  dfa.Prune();
  return dfa;
}

TextDfa TextDfa::OfTexts(std::vector<std::u32string> texts, Budget& budget) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  TextDfa dfa;
  if (texts.empty()) return dfa;
  // A state is the texts begin..end, which agree in their first `depth` characters.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, texts.size(), 0}};
  dfa.start_ = 0;
  for (size_t state = 0; state < ranges.size(); state++) {
    auto [begin, end, depth] = ranges[state];
    const bool accepts = texts[begin].size() == depth;
    dfa.classes_.push_back(accepts ? 0 : -1);
    uint32_t at = 0;
    for (size_t i = begin + (accepts ? 1 : 0); i < end;) {
      const uint32_t character = texts[i][depth];
      size_t next = i;
      while (next < end && texts[next][depth] == character) next++;
      if (character > at) dfa.edges_.push_back({at, kDead});
      dfa.edges_.push_back({character, static_cast<int32_t>(ranges.size())});
      ranges.push_back({i, next, depth + 1});
      at = character + 1;
      i = next;
    }
    if (at < kCharactersEnd) dfa.edges_.push_back({at, kDead});
    budget.Charge(static_cast<int64_t>(1 + dfa.edges_.size() - dfa.begins_.back()), "enum");
    dfa.begins_.push_back(dfa.edges_.size());
  }
  dfa.Prune();
  return dfa;
}

TextDfa TextDfa::OfLength(int64_t least, int64_t most, Budget& budget) {
  TextDfa dfa;
  if (most >= 0 && least > most) return dfa;
  const int64_t last = most >= 0 ? most : least;
  budget.Charge(last + 1, "minLength or maxLength");
  dfa.start_ = 0;
  for (int64_t length = 0; length <= last; length++) {
    dfa.classes_.push_back(length >= least ? 0 : -1);
    const auto stay = static_cast<int32_t>(most >= 0 ? kDead : last);
    dfa.edges_.push_back({0, length < last ? static_cast<int32_t>(length + 1) : stay});
    dfa.begins_.push_back(dfa.edges_.size());
  }
  dfa.Prune();
  return dfa;
}

TextDfa TextDfa::Combined(const std::vector<const TextDfa*>& parts, const std::function<int32_t(uint64_t)>& class_of,
                          Budget& budget, const char* keyword) {
  TextDfa dfa;
  std::map<std::vector<int32_t>, int32_t> ids;
  std::vector<std::vector<int32_t>> tuples;
  const auto intern = [&](const std::vector<int32_t>& tuple) {
    const auto [at, added] = ids.emplace(tuple, static_cast<int32_t>(tuples.size()));
    if (added) tuples.push_back(tuple);
    return at->second;
  };
  std::vector<int32_t> tuple;
  for (const TextDfa* part : parts) tuple.push_back(part->start_);
  dfa.start_ = intern(tuple);
  for (size_t state = 0; state < tuples.size(); state++) {
    uint64_t bits = 0;
    std::vector<const Edge*> at(parts.size(), nullptr);
    for (size_t i = 0; i < parts.size(); i++) {
      const int32_t of_part = tuples[state][i];
      if (parts[i]->ClassOf(of_part) >= 0) bits |= uint64_t{1} << i;
      if (of_part != kDead) at[i] = parts[i]->EdgesBegin(of_part);
    }
    dfa.classes_.push_back(class_of(bits));
    for (uint32_t from = 0; from < kCharactersEnd;) {
      uint32_t end = kCharactersEnd;
      for (size_t i = 0; i < parts.size(); i++) {
        tuple[i] = at[i] != nullptr ? at[i]->to : kDead;
        if (at[i] != nullptr && at[i] + 1 < parts[i]->EdgesEnd(tuples[state][i])) end = std::min(end, at[i][1].from);
      }
      dfa.edges_.push_back({from, intern(tuple)});
      for (size_t i = 0; i < parts.size(); i++) {
        if (at[i] != nullptr && at[i] + 1 < parts[i]->EdgesEnd(tuples[state][i]) && at[i][1].from == end) at[i]++;
      }
      from = end;
    }
    budget.Charge(static_cast<int64_t>((1 + dfa.edges_.size() - dfa.begins_.back()) * (1 + parts.size())), keyword);
    dfa.begins_.push_back(dfa.edges_.size());
  }
  dfa.Prune();
  return dfa;
}

void TextDfa::Keep(const std::vector<bool>& keep) {
  for (int32_t& c : classes_) {
    if (c >= 0 && !keep[static_cast<size_t>(c)]) c = -1;
  }
  Prune();
}

void TextDfa::Prune() {
  const size_t n = classes_.size();
  std::vector<std::vector<int32_t>> before(n);
  for (size_t state = 0; state < n; state++) {
    for (size_t e = begins_[state]; e < begins_[state + 1]; e++) {
      if (edges_[e].to != kDead) before[static_cast<size_t>(edges_[e].to)].push_back(static_cast<int32_t>(state));
    }
  }
  std::vector<bool> live(n, false);
  std::vector<int32_t> todo;
  for (size_t state = 0; state < n; state++) {
    if (classes_[state] < 0) continue;
    live[state] = true;
    todo.push_back(static_cast<int32_t>(state));
  }
  while (!todo.empty()) {
    const auto state = static_cast<size_t>(todo.back());
    todo.pop_back();
    for (const int32_t from : before[state]) {
      if (live[static_cast<size_t>(from)]) continue;
      live[static_cast<size_t>(from)] = true;
      todo.push_back(from);
    }
  }
  for (Edge& edge : edges_) {
    if (edge.to != kDead && !live[static_cast<size_t>(edge.to)]) edge.to = kDead;
  }
  if (start_ != kDead && !live[static_cast<size_t>(start_)]) start_ = kDead;

  // Counts, from the ends backwards; what lies on a cycle is never ready and stays kMany.
  counts_.assign(n, kMany);
  std::vector<int32_t> waits(n, 0);
  for (size_t state = 0; state < n; state++) {
    for (size_t e = begins_[state]; e < begins_[state + 1]; e++) waits[state] += edges_[e].to != kDead ? 1 : 0;
  }
  for (size_t state = 0; state < n; state++) {
    if (waits[state] == 0) todo.push_back(static_cast<int32_t>(state));
  }
  while (!todo.empty()) {
    const auto state = static_cast<size_t>(todo.back());
    todo.pop_back();
    int64_t count = classes_[state] >= 0 ? 1 : 0;
    for (size_t e = begins_[state]; e < begins_[state + 1] && count < kMany; e++) {
      if (edges_[e].to == kDead) continue;
      const int64_t width = (e + 1 < begins_[state + 1] ? edges_[e + 1].from : kCharactersEnd) - edges_[e].from;
      const int64_t each = counts_[static_cast<size_t>(edges_[e].to)];
      count = each >= kMany / width ? kMany : std::min(kMany, count + each * width);
    }
    counts_[state] = count;
    if (!live[state]) continue;
    for (const int32_t from : before[state]) {
      if (--waits[static_cast<size_t>(from)] == 0) todo.push_back(from);
    }
  }
}

const TextDfa::Edge* TextDfa::EdgeAt(int32_t state, uint32_t character) const {
  return std::upper_bound(EdgesBegin(state), EdgesEnd(state), character,
                          [](uint32_t wanted, const Edge& edge) { return wanted < edge.from; }) -
         1;
}

int32_t TextDfa::Next(int32_t state, uint32_t character) const {
  return state == kDead ? kDead : EdgeAt(state, character)->to;
}

int32_t TextDfa::ClassOf(const std::u32string& text) const {
  int32_t state = start_;
  for (const char32_t character : text) state = Next(state, character);
  return ClassOf(state);
}

TextDfa::Onward TextDfa::Over(int32_t state, uint32_t first, uint32_t last) const {
  if (state == kDead) return {};
  const Edge* edge = EdgeAt(state, first);
  const Edge* const end = EdgesEnd(state);
  Onward onward{.live = edge->to != kDead, .uniform = true, .to = edge->to};
  for (edge++; edge != end && edge->from <= last; edge++) {
    onward.live |= edge->to != kDead;
    onward.uniform &= edge->to == onward.to;
  }
  return onward;
}

bool TextDfa::AnyEdge(int32_t state, uint32_t first, uint32_t last,
                      const std::function<bool(uint32_t, uint32_t, int32_t)>& f) const {
  if (state == kDead) return false;
  const Edge* const end = EdgesEnd(state);
  for (const Edge* edge = EdgeAt(state, first); edge != end && edge->from <= last; edge++) {
    const uint32_t edge_last = edge + 1 != end ? edge[1].from - 1 : kMaxChar;
    if (edge->to != kDead && f(std::max(first, edge->from), std::min(last, edge_last), edge->to)) return true;
  }
  return false;
}

}  // namespace fathom::grammar
