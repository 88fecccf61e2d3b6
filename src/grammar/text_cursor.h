// A place in a text that is valid UTF-8, for the parsers of expressions and grammars.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/hex.h"
#include "core/utf8.h"

namespace fathom::grammar {

class TextCursor {
 protected:
  explicit TextCursor(std::string_view text) : text_(text) {}

  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool Take(std::string_view what) {
    if (text_.substr(at_, what.size()) != what) return false;
    at_ += what.size();
    return true;
  }
  uint32_t TakeChar() {
    const CodePoint c = DecodeUtf8(text_.data() + at_);
    at_ += static_cast<size_t>(c.length);
    return c.value;
  }
  // The decimal digits that stand here, if any; what is above `most` is most + 1.
  std::optional<int64_t> TakeNumber(int64_t most) {
    std::optional<int64_t> n;
    for (; Peek() >= '0' && Peek() <= '9'; ++at_) n = std::min(n.value_or(0) * 10 + (Peek() - '0'), most + 1);
    return n;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// What Parser(text).Parse() makes of any bytes, at most `most` of them; an Error of `what` where it is refused.
template <class Parser>
auto ParseText(std::string_view text, const std::string& what, size_t most) -> Result<decltype(Parser(text).Parse())> {
  if (text.size() > most) {
    return Error(what + ": too long", fmt::format("{} bytes", text.size()), fmt::format("at most {}", most));
  }
  if (!IsUtf8(text)) return Error(what + ": not valid UTF-8");
  try {
    return Parser(text).Parse();
  } catch (const Error& e) {
    return e;
  }
}

}  // namespace fathom::grammar
