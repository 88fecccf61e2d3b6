// The files of a tokenizer that was trained here, laid out as DeepSeek-V3's are: the published pre-tokenizer, decoder
// and special tokens around a vocabulary and merges of our own.
//
// Ids: bos 0, eos 1, pad 2, then the vocabulary; at the end the release's other named tokens (FIM, roles, <|EOT|>,
// tools) in its order, without its 800 placeholders. All of them are `special` here; in the release only bos, eos, pad,
// <|EOT|> are, so that text which spells any of the others turns into it whatever the caller asks for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/bpe.h"

namespace fathom::tokenizer {

const std::vector<std::string>& V3FirstTokens();  // <｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜▁pad▁｜>
const std::vector<std::string>& V3LastTokens();  // <｜fim▁hole｜> ... <｜tool▁sep｜>

// tokenizer.json. `bpe` begins with V3FirstTokens(); V3LastTokens() follow its last id.
std::string V3TokenizerJson(const BpeSource& bpe);
// tokenizer_config.json; no chat template.
std::string V3TokenizerConfig(int64_t model_max_length);

}  // namespace fathom::tokenizer
