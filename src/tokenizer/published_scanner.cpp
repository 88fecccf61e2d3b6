#include "tokenizer/published_scanner.h"

#include "tokenizer/unicode.h"

namespace fathom::tokenizer {

const std::vector<std::string_view>& PublishedScanner::Expressions() {
  static const std::vector<std::string_view> expressions = {
      "\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
      " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};
  return expressions;
}

std::vector<uint8_t> PublishedScanner::MakeClasses() {
  std::vector<uint8_t> classes(0x110000, kOther);
  for (const ClassRange& r : ClassRanges()) {
    uint8_t cls = kOther;
    switch (r.value) {
      case CharClass::kL:
      case CharClass::kM:
        cls = kLetterOrMark;
        break;
      case CharClass::kP:
      case CharClass::kS:
        cls = kPunctuation;
        break;
      case CharClass::kN:
      case CharClass::kNd:
        cls = kNumber;
        break;
      case CharClass::kW:
        cls = kSpace;
        break;
    }
    for (uint32_t c = r.first; c <= r.last; ++c) classes[c] = cls;
  }
  classes['\r'] = classes['\n'] = kLineEnd;
  for (uint32_t c = 0x4E00; c <= 0x9FA5; ++c) classes[c] |= kCjk;
  for (uint32_t c = 0x3040; c <= 0x30FF; ++c) classes[c] |= kCjk;
  return classes;
}

PublishedScanner::PublishedScanner(std::string_view text) : end_(text.data() + text.size()) {
  static const std::vector<uint8_t> classes = MakeClasses();
  classes_ = classes.data();
}

template <bool kInCjk>
const char* PublishedScanner::WhiteSpace(const char* p) const {
  const char* after_line_end = nullptr;
  const char* last = p;  // the last character of the run
  const char* q = p;
  for (;;) {
    const Char c = Peek(q);
    if (Ends<kInCjk>(c.cls) || !(c.cls & (kSpace | kLineEnd))) {
      if (after_line_end != nullptr) return after_line_end;  // d
      if (Ends<kInCjk>(c.cls)) return q;                     // e, nothing follows
      return last != p ? last : q;                           // e, f
    }
    last = q;
    q += c.length;
    if (c.cls & kLineEnd) after_line_end = q;
  }
}

template <bool kInCjk>
const char* PublishedScanner::Unmatched(const char* p) const {
  for (;;) {
    const Char c = Peek(p);
    if (Ends<kInCjk>(c.cls) || c.cls & ~kCjk) return p;
    const Char next = Peek(p + c.length);
    if (!Ends<kInCjk>(next.cls) && next.cls & kLetterOrMark) return p;  // b begins here
    p += c.length;
  }
}

template const char* PublishedScanner::WhiteSpace<true>(const char*) const;
template const char* PublishedScanner::WhiteSpace<false>(const char*) const;
template const char* PublishedScanner::Unmatched<true>(const char*) const;
template const char* PublishedScanner::Unmatched<false>(const char*) const;

}  // namespace fathom::tokenizer
