// tokenizer.json, read: the two big tables straight into vectors, the rest as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"

namespace fathom::tokenizer {

struct TokenizerJson {
  BpeSource bpe;
  std::vector<AddedToken> added_tokens;  // in ascending order of ids; ids and contents are distinct
  nlohmann::json rest;                   // everything but model.vocab and model.merges
};

// Checks all that does not need another part: types, ids, and that every setting of the model, the normalizer, the
// decoder is one that is built.
Result<TokenizerJson> ReadTokenizerJson(std::string_view bytes);

}  // namespace fathom::tokenizer
