// A template's source to tokens, its white space already as the tags want it: trim_blocks and lstrip_blocks are on, as
// transformers sets them, `-` and `+` beside a tag override them, one line end at the source's end is dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,
    kBlockBegin,
    kBlockEnd,
    kOutputBegin,
    kOutputEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kSign,
    kEnd
  };
  Kind kind = Kind::kEnd;
  int line = 1;
  std::string text;     // a string's value, a number without underscores, data
  int64_t integer = 0;  // of kInteger
};

inline constexpr size_t kMaxSource = 4 << 20;

// What is wrong with a source, and where.
struct SourceError {
  std::string what;
  int line = 1;
};

// Ends with kEnd. Throws SourceError.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace fathom::jinja
