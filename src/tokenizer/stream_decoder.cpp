#include "tokenizer/stream_decoder.h"

#include "core/utf8.h"

namespace fathom::tokenizer {

std::string StreamDecoder::Push(TokenId id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return "";
  waiting_ += tokenizer_->TokenBytes(id);
  // Only a character that the end cuts off waits: it begins within the last three bytes, at the last byte that is no
  // continuation.
  size_t ready = waiting_.size();
  for (size_t back = 1; back <= 3 && back <= waiting_.size(); ++back) {
    const size_t begin = waiting_.size() - back;
    if ((waiting_[begin] & 0xC0) == 0x80) continue;
    if (NextUtf8Part(std::string_view(waiting_).substr(begin)).incomplete) ready = begin;
    break;
  }
  std::string out = Utf8Lossy(std::string_view(waiting_).substr(0, ready));
  waiting_.erase(0, ready);
  return out;
}

std::string StreamDecoder::Flush() {
  std::string out = Utf8Lossy(waiting_);
  waiting_.clear();
  return out;
}

}  // namespace fathom::tokenizer
