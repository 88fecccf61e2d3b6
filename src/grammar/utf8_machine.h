// The texts of a machine over characters, as UTF-8: a machine over bytes. A state is one of the characters' machine, or
// what may follow the first bytes of a character: of the characters that the bytes still to come can make, the state
// that each leads to. Equal ones are one state, so that a state all of whose letters lead on to itself keeps few.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "grammar/char_machine.h"
#include "grammar/hash.h"
#include "grammar/machine.h"

namespace fathom::grammar {

class Utf8Machine final : public Machine {
 public:
  // What transitions may take; what needs more throws Error out of Next.
  static constexpr int64_t kMaxBytes = int64_t{96} << 20;

  explicit Utf8Machine(std::unique_ptr<CharMachine> chars);

  State Start() override { return start_; }
  State Next(State state, uint8_t byte) override;
  bool Accepts(State state) const override;
  Loop LoopOf(State state) override;
  std::vector<LoopBytes> LikelyLoops(size_t most) override;
  int64_t states() const { return static_cast<int64_t>(states_.size()); }

 private:
  struct Span {
    uint8_t first, last;
    State next;
  };
  struct Content {
    CharMachine::State chars = CharMachine::kDead;  // kDead: within a character
    int rest = 0;                                   // bytes to come
    std::vector<CharMachine::Edge> edges;           // of what 6 bits of each of them make
    bool expanded = false;
    std::vector<Span> spans;                      // ascending
    std::unique_ptr<std::array<State, 256>> row;  // instead of many spans
  };

  State OfChars(CharMachine::State chars);
  // As LoopOf, but the states are those of chars_.
  Loop LoopOfChars(CharMachine::State chars);
  // `edges` over the values 0 .. 64^rest - 1.
  State Within(int rest, std::vector<CharMachine::Edge> edges);
  void ExpandState(State state);
  void Add(std::vector<Span>& spans, uint8_t byte, State next);

  std::unique_ptr<CharMachine> chars_;
  std::deque<Content> states_;
  std::vector<State> of_chars_;
  IdTable ids_;  // of those within a character
  int64_t bytes_ = 0;
  State start_ = kDead;
};

}  // namespace fathom::grammar
