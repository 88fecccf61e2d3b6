// Fill-in-the-middle as DeepSeek-V3 was trained with it (V3 report 4.1): prefix, suffix, middle, at document level,
// before packing:  <fim_begin> prefix <fim_hole> suffix <fim_end> middle. The report leaves open how the two cuts are
// drawn; here both are uniform over the places between characters, the ends included.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/rng.h"
#include "tokenizer/tokenizer.h"

namespace fathom::data {

struct FimTokens {
  int32_t begin = -1, hole = -1, end = -1;
};

// By either spelling: <｜fim▁begin｜> as released, <|fim_begin|> as in the report.
std::optional<FimTokens> FindFimTokens(const tokenizer::Tokenizer& tokenizer);

struct FimParts {
  std::string_view prefix, middle, suffix;  // together the text
};

// `text` is valid UTF-8; no cut is within a character.
FimParts CutForFim(std::string_view text, Rng& rng);

}  // namespace fathom::data
