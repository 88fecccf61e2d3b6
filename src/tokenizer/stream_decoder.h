// Token ids to text as they come: what is printed is always whole characters, and at the end the text is
// Tokenizer::Decode's of all ids.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace fathom::tokenizer {

class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that this token completes; the beginning of a character waits (at most 3 bytes).
  std::string Push(TokenId id);
  // The rest, a cut-off character as U+FFFD; the decoder is as new afterwards.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string waiting_;
};

}  // namespace fathom::tokenizer
