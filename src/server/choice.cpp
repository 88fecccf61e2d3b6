#include "server/choice.h"

#include <algorithm>

namespace fathom::server {

int64_t CountCharacters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Choice::Choice(const ServedModel& model, const ChoiceOptions& o)
    : model_(model),
      session_(model.text.tokenizer, {.stop = o.stop, .skip_special = o.skip_special}),
      splitter_(o.start),
      calls_(o.calls),
      skip_special_(o.skip_special),
      keep_tokens_(o.keep_tokens),
      offset_(o.offset) {}

Delta Choice::Push(const engine::Token& token) {
  Delta delta;
  ++tokens_;
  const bool thinks = splitter_.thinking();
  if (thinks) ++reasoning_tokens_;
  const std::string text = session_.Push(token.id);
  if (keep_tokens_) {
    const bool silent = skip_special_ && model_.text.tokenizer.IsSpecial(token.id);
    const std::string_view bytes = silent ? std::string_view() : model_.TokenBytes(token.id);
    waiting_.push_back({token, offset_, thinks && splitter_.thought()});
    begins_.push_back(bytes_);
    offset_ += CountCharacters(bytes);
    bytes_ += static_cast<int64_t>(bytes.size());
  }
  Release(text, false, delta);
  return delta;
}

Delta Choice::Finish() {
  Delta delta;
  Release(session_.Finish(), !session_.stopped(), delta);
  Parts rest = splitter_.Finish();
  delta.reasoning += rest.reasoning;
  calls_.Push(rest.content, delta.content, delta.calls);
  calls_.Finish(delta.content, delta.calls);
  return delta;
}

void Choice::Release(const std::string& text, bool all, Delta& delta) {
  if (!text.empty()) {
    Parts parts = splitter_.Push(text);
    delta.reasoning = std::move(parts.reasoning);
    calls_.Push(parts.content, delta.content, delta.calls);
  }
  released_ += static_cast<int64_t>(text.size());
  size_t n = 0;
  while (n < waiting_.size() && (all || begins_[n] < released_)) ++n;
  if (n == 0) return;
  delta.tokens.assign(std::make_move_iterator(waiting_.begin()),
                      std::make_move_iterator(waiting_.begin() + static_cast<std::ptrdiff_t>(n)));
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
  begins_.erase(begins_.begin(), begins_.begin() + static_cast<std::ptrdiff_t>(n));
}

}  // namespace fathom::server
