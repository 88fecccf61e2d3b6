// Ids in, text out, up to a stop string: what a program that prints or sends an answer needs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/stream_decoder.h"

namespace fathom::tokenizer {

struct TextSessionOptions {
  std::vector<std::string> stop;  // empty ones are ignored
  bool skip_special = true;
};

// The text given out never holds half a character, nor anything of a stop string that is met: what may be the beginning
// of one waits. Of several stop strings the one that is complete first counts, of those the longest; so how the ids are
// grouped makes no difference.
class TextSession {
 public:
  TextSession(const Tokenizer& tokenizer, TextSessionOptions options);

  std::string Push(TokenId id);  // nothing once stopped
  std::string Finish();          // what still waits, when no more ids come

  bool stopped() const { return !stop_string_.empty(); }
  const std::string& stop_string() const { return stop_string_; }  // the one that was met

 private:
  std::string Release(std::string_view more);

  StreamDecoder decoder_;
  std::vector<std::string> stop_;
  std::string waiting_;
  std::string stop_string_;
};

}  // namespace fathom::tokenizer
