// A set of byte strings (what a grammar allows a model to write) as a machine over bytes. States are numbered as they
// are first reached and their transitions kept, so that a byte costs a look-up once its state has been seen; a state is
// a whole configuration, stack included. A state from which no string of the set can be completed is kDead at once:
// after any other state there is a way to the end.
#pragma once

#include <cstdint>

namespace fathom::grammar {

class Machine {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;

  virtual ~Machine() = default;
  virtual State Start() = 0;
  // After one more byte; kDead stays kDead.
  virtual State Next(State state, uint8_t byte) = 0;
  // The string may end here.
  virtual bool Accepts(State state) const = 0;
};

}  // namespace fathom::grammar
