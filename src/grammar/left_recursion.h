// A rule that begins with itself has no machine that goes from left to right with a stack. a ::= a x | y is y x*; what
// begins with itself through another rule, or behind what may be empty, stays.
#pragma once

#include <optional>
#include <string>

#include "grammar/syntax.h"

namespace fathom::grammar {

void RewriteLeftRecursion(Rules& rules);
// "a -> b -> a" if one is left.
std::optional<std::string> FindLeftRecursion(const Rules& rules);

}  // namespace fathom::grammar
