#include "tokenizer/text_session.h"

#include <algorithm>

namespace fathom::tokenizer {

TextSession::TextSession(const Tokenizer& tokenizer, TextSessionOptions options)
    : decoder_(tokenizer, options.skip_special), stop_(std::move(options.stop)) {
  stop_.erase(std::remove(stop_.begin(), stop_.end(), std::string()), stop_.end());
}

std::string TextSession::Push(TokenId id) { return stopped() ? std::string() : Release(decoder_.Push(id)); }

std::string TextSession::Finish() {
  if (stopped()) return "";
  std::string out = Release(decoder_.Flush());
  if (!stopped()) out += std::exchange(waiting_, {});
  return out;
}

std::string TextSession::Release(std::string_view more) {
  waiting_ += more;
  size_t begin = 0, end = std::string::npos;  // of the first stop string that is complete
  for (const std::string& s : stop_) {
    const size_t at = waiting_.find(s);
    if (at == std::string::npos) continue;
    if (at + s.size() < end || (at + s.size() == end && at < begin)) {
      begin = at;
      end = at + s.size();
      stop_string_ = s;
    }
  }
  if (stopped()) {
    std::string out = waiting_.substr(0, begin);
    waiting_.clear();
    return out;
  }
  size_t hold = 0;  // the longest end of the text that begins a stop string
  for (const std::string& s : stop_) {
    for (size_t n = std::min(s.size() - 1, waiting_.size()); n > hold; --n) {
      if (waiting_.compare(waiting_.size() - n, n, s, 0, n) == 0) {
        hold = n;
        break;
      }
    }
  }
  std::string out = waiting_.substr(0, waiting_.size() - hold);
  waiting_.erase(0, waiting_.size() - hold);
  return out;
}

}  // namespace fathom::tokenizer
