// What a model's folder says about text: its tokenizer, the ids of bos and eos, and its chat template.
#pragma once

#include <optional>
#include <string>

#include "tokenizer/tokenizer.h"

namespace fathom::tokenizer {

struct ModelText {
  Tokenizer tokenizer;
  std::string bos_token, eos_token;          // as text; empty if the model names none
  bool add_bos_token = true;                 // what a raw prompt begins with, as tokenizer_config.json has it
  std::optional<std::string> chat_template;  // its source, if the model has one
};

// `path`: a model's directory, or a tokenizer.json itself, also gzipped (tokenizer.json.gz). Beside it are read, where
// they exist, tokenizer_config.json (bos_token, eos_token, add_bos_token, chat_template), chat_template.jinja (which
// wins over the former) and config.json (bos_token_id, eos_token_id, where the tokenizer's configuration names none). A
// file called X.tokenizer.json has its neighbours called X.tokenizer_config.json and so on. Throws Error.
ModelText LoadModelText(const std::string& path);

// A whole file, gunzipped if it is gzipped; Error if it cannot be read or is larger than `most`.
std::string ReadTextFile(const std::string& path, size_t most);

}  // namespace fathom::tokenizer
