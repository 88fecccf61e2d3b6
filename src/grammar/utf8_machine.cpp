#include "grammar/utf8_machine.h"

#include <fmt/format.h>

#include <algorithm>

namespace fathom::grammar {
namespace {

constexpr size_t kFewSpans = 4;

using Edges = std::vector<CharMachine::Edge>;

// The edges of the values [low, high], counted from low.
Edges Part(std::span<const CharMachine::Edge> edges, uint32_t low, uint32_t high) {
  auto at = std::lower_bound(edges.begin(), edges.end(), low, [](const auto& e, uint32_t v) { return e.last < v; });
  Edges part;
  for (; at != edges.end() && at->first <= high; ++at) {
    part.push_back({std::max(at->first, low) - low, std::min(at->last, high) - low, at->next});
  }
  return part;
}

}  // namespace

Utf8Machine::Utf8Machine(std::unique_ptr<CharMachine> chars) : chars_(std::move(chars)) {
  if (chars_->Start() != CharMachine::kDead) start_ = OfChars(chars_->Start());
}

bool Utf8Machine::Accepts(State state) const {
  if (state == kDead) return false;
  const CharMachine::State chars = states_[static_cast<size_t>(state)].chars;
  return chars != CharMachine::kDead && chars_->Accepts(chars);
}

Machine::State Utf8Machine::OfChars(CharMachine::State chars) {
  const auto i = static_cast<size_t>(chars);
  if (i >= of_chars_.size()) of_chars_.resize(i + 1, kDead);
  if (of_chars_[i] == kDead) {
    of_chars_[i] = static_cast<State>(states_.size());
    states_.emplace_back().chars = chars;
    bytes_ += static_cast<int64_t>(sizeof(Content));
  }
  return of_chars_[i];
}

Machine::State Utf8Machine::Within(int rest, Edges edges) {
  if (edges.empty()) return kDead;
  uint64_t hash = HashWord(kHashSeed, static_cast<uint64_t>(rest));
  for (const auto& e : edges) {
    hash = HashWord(HashWord(hash, uint64_t{e.first} << 32 | e.last), static_cast<uint64_t>(e.next));
  }
  const auto same = [](const CharMachine::Edge& a, const CharMachine::Edge& b) {
    return a.first == b.first && a.last == b.last && a.next == b.next;
  };
  const State found = ids_.Find(hash, [&](State s) {
    const Content& c = states_[static_cast<size_t>(s)];
    return c.rest == rest && std::equal(c.edges.begin(), c.edges.end(), edges.begin(), edges.end(), same);
  });
  if (found >= 0) return found;
  const auto state = static_cast<State>(states_.size());
  ids_.Add(hash, state);
  bytes_ += static_cast<int64_t>(sizeof(Content) + edges.size() * sizeof(edges[0])) + IdTable::kBytesEach;
  Content& c = states_.emplace_back();
  c.rest = rest;
  c.edges = std::move(edges);
  return state;
}

void Utf8Machine::Add(std::vector<Span>& spans, uint8_t byte, State next) {
  if (next == kDead) return;
  if (!spans.empty() && spans.back().next == next && spans.back().last + 1 == byte) {
    spans.back().last = byte;
  } else {
    spans.push_back({byte, byte, next});
  }
}

void Utf8Machine::ExpandState(State state) {
  std::vector<Span> spans;
  const CharMachine::State chars = states_[static_cast<size_t>(state)].chars;
  // Where one edge covers all that a byte begins, it mostly covers what the next byte begins too.
  const CharMachine::Edge* covering = nullptr;
  State behind = kDead;
  const auto part = [&](int rest, std::span<const CharMachine::Edge> edges, uint32_t low, uint32_t high) {
    if (covering && covering->last >= high) return behind;
    Edges of = Part(edges, low, high);
    const bool one = of.size() == 1 && of[0].first == 0 && of[0].last == high - low;
    covering =
        one ? &*std::lower_bound(edges.begin(), edges.end(), low, [](const auto& e, uint32_t v) { return e.last < v; })
            : nullptr;
    return behind = Within(rest, std::move(of));
  };
  const auto add_leads = [&](std::span<const CharMachine::Edge> edges, int first, int last, int rest, uint32_t base) {
    covering = nullptr;
    const uint32_t each = 1u << (6 * rest);
    for (int lead = first; lead <= last; ++lead) {
      const uint32_t low = base + static_cast<uint32_t>(lead - first) * each;
      if (edges.empty() || low > edges.back().last) break;
      Add(spans, static_cast<uint8_t>(lead), part(rest, edges, low, low + each - 1));
    }
  };
  if (chars != CharMachine::kDead) {
    const std::span<const CharMachine::Edge> edges = chars_->Edges(chars);
    for (const CharMachine::Edge& e : Part(edges, 0, 0x7F)) {
      const State next = OfChars(e.next);
      spans.push_back({static_cast<uint8_t>(e.first), static_cast<uint8_t>(e.last), next});
    }
    // What is below the first character of a length has no edges there: no overlong forms.
    add_leads(Part(edges, 0x80, 0x7FF), 0xC2, 0xDF, 1, 0);
    Edges two = Part(edges, 0x800, 0xFFFF);
    for (auto& e : two) e = {e.first + 0x800, e.last + 0x800, e.next};
    add_leads(two, 0xE0, 0xEF, 2, 0);
    Edges three = Part(edges, 0x10000, kMaxChar);
    for (auto& e : three) e = {e.first + 0x10000, e.last + 0x10000, e.next};
    add_leads(three, 0xF0, 0xF4, 3, 0);
  } else {
    const int rest = states_[static_cast<size_t>(state)].rest - 1;
    const Edges edges = states_[static_cast<size_t>(state)].edges;
    const uint32_t each = 1u << (6 * rest);
    for (uint32_t byte = 0x80; byte <= 0xBF; ++byte) {
      const uint32_t low = (byte - 0x80) * each;
      if (rest > 0) {
        Add(spans, static_cast<uint8_t>(byte), part(rest, edges, low, low + each - 1));
      } else if (const Edges of = Part(edges, low, low); !of.empty()) {
        Add(spans, static_cast<uint8_t>(byte), OfChars(of.front().next));
      }
    }
  }
  Content& c = states_[static_cast<size_t>(state)];
  c.expanded = true;
  if (spans.size() <= kFewSpans) {
    bytes_ += static_cast<int64_t>(spans.size() * sizeof(Span));
    c.spans = std::move(spans);
  } else {
    bytes_ += static_cast<int64_t>(sizeof(*c.row));
    c.row = std::make_unique<std::array<State, 256>>();
    c.row->fill(kDead);
    for (const Span& s : spans) std::fill(c.row->begin() + s.first, c.row->begin() + s.last + 1, s.next);
  }
  if (bytes_ > kMaxBytes) {
    throw Error("the grammar's machine is too large", fmt::format("{} states", states_.size()),
                fmt::format("at most {} MiB of transitions", kMaxBytes >> 20),
                "fewer or smaller bounded repetitions, less ambiguity");
  }
}

Machine::Loop Utf8Machine::LoopOfChars(CharMachine::State chars) {
  const std::span<const CharMachine::Edge> edges = chars_->Edges(chars);
  std::array<State, 256> next;
  next.fill(kDead);
  auto edge = edges.begin();
  for (int lead = 0; lead < 256 && edge != edges.end(); ++lead) {
    const std::optional<CharRange> range = CharactersFrom(static_cast<uint8_t>(lead));
    if (!range) continue;
    while (edge != edges.end() && edge->last < range->first) ++edge;
    if (edge != edges.end() && edge->first <= range->first && edge->last >= range->last) {
      next[static_cast<size_t>(lead)] = edge->next;
    }
  }
  Loop loop = MostCommonLoop(next);
  loop.bytes.utf8 = true;
  return loop;
}

Machine::Loop Utf8Machine::LoopOf(State state) {
  const CharMachine::State chars = states_[static_cast<size_t>(state)].chars;
  if (chars == CharMachine::kDead) return {};
  Loop loop = LoopOfChars(chars);
  if (loop.next != CharMachine::kDead) loop.next = OfChars(loop.next);
  return loop;
}

std::vector<LoopBytes> Utf8Machine::LikelyLoops(size_t most) {
  constexpr size_t kMostStates = 200;
  constexpr int64_t kMostWork = 1 << 18;
  const int64_t work = chars_->work();
  std::vector<LoopBytes> loops;
  std::vector<CharMachine::State> reached;
  if (chars_->Start() != CharMachine::kDead) reached.push_back(chars_->Start());
  for (size_t i = 0; i < reached.size() && loops.size() < most && chars_->work() - work < kMostWork; ++i) {
    const Loop loop = LoopOfChars(reached[i]);
    // Where another set leads on, it is its own that is asked for.
    if (loop.next != CharMachine::kDead && LoopOfChars(loop.next).bytes == loop.bytes &&
        std::find(loops.begin(), loops.end(), loop.bytes) == loops.end()) {
      loops.push_back(loop.bytes);
    }
    for (const CharMachine::Edge& e : chars_->Edges(reached[i])) {
      if (reached.size() >= kMostStates) break;
      if (std::find(reached.begin(), reached.end(), e.next) == reached.end()) reached.push_back(e.next);
    }
  }
  return loops;
}

Machine::State Utf8Machine::Next(State state, uint8_t byte) {
  if (state == kDead) return kDead;
  if (!states_[static_cast<size_t>(state)].expanded) ExpandState(state);
  const Content& c = states_[static_cast<size_t>(state)];
  if (c.row) return (*c.row)[byte];
  for (const Span& s : c.spans) {
    if (byte >= s.first && byte <= s.last) return s.next;
  }
  return kDead;
}

}  // namespace fathom::grammar
