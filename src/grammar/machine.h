// A set of byte strings (what a grammar allows a model to write) as a machine over bytes. States are numbered as they
// are first reached and their transitions kept, so that a byte costs a look-up once its state has been seen; a state is
// a whole configuration, stack included. A state from which no string of the set can be completed is kDead at once:
// after any other state there is a way to the end.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "grammar/char_set.h"

namespace fathom::grammar {

// A set of characters by the bytes that they begin with, as 256 bits.
struct LoopBytes {
  uint64_t bits[4] = {};
  bool utf8 = false;  // bytes above 127 stand for all characters that begin with them, else for themselves

  bool Has(uint8_t byte) const { return bits[byte >> 6] >> (byte & 63) & 1; }
  void Add(uint8_t byte) { bits[byte >> 6] |= uint64_t{1} << (byte & 63); }
  bool operator==(const LoopBytes&) const = default;
};

class Machine {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;
  // Characters that all lead to `next`.
  struct Loop {
    LoopBytes bytes = {};
    State next = kDead;
  };
  static constexpr int kFewLoopBytes = 16;  // a loop has at least so many bytes

  virtual ~Machine() = default;
  virtual State Start() = 0;
  // After one more byte; kDead stays kDead.
  virtual State Next(State state, uint8_t byte) = 0;
  // The string may end here.
  virtual bool Accepts(State state) const = 0;
  // Of a state that is not dead, what leads to the state that most bytes lead to. None (`next` is kDead) where those
  // are few. By default all bytes are tried, which is dear.
  virtual Loop LoopOf(State state);
  // Sets of loops that answers are likely to meet, at most `most`.
  virtual std::vector<LoopBytes> LikelyLoops(size_t most);
};

// The characters whose UTF-8 begins with this byte; nullopt: none does.
std::optional<CharRange> CharactersFrom(uint8_t lead);
// What most bytes lead to, of the states behind each byte and the rest of a character: kDead where it leads to several.
Machine::Loop MostCommonLoop(const std::array<Machine::State, 256>& next);

}  // namespace fathom::grammar
