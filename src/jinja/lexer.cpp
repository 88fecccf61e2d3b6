#include "jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/hex.h"
#include "core/utf8.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

using Kind = Token::Kind;
constexpr size_t kNotFound = std::string_view::npos;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

// \r\n and \r become \n; one at the end is dropped.
std::string NormaliseLines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

size_t SkipBlanks(std::string_view s, size_t at) { return s.size() - Strip(s.substr(at), Side::kLeft).size(); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormaliseLines(source)), s_(source_) {}

  std::vector<Token> Run() {
    while (at_ < s_.size()) Text();
    Add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw SourceError{what, line_}; }
  bool At(std::string_view text) const { return s_.substr(at_, text.size()) == text; }
  void Add(Kind kind, std::string text, int64_t integer = 0) {
    tokens_.push_back({.kind = kind, .line = line_, .text = std::move(text), .integer = integer});
  }
  void Advance(size_t to) {
    line_ += static_cast<int>(
        std::count(s_.begin() + static_cast<ptrdiff_t>(at_), s_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    at_ = to;
  }

  // The text before the tag that begins at `tag`, as the sign behind the tag's opening wants it.
  std::string_view Before(size_t begin, size_t tag, char sign, bool output) const {
    const std::string_view text = s_.substr(begin, tag - begin);
    if (sign == '-') return Strip(text, Side::kRight);
    if (sign == '+' || output) return text;
    const size_t last = text.rfind('\n');
    const size_t line = last == kNotFound ? 0 : last + 1;
    const bool from_line_start = line > 0 || line_starts_;
    return from_line_start && Strip(text.substr(line)).empty() ? text.substr(0, line) : text;
  }
  char SignAt(size_t at) const { return at < s_.size() && (s_[at] == '-' || s_[at] == '+') ? s_[at] : '\0'; }

  // Data up to the next tag, and the tag.
  void Text() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = s_.find('{', tag);
      if (tag == kNotFound || tag + 1 >= s_.size()) {
        Data(s_.substr(at_));
        Advance(s_.size());
        return;
      }
      const char c = s_[tag + 1];
      if (c == '{' || c == '%' || c == '#') break;
    }
    const char sign = SignAt(tag + 2);
    const bool output = s_[tag + 1] == '{';
    Data(Before(at_, tag, sign, output));
    const char kind = s_[tag + 1];
    Advance(tag);
    line_starts_ = false;
    if (kind == '#') {
      Comment(tag + 2);
    } else if (kind == '%' && IsRaw(tag + 2)) {
      Raw();
    } else {
      Add(output ? Kind::kOutputBegin : Kind::kBlockBegin, "");
      Advance(tag + 2 + (sign ? 1 : 0));
      Code(output);
    }
  }

  void Data(std::string_view text) {
    if (!text.empty()) Add(Kind::kData, std::string(text));
  }

  // Behind a closing delimiter that begins at `end`, or at a sign before it: what it swallows.
  size_t AfterClosing(size_t end, bool trims) const {
    const char sign = SignAt(end);
    size_t next = end + (sign ? 3 : 2);
    if (sign == '-') return SkipBlanks(s_, next);
    if (trims && sign != '+' && next < s_.size() && s_[next] == '\n') ++next;
    return next;
  }
  void Close(size_t next) {
    line_starts_ = s_[next - 1] == '\n';
    Advance(next);
  }

  void Comment(size_t begin) {
    size_t end = s_.find("#}", begin);
    if (end == kNotFound) Fail("a comment without end");
    if (end > begin && SignAt(end - 1)) --end;
    Close(AfterClosing(end, true));
  }

  size_t raw_ = 0;  // where its data begins
  bool IsRaw(size_t at) {
    if (SignAt(at)) ++at;
    at = SkipBlanks(s_, at);
    if (s_.substr(at, 3) != "raw") return false;
    at = SkipBlanks(s_, at + 3);
    const bool strips = SignAt(at) == '-';
    if (s_.substr(at + (strips ? 1 : 0), 2) != "%}") return false;
    at += strips ? 3 : 2;
    raw_ = strips ? SkipBlanks(s_, at) : at;
    return true;
  }
  void Raw() {
    line_starts_ = s_[raw_ - 1] == '\n';
    Advance(raw_);
    for (size_t tag = s_.find("{%", at_); tag != kNotFound; tag = s_.find("{%", tag + 2)) {
      const char sign = SignAt(tag + 2);
      size_t end = SkipBlanks(s_, tag + 2 + (sign ? 1 : 0));
      if (s_.substr(end, 6) != "endraw") continue;
      end = SkipBlanks(s_, end + 6);
      if (s_.substr(end + (SignAt(end) ? 1 : 0), 2) != "%}") continue;
      Data(Before(at_, tag, sign, false));
      return Close(AfterClosing(end, true));
    }
    Fail("raw without endraw");
  }

  // Inside {{ }} or {% %}.
  void Code(bool output) {
    const std::string_view close = output ? "}}" : "%}";
    std::string open;  // brackets
    while (true) {
      Advance(SkipBlanks(s_, at_));
      if (at_ >= s_.size()) Fail(output ? "{{ without }}" : "{% without %}");
      const char sign = SignAt(at_);
      const bool signed_close = (sign == '-' || (sign == '+' && !output)) && s_.substr(at_ + 1, 2) == close;
      if ((open.empty() || signed_close) && (At(close) || signed_close)) {
        if (!open.empty()) Fail(fmt::format("'{}' is not closed", open.back()));
        Add(output ? Kind::kOutputEnd : Kind::kBlockEnd, "");
        return Close(AfterClosing(at_, !output));
      }
      const char c = s_[at_];
      if (IsNameStart(c)) {
        size_t end = at_;
        while (end < s_.size() && IsNamePart(s_[end])) ++end;
        Add(Kind::kName, std::string(s_.substr(at_, end - at_)));
        at_ = end;
      } else if (IsDigit(c)) {
        Number();
      } else if (c == '\'' || c == '"') {
        QuotedString(c);
      } else {
        Sign(open);
      }
    }
  }

  void Sign(std::string& open) {
    static constexpr std::string_view kSigns[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<",
                                                  ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ",", ":", ".", "|"};
    for (const std::string_view sign : kSigns) {
      if (!At(sign)) continue;
      const char c = sign.front();
      if (c == '(' || c == '[' || c == '{') open += c;
      if (c == ')' || c == ']' || c == '}') {
        const char opening = c == ')' ? '(' : c == ']' ? '[' : '{';
        if (open.empty() || open.back() != opening) Fail(fmt::format("'{}' without '{}'", c, opening));
        open.pop_back();
      }
      Add(Kind::kSign, std::string(sign));
      at_ += sign.size();
      return;
    }
    size_t next = at_;
    NextChar(s_, next);
    Fail(fmt::format("unexpected '{}'", s_.substr(at_, next - at_)));
  }

  // Digits of `base` with single underscores between them.
  std::string Digits(int base) {
    std::string out;
    const auto is_digit = [&](char c) { return HexDigit(c) >= 0 && HexDigit(c) < base; };
    while (at_ < s_.size()) {
      const size_t skip = s_[at_] == '_' && !out.empty() ? 1 : 0;
      if (at_ + skip >= s_.size() || !is_digit(s_[at_ + skip])) break;
      out += s_[at_ + skip];
      at_ += skip + 1;
    }
    return out;
  }

  void Number() {
    int base = 10;
    if (s_[at_] == '0' && at_ + 2 < s_.size()) {
      const char c = static_cast<char>(s_[at_ + 1] | 0x20);
      base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
    }
    if (base != 10) at_ += 2;
    std::string digits = Digits(base);
    bool is_float = false;
    const bool after_point = !tokens_.empty() && tokens_.back().kind == Kind::kSign && tokens_.back().text == ".";
    if (base == 10 && !after_point) {
      if (at_ + 1 < s_.size() && s_[at_] == '.' && IsDigit(s_[at_ + 1])) {
        ++at_;
        digits.append(".").append(Digits(10));
        is_float = true;
      }
      size_t power = at_;
      if (power < s_.size() && (s_[power] | 0x20) == 'e') {
        ++power;
        if (power < s_.size() && SignAt(power)) ++power;
        if (power < s_.size() && IsDigit(s_[power])) {
          digits += s_.substr(at_, power - at_);
          at_ = power;
          digits += Digits(10);
          is_float = true;
        }
      }
    }
    if (is_float) return Add(Kind::kFloat, std::move(digits));
    if (base == 10 && digits.size() > 1 && digits.front() == '0' && digits.find_first_not_of('0') != kNotFound)
      Fail(fmt::format("an integer that begins with 0: {}", digits.substr(0, 40)));
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || digits.empty())
      Fail(fmt::format("an integer that is too large: {}", digits.substr(0, 40)));
    Add(Kind::kInteger, std::move(digits), value);
  }

  void QuotedString(char quote) {
    std::string out;
    size_t i = at_ + 1;
    while (true) {
      if (i >= s_.size()) Fail("a string without end");
      const char c = s_[i];
      if (c == quote) break;
      if (c != '\\') {
        out += c;
        ++i;
      } else {
        i = Escape(i + 1, out);
      }
    }
    Add(Kind::kString, std::move(out));
    Advance(i + 1);
  }

  // As Python has them; returns where what follows begins.
  size_t Escape(size_t i, std::string& out) {
    if (i >= s_.size()) Fail("a string without end");
    const char c = s_[i];
    constexpr std::string_view kLetters = "\\'\"nrtabfv", kBytes = "\\'\"\n\r\t\a\b\f\v";
    if (const size_t at = kLetters.find(c); at != kNotFound) {
      out += kBytes[at];
      return i + 1;
    }
    if (c == '\n') return i + 1;
    const auto code = [&](size_t begin, size_t digits, int base, bool exact) {
      uint32_t value = 0;
      const char* first = s_.data() + begin;
      const char* last = s_.data() + std::min(begin + digits, s_.size());
      const auto [end, error] = std::from_chars(first, last, value, base);
      const auto n = static_cast<size_t>(end - first);
      if (error != std::errc() || (exact && n != digits) || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        Fail(fmt::format("a wrong escape in a string: \\{}", c));
      AppendChar(out, value);
      return begin + n;
    };
    if (c == 'x') return code(i + 1, 2, 16, true);
    if (c == 'u') return code(i + 1, 4, 16, true);
    if (c == 'U') return code(i + 1, 8, 16, true);
    if (c >= '0' && c <= '7') return code(i, 3, 8, false);
    if (c == 'N') Fail("characters by their names (\\N) are not supported");
    out += '\\';  // as it is
    return i;
  }

  const std::string source_;
  const std::string_view s_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // what was last taken ends a line
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) {
  if (source.size() > kMaxSource)
    throw SourceError{fmt::format("a template of {} bytes: at most {}", source.size(), kMaxSource)};
  if (!IsUtf8(source)) throw SourceError{"a template that is not UTF-8"};
  return Lexer(source).Run();
}

}  // namespace fathom::jinja
