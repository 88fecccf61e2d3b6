// The character classes of pre-tokenizer expressions. Text inside the tokenizer is always valid UTF-8: what comes from
// outside goes through Utf8Lossy (core/utf8.h) first.
#pragma once

#include <cstdint>
#include <vector>

namespace fathom::tokenizer {

// General categories as an expression names them (letters \p{L}, ...), white space (\s), and decimal digits (\d, within
// \p{N}).
enum class CharClass : uint8_t { kL, kM, kP, kS, kN, kW, kNd };
struct ClassRange {
  uint32_t first, last;
  CharClass value;
};
// Unicode 16, as the expression engine of Hugging Face tokenizers has it; disjoint, ascending; no kNd among them.
const std::vector<ClassRange>& ClassRanges();
// The part of it that Unicode 14 lacks, kNd included: what an expression library of that version must be told.
const std::vector<ClassRange>& ClassRangesSinceUnicode14();

}  // namespace fathom::tokenizer
