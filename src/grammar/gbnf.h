// Grammars in llama.cpp's GBNF, which is also what XGrammar calls EBNF:
//   rules      name ::= alternatives, names of letters, digits, - and _; the first text is that of `root`
//   elements   "text" 'text' [a-z] [^a-z] . name ( ... ), behind each * + ? {m} {m,} {m,n} {,n}; | between alternatives
//   escapes    \n \r \t \\ \" \' \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH: characters, not bytes
//   comments   # to the end of the line; a rule ends where the next begins
// Left recursion of a rule in itself is rewritten as a repetition; through other rules it is refused by name, and so
// are undefined rules, rules defined twice, Lark's and token elements of llama.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "grammar/machine.h"
#include "grammar/syntax.h"

namespace fathom::grammar {

inline constexpr size_t kMaxGrammarBytes = 1 << 20;

struct GbnfGrammar {
  Rules rules;                           // rules.rules[0] is root; left recursion is still in it
  std::vector<std::string> unreachable;  // from root: they have no effect
};
// Any bytes; an Error names what is wrong and the line.
Result<GbnfGrammar> ParseGbnf(std::string_view text);

// An Error too: root has no text at all, as where every alternative needs itself.
Result<std::unique_ptr<Machine>> CompileGbnf(std::string_view text);

// One of these texts. An Error: none, or one that is not valid UTF-8.
Result<std::unique_ptr<Machine>> CompileChoice(const std::vector<std::string>& texts);

}  // namespace fathom::grammar
