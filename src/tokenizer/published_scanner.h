// The pre-tokenizer of DeepSeek-V3 (and R1, V3.1) written out by hand: the fast path of a tokenizer whose expressions
// are textually the published ones. PCRE2 running the expressions is its specification (published_scanner_test.cpp,
// fuzz/encode_fuzz.cpp).
//
// The published sequence splits three times, each time isolating the matches within the pieces of the time before:
//   1. \p{N}{1,3}
//   2. [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+                   ("CJK" below)
//   3. six arms, the first that matches wins:
//      a. an ASCII punctuation character and ASCII letters      d. \s*[\r\n]+   (up to the last line end of a run of
//      white space) b. [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+                   e. \s+(?!\S)    (the run without its last
//      character, if text follows) c. ' '?[\p{P}\p{S}]+[\r\n]*                               f. \s+
// What no arm matches (control and format characters, unassigned code points) stays together up to the next match. A
// number or the border of a CJK run ends a piece of step 2, so to step 3 it is the end of the text: look-ahead
// included. None of the arms looks back, so the next piece depends on the text from its beginning alone and one pass in
// one direction finds all of them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/utf8.h"

namespace fathom::tokenizer {

class PublishedScanner {
 public:
  // The three Split expressions, in order.
  static const std::vector<std::string_view>& Expressions();

  explicit PublishedScanner(std::string_view text);  // valid UTF-8
  // The end of the piece that begins at p, which must lie before the text's end.
  const char* Next(const char* p) const {
    const Char c = Peek(p);
    if (c.cls & kNumber) {
      p += c.length;
      for (int i = 1; i < 3; ++i) {
        const Char n = Peek(p);
        if (!(n.cls & kNumber)) break;
        p += n.length;
      }
      return p;
    }
    return c.cls & kCjk ? Arms<true>(p, c) : Arms<false>(p, c);
  }

 private:
  enum : uint8_t {
    kOther = 0,
    kLetterOrMark = 1,
    kPunctuation = 2,
    kNumber = 4,
    kSpace = 8,
    kLineEnd = 16,
    kCjk = 32,
    kEnd = 64
  };
  struct Char {
    int length;
    uint8_t cls;
  };
  static std::vector<uint8_t> MakeClasses();  // by code point

  Char Peek(const char* p) const {
    if (p == end_) return {0, kEnd};
    const CodePoint c = DecodeUtf8(p);
    return {c.length, classes_[c.value]};
  }
  // Does a character of this class end the piece of step 2 that we are in?
  template <bool kInCjk>
  static bool Ends(uint8_t cls) {
    return kInCjk ? !(cls & kCjk) : (cls & (kNumber | kCjk | kEnd)) != 0;
  }
  template <bool kInCjk>
  const char* Run(const char* p, uint8_t cls) const {  // as far as characters of `cls` go
    for (;;) {
      const Char c = Peek(p);
      if (Ends<kInCjk>(c.cls) || !(c.cls & cls)) return p;
      p += c.length;
    }
  }
  static bool IsAsciiLetter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

  template <bool kInCjk>
  const char* Arms(const char* p, Char c) const;
  template <bool kInCjk>
  const char* WhiteSpace(const char* p) const;
  template <bool kInCjk>
  const char* Unmatched(const char* p) const;

  const char* end_;
  const uint8_t* classes_;
};

template <bool kInCjk>
inline const char* PublishedScanner::Arms(const char* p, Char c) const {
  if (c.cls & kLetterOrMark)
    return Run<kInCjk>(p + c.length, kLetterOrMark);  // b: a mark in front is covered by the run
  if (c.cls & kPunctuation) {
    if (c.length == 1 && p + 1 != end_ &&
        IsAsciiLetter(p[1])) {  // a: every ASCII character of the class is in its list
      p += 2;
      while (p != end_ && IsAsciiLetter(*p)) ++p;
      return p;
    }
    return Run<kInCjk>(Run<kInCjk>(p + c.length, kPunctuation), kLineEnd);  // c
  }
  if (!(c.cls & kLineEnd)) {
    const Char next = Peek(p + c.length);
    if (!Ends<kInCjk>(next.cls)) {
      if (next.cls & kLetterOrMark) return Run<kInCjk>(p + c.length + next.length, kLetterOrMark);  // b
      if (*p == ' ' && next.cls & kPunctuation) {                                                   // c
        return Run<kInCjk>(Run<kInCjk>(p + 1 + next.length, kPunctuation), kLineEnd);
      }
    }
  }
  return c.cls & (kSpace | kLineEnd) ? WhiteSpace<kInCjk>(p) : Unmatched<kInCjk>(p + c.length);
}

}  // namespace fathom::tokenizer
