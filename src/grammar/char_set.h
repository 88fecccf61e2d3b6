// Sets of characters (Unicode code points) as ranges.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace fathom::grammar {

inline constexpr uint32_t kMaxChar = 0x10FFFF;

struct CharRange {
  uint32_t first, last;
  bool operator==(const CharRange&) const = default;
};
// Ascending, disjoint, no two that touch, within [0, kMaxChar], without the surrogates D800..DFFF: no text has them.
using CharSet = std::vector<CharRange>;

CharSet Normalised(std::vector<CharRange> ranges);  // of any ranges
CharSet Complement(const CharSet& set);
bool Contains(const CharSet& set, uint32_t character);

// As ECMAScript has them: \d and \w are ASCII, \s all white space and line ends, the dot all but line ends.
const CharSet& AllChars();
const CharSet& DigitChars();
const CharSet& WordChars();
const CharSet& SpaceChars();
const CharSet& DotChars();
// \p{name}: L M P S N, their long names and Any; nullopt: no such class here.
std::optional<CharSet> UnicodeClass(std::string_view name);

}  // namespace fathom::grammar
