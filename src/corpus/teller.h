// A small language for sentences with choices, and the text that grows out of them.
//
//   [a|b|c]   one of them, each as likely; they nest, and one may be empty
//   <key>     the value that was Set, itself a pattern; <Key> begins with a capital
//   a~        "a" or "an", by the word that follows; A~ likewise
//
// What is drawn depends on (seed, stream, document) only. A pattern is written by the project: a key that is not set or
// a bracket that is not closed is a programmer's error.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "core/rng.h"

namespace fathom::corpus {

class Teller {
 public:
  Teller(uint64_t seed, uint64_t stream, int64_t document)
      : rng_(seed, stream << 40 ^ static_cast<uint64_t>(document)) {}

  int64_t Below(int64_t n) { return rng_.NextBelow(n); }
  bool Chance(double probability) { return rng_.NextDouble() < probability; }
  template <class T, size_t N>
  const T& Pick(const T (&list)[N]) {
    return list[static_cast<size_t>(Below(static_cast<int64_t>(N)))];
  }
  template <class List>
  const auto& PickOf(const List& list) {
    return list[static_cast<size_t>(Below(static_cast<int64_t>(list.size())))];
  }

  void Set(std::string_view key, std::string_view pattern) { values_[std::string(key)] = pattern; }
  // As Set, but what is drawn now stays the same.
  void Fix(std::string_view key, std::string_view pattern) { values_[std::string(key)] = Say(pattern); }
  std::string Say(std::string_view pattern);

  // The text: sentences with a blank between, paragraphs with a blank line.
  void Add(std::string_view pattern);
  void Maybe(double probability, std::string_view pattern) {
    if (Chance(probability)) Add(pattern);
  }
  void Paragraph() { paragraph_ = !text_.empty(); }
  const std::string& text() const { return text_; }

 private:
  void Expand(std::string_view pattern, int depth, std::string* out);
  std::string Value(std::string_view key, int depth);

  Rng rng_;
  std::map<std::string, std::string, std::less<>> values_;
  std::string text_;
  bool paragraph_ = false;
};

// "Apple" of "apple".
std::string Capital(std::string_view text);

}  // namespace fathom::corpus
