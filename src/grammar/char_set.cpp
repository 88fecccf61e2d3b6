#include "grammar/char_set.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace fathom::grammar {
namespace {

constexpr uint32_t kSurrogateFirst = 0xD800, kSurrogateLast = 0xDFFF;

}  // namespace

CharSet Normalised(std::vector<CharRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const CharRange& a, const CharRange& b) { return a.first < b.first; });
  CharSet out;
  const auto add = [&](uint32_t first, uint32_t last) {
    if (first > last) return;
    if (!out.empty() && first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, last);
    } else {
      out.push_back({first, last});
    }
  };
  for (const CharRange& r : ranges) {
    const uint32_t last = std::min(r.last, kMaxChar);
    if (r.first < kSurrogateFirst) add(r.first, std::min(last, kSurrogateFirst - 1));
    add(std::max(r.first, kSurrogateLast + 1), last);
  }
  return out;
}

CharSet Complement(const CharSet& set) {
  std::vector<CharRange> rest;
  uint32_t next = 0;
  for (const CharRange& r : set) {
    if (r.first > next) rest.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kMaxChar) rest.push_back({next, kMaxChar});
  return Normalised(std::move(rest));
}

bool Contains(const CharSet& set, uint32_t c) {
  const auto at =
      std::upper_bound(set.begin(), set.end(), c, [](uint32_t v, const CharRange& r) { return v < r.first; });
  return at != set.begin() && c <= (at - 1)->last;
}

const CharSet& AllChars() {
  static const CharSet set = Normalised({{0, kMaxChar}});
  return set;
}
const CharSet& DigitChars() {
  static const CharSet set = {{'0', '9'}};
  return set;
}
const CharSet& WordChars() {
  static const CharSet set = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  return set;
}
const CharSet& SpaceChars() {
  static const CharSet set = Normalised({{9, 13},
                                         {' ', ' '},
                                         {0xA0, 0xA0},
                                         {0x1680, 0x1680},
                                         {0x2000, 0x200A},
                                         {0x2028, 0x2029},
                                         {0x202F, 0x202F},
                                         {0x205F, 0x205F},
                                         {0x3000, 0x3000},
                                         {0xFEFF, 0xFEFF}});
  return set;
}
const CharSet& DotChars() {
  static const CharSet set = Complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
  return set;
}

std::optional<CharSet> UnicodeClass(std::string_view name) {
  using tokenizer::CharClass;
  struct Named {
    std::string_view brief, full;
    CharClass value;
  };
  static constexpr Named kNames[] = {{"L", "Letter", CharClass::kL},
                                     {"M", "Mark", CharClass::kM},
                                     {"P", "Punctuation", CharClass::kP},
                                     {"S", "Symbol", CharClass::kS},
                                     {"N", "Number", CharClass::kN}};
  if (name == "Any") return AllChars();
  for (const Named& n : kNames) {
    if (name != n.brief && name != n.full) continue;
    std::vector<CharRange> ranges;
    for (const tokenizer::ClassRange& r : tokenizer::ClassRanges()) {
      if (r.value == n.value) ranges.push_back({r.first, r.last});
    }
    return Normalised(std::move(ranges));
  }
  return std::nullopt;
}

}  // namespace fathom::grammar
