// A compiled JSON schema. What is still asked of a value is a *demand*; a demand is fulfilled by the values of its
// forms, of which each is one conjunction of plain conditions on one type of value. Only what some value fulfils is
// kept.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_set>
#include <vector>

#include "grammar/json_number.h"
#include "grammar/json_source.h"
#include "grammar/json_text.h"

namespace fathom::grammar {

using DemandId = int32_t;
inline constexpr DemandId kAnyValue = 0, kNoValue = 1;

// A null or a boolean has the index 0 or 1 (true); other forms are rules of JsonForms.
struct Form {
  ValueType type;
  int32_t rule;
  bool operator==(const Form&) const = default;
};

struct TextRule {
  bool counted = true;  // by the number of characters alone; otherwise by dfa
  int64_t least = 0, most = -1;
  TextDfa dfa = {};

  bool IsAny() const { return counted && least == 0 && most < 0; }
  bool Contains(const std::u32string& text) const;
};

struct ArrayRule {
  // Counts items that fulfil a condition, from the item `from` on.
  struct Counter {
    int64_t from, least, most;  // most < 0: any number
  };
  struct Choice {
    DemandId demand;
    uint32_t counts;  // bits of the counters that an item of this demand raises
  };
  std::vector<std::vector<Choice>> items = {};  // of the first items; the last: of all others
  std::vector<Counter> counters = {};
  int64_t least = 0, most = -1;
  // With counters: positions (saturated) and counts from which the array can be finished, see ArrayPosition.
  std::unordered_set<uint64_t> live = {};

  const std::vector<Choice>& ItemsAt(int64_t index) const {
    return items[std::min(static_cast<size_t>(index), items.size() - 1)];
  }
};

struct ObjectRule {
  std::vector<std::u32string> names = {};  // ascending
  std::vector<DemandId> of_name = {};
  std::vector<bool> required = {};
  std::vector<bool> otherwise_free = {};  // of a name: the same text would be in `free`
  TextDfa free = {};                      // all other names; classes: indices of of_class
  std::vector<DemandId> of_class = {};
  int64_t least = 0, most = -1;
};

struct Demand {
  std::vector<int32_t> literals;  // ascending: 2 x node, + 1: not fulfilled
  std::array<std::vector<Form>, kValueTypes> forms = {};
  std::array<uint8_t, kValueTypes> expanded = {};  // 1: under way, 2: done
  bool live = false;
};

struct JsonForms {
  DemandId root = kNoValue;
  std::vector<Demand> demands;
  std::deque<NumberRule> numbers;
  std::deque<TextRule> texts;
  std::deque<ArrayRule> arrays;
  std::deque<ObjectRule> objects;
};

// Where an array stands: items so far (saturated where more make no difference), counts (saturated) of at most four
// counters of at most 255.
struct ArrayPosition {
  int64_t index = 0;
  std::array<uint8_t, 4> counts = {};

  bool operator==(const ArrayPosition&) const = default;
  uint64_t Key() const {
    return static_cast<uint64_t>(index) << 32 | static_cast<uint64_t>(counts[0]) << 24 |
           static_cast<uint64_t>(counts[1]) << 16 | static_cast<uint64_t>(counts[2]) << 8 | counts[3];
  }
};
// After an item of `choice`; false: too many of something.
bool Advance(const ArrayRule& rule, const ArrayRule::Choice& choice, ArrayPosition& position);
bool MayEnd(const ArrayRule& rule, const ArrayPosition& position);

// Throws Error.
JsonForms CompileForms(SchemaSource& source);

}  // namespace fathom::grammar
