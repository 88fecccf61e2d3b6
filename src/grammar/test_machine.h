// What the tests of machines share.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "grammar/machine.h"

namespace fathom::grammar {

inline Machine::State After(Machine& machine, std::string_view text) {
  Machine::State s = machine.Start();
  for (char c : text) s = machine.Next(s, static_cast<uint8_t>(c));
  return s;
}

inline bool Matches(Machine& machine, std::string_view text) {
  const Machine::State s = After(machine, text);
  return s != Machine::kDead && machine.Accepts(s);
}

// All texts over an alphabet of up to `length` characters.
inline void ForEachText(std::string_view alphabet, size_t length,
                        const std::function<void(const std::string&)>& visit) {
  std::string text;
  const std::function<void()> go = [&] {
    visit(text);
    if (text.size() == length) return;
    for (char c : alphabet) {
      text.push_back(c);
      go();
      text.pop_back();
    }
  };
  go();
}

}  // namespace fathom::grammar
