// The numbers that a schema allows, and the machine over their JSON spellings. Numbers count by value: 1, 1.0, 10e-1...
// are one. With any condition on the value these spellings are taken:
//   -? whole [. fraction]                      whole of at most kMaxWholeDigits
//   -? digit [. fraction] e [+-] 1..3 digits   an exponent of at most kMaxScientific behind one digit
// with a fraction of so many digits that a number near the bounds has 15 (more where a bound has more, up to 60).
// Without conditions: every JSON number of at most 200 digits before the point and an exponent of two digits, or up to
// 299 behind a single digit. Nothing beyond what a double holds.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/json_decimal.h"

namespace fathom::grammar {

struct NumberRule {
  struct Bound {
    Decimal value;
    bool exclusive = false;
  };
  std::optional<Bound> least, most;
  std::optional<Decimal> step;               // multiples of it
  std::vector<Decimal> not_steps;            // multiples of none of them
  std::optional<std::vector<Decimal>> only;  // ascending
  std::vector<Decimal> except;               // ascending

  bool IsAny() const { return !least && !most && !step && not_steps.empty() && !only && except.empty(); }
  void AtLeast(const Bound& bound);
  void AtMost(const Bound& bound);
  void MultipleOf(const Decimal& of);
  void Only(const std::vector<Decimal>& values);  // ascending
  void Except(const std::vector<Decimal>& values);
  bool Contains(const Decimal& value) const;
  std::string Key() const;  // equal for equal rules
};

class NumberWalker {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;
  static constexpr size_t kMaxWholeDigits = 64;
  static constexpr int64_t kMaxScientific = 308;

  // not_steps: at most one.
  explicit NumberWalker(NumberRule rule);
  State Start() const { return start_; }  // kDead: no number
  State Next(State state, uint8_t byte);
  bool Accepts(State state) const { return states_[static_cast<size_t>(state)].accepts; }
  const NumberRule& rule() const { return rule_; }

 private:
  enum class Phase : uint8_t { kStart, kSign, kWhole, kPoint, kFraction, kE, kESign, kExponent };
  struct Text {
    Phase phase = Phase::kStart;
    bool negative = false;
    std::string whole = {}, fraction = {};
    int32_t exponents = -1;  // of exponents_, those that lead to a number of the rule
    bool down = false;
    int written = 0, written_digits = 0;
  };
  struct StateData {
    Text text;  // one of those that lead here
    bool accepts = false;
    std::array<State, 15> next;
  };
  // What the rule's bounds say about magnitudes of one sign.
  struct Side {
    bool empty = false;
    std::optional<NumberRule::Bound> least, most;  // of magnitudes, >= 0
  };

  std::optional<Text> After(const Text& text, uint8_t byte);
  std::optional<Text> AfterExponent(const Text& text, uint8_t byte);
  State Intern(const Text& text);
  std::string KeyOf(const Text& text) const;
  bool Live(const Text& text);
  bool AcceptsText(const Text& text) const;
  bool ExponentLive(const Text& text) const;
  bool ExistsPlain(const Text& text) const;
  bool ExistsScientific(const Text& text) const;
  // Is there k in [from, end) with k x 10^scale in the rule?
  bool Exists(bool negative, const Natural& from, const Natural& end, int64_t scale) const;
  std::vector<int16_t> Exponents(const Text& text) const;
  Decimal ValueOf(const Text& text) const;

  NumberRule rule_;
  bool any_ = false;
  int64_t fraction_digits_ = 24;
  std::array<Side, 2> sides_;
  std::vector<std::string> comparands_;  // digits of bounds and exceptions; the last: of the largest double
  std::deque<StateData> states_;
  std::unordered_map<std::string, State> ids_;
  std::deque<std::vector<int16_t>> exponents_;
  State start_ = kDead;
};

}  // namespace fathom::grammar
