#include "grammar/machine.h"

#include <algorithm>

namespace fathom::grammar {
namespace {

// Bytes whose characters of more than one byte all lead from `state` to `target`, and whatever else follows them leads
// nowhere.
class Utf8Loop {
 public:
  Utf8Loop(Machine& machine, Machine::State state, Machine::State target)
      : machine_(machine), state_(state), target_(target) {}

  bool Holds(int lead) {
    if (lead < 0xC2 || lead > 0xF4) return false;
    const Machine::State next = machine_.Next(state_, static_cast<uint8_t>(lead));
    const int rest = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return low != 0x80 || high != 0xBF ? Check(next, rest, low, high) : Returns(next, rest);
  }

 private:
  // So many bytes 80..BF, and nothing else, lead from `at` to the target.
  bool Returns(Machine::State at, int rest) {
    if (rest == 0) return at == target_;
    auto& known = known_[rest];
    if (std::find(known.begin(), known.end(), at) != known.end()) return true;
    if (known.size() > 16 || !Check(at, rest, 0x80, 0xBF)) return false;
    known.push_back(at);
    return true;
  }
  bool Check(Machine::State at, int rest, uint8_t low, uint8_t high) {
    if (at == Machine::kDead) return false;
    for (int byte = 0; byte < 256; ++byte) {
      const Machine::State next = machine_.Next(at, static_cast<uint8_t>(byte));
      if (byte < low || byte > high ? next != Machine::kDead : !Returns(next, rest - 1)) return false;
    }
    return true;
  }

  Machine& machine_;
  const Machine::State state_, target_;
  std::vector<Machine::State> known_[4];
};

}  // namespace

Machine::Loop Machine::LoopOf(State state) {
  std::array<State, 256> next;
  for (int byte = 0; byte < 256; ++byte) next[static_cast<size_t>(byte)] = Next(state, static_cast<uint8_t>(byte));
  Loop loop = MostCommonLoop(next);
  if (loop.next == kDead || loop.bytes.bits[2] != 0 || loop.bytes.bits[3] != 0) return loop;
  loop.bytes.utf8 = true;
  Utf8Loop characters(*this, state, loop.next);
  for (int lead = 0x80; lead < 256; ++lead) {
    if (characters.Holds(lead)) loop.bytes.Add(static_cast<uint8_t>(lead));
  }
  return loop;
}

std::vector<LoopBytes> Machine::LikelyLoops(size_t /*most*/) { return {}; }

std::optional<CharRange> CharactersFrom(uint8_t lead) {
  if (lead < 0x80) return CharRange{lead, lead};
  if (lead < 0xC2 || lead > 0xF4) return std::nullopt;
  if (lead < 0xE0) return CharRange{(lead & 0x1Fu) << 6, (lead & 0x1Fu) << 6 | 0x3F};
  // Overlong forms, surrogates and what is beyond Unicode begin with these bytes too, but are no characters.
  if (lead == 0xE0) return CharRange{0x800, 0xFFF};
  if (lead == 0xED) return CharRange{0xD000, 0xD7FF};
  if (lead == 0xF0) return CharRange{0x10000, 0x3FFFF};
  if (lead == 0xF4) return CharRange{0x100000, kMaxChar};
  const int bits = lead < 0xF0 ? 12 : 18;
  const uint32_t first = (lead & (lead < 0xF0 ? 0x0Fu : 0x07u)) << bits;
  return CharRange{first, first | ((1u << bits) - 1)};
}

Machine::Loop MostCommonLoop(const std::array<Machine::State, 256>& next) {
  std::vector<std::pair<Machine::State, int>> counts;
  for (const Machine::State to : next) {
    if (to == Machine::kDead) continue;
    const auto at = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == to; });
    if (at == counts.end()) {
      counts.push_back({to, 1});
    } else {
      ++at->second;
    }
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end() || most->second < Machine::kFewLoopBytes) return {};
  Machine::Loop loop{.next = most->first};
  for (size_t byte = 0; byte < 256; ++byte) {
    if (next[byte] == loop.next) loop.bytes.Add(static_cast<uint8_t>(byte));
  }
  return loop;
}

}  // namespace fathom::grammar
