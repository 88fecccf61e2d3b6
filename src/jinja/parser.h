// Tokens to a program.
#pragma once

#include <string_view>

#include "jinja/ast.h"
#include "jinja/lexer.h"

namespace fathom::jinja {

// Throws SourceError: what is no template, and by name what this interpreter does not have (include, extends, unknown
// filters and tests, ...).
Program ParseProgram(std::string_view source);

}  // namespace fathom::jinja
