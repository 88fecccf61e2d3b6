// Regular expressions over characters: the part of ECMAScript's (u flag) that is regular, which RE2 and Python read in
// the same way but for what docs/structured-output.md says.
//   taken    . [abc] [^a-z] \d \w \s \D \W \S \p{L} \P{N} | * + ? {m} {m,} {m,n} and their lazy forms (the language is
//   the
//            same), (...) (?:...) (?<name>...) (?P<name>...), ^ $ \A \z, \n \r \t \f \v \0 \cX \xHH \uHHHH \u{H..} \/
//   refused  by name: look-around, back-references, \b \B, possessive quantifiers and atomic groups, flags, [[:alpha:]]
#pragma once

#include <memory>
#include <string_view>

#include "core/error.h"
#include "grammar/char_machine.h"
#include "grammar/machine.h"
#include "grammar/syntax.h"

namespace fathom::grammar {

inline constexpr size_t kMaxRegexBytes = 64 << 10;

// Any bytes; an Error names what cannot be taken and where it stands.
Result<Node> ParseRegex(std::string_view expression);

enum class RegexScope : uint8_t {
  kWhole,   // texts that the expression matches from beginning to end
  kSearch,  // texts with a match somewhere (JSON Schema's `pattern`); ^ and $ as they stand
};
// The texts as a machine over characters, and over bytes (UTF-8).
Result<std::unique_ptr<CharMachine>> RegexOverChars(std::string_view expression, RegexScope scope);
Result<std::unique_ptr<Machine>> CompileRegex(std::string_view expression, RegexScope scope = RegexScope::kWhole);

}  // namespace fathom::grammar
