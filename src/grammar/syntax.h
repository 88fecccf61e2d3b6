// What regular expressions and grammars are read into: a tree over characters, and rules that refer to each other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/char_set.h"

namespace fathom::grammar {

struct Node {
  enum class Kind : uint8_t {
    kEmpty,     // the empty text
    kSet,       // one character of `set`, which may be empty: nothing matches
    kSequence,  // `children`, one behind the other
    kChoice,    // one of `children`
    kRepeat,    // children[0], `least` to `most` times (kUnbounded)
    kBegin,     // the empty text, at the beginning (expressions only)
    kEnd,       // the same at the end
    kRule,      // what rule number `rule` matches (grammars only)
  };
  static constexpr int64_t kUnbounded = -1;

  Kind kind = Kind::kEmpty;
  CharSet set = {};
  std::vector<Node> children = {};
  int64_t least = 0, most = 0;
  int32_t rule = -1;

  static Node Set(CharSet set) { return {.kind = Kind::kSet, .set = std::move(set)}; }
  static Node Sequence(std::vector<Node> children);  // of one: that one
  static Node Choice(std::vector<Node> children);    // of one: that one
  static Node Repeat(Node child, int64_t least, int64_t most);
  static Node Rule(int32_t rule) { return {.kind = Kind::kRule, .rule = rule}; }
  static Node Literal(std::string_view utf8);  // valid UTF-8
};

// rules[0] is where texts begin.
struct Rules {
  struct Rule {
    std::string name;
    Node body;
  };
  std::vector<Rule> rules;
};

}  // namespace fathom::grammar
