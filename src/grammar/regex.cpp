#include "grammar/regex.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/utf8.h"
#include "grammar/text_cursor.h"
#include "grammar/utf8_machine.h"

namespace fathom::grammar {
namespace {

constexpr int kMaxRegexDepth = 200;
constexpr int64_t kMaxRegexRepeat = 100'000;

constexpr std::string_view kTakenHint = "docs/structured-output.md lists what is taken";

class RegexParser : private TextCursor {
 public:
  explicit RegexParser(std::string_view text) : TextCursor(text) {}

  Node Parse() {
    Node node = Alternatives(0);
    if (!AtEnd()) Fail("a closing parenthesis without its opening one", "\\) for the character");
    return node;
  }

 private:
  [[noreturn]] void Fail(const std::string& what, const std::string& expected = "") const {
    throw Error("regular expression: " + what, fmt::format("at byte {} of \"{}\"", at_, Shown()), expected,
                std::string(kTakenHint));
  }
  [[noreturn]] void Refuse(const std::string& what) const { Fail(what + " is not supported", "a regular expression"); }
  // The expression, or the part of it around the place.
  std::string Shown() const {
    constexpr size_t kMost = 60;
    if (text_.size() <= kMost) return std::string(text_);
    const size_t begin = at_ > kMost / 2 ? at_ - kMost / 2 : 0;
    return Utf8Lossy(text_.substr(begin, kMost));
  }

  Node Alternatives(int depth) {
    if (depth > kMaxRegexDepth) Fail("groups are nested too deeply", fmt::format("at most {} levels", kMaxRegexDepth));
    std::vector<Node> choices;
    do {
      std::vector<Node> items;
      while (!AtEnd() && Peek() != '|' && Peek() != ')') items.push_back(Quantified(depth));
      choices.push_back(Node::Sequence(std::move(items)));
    } while (Take("|"));
    return Node::Choice(std::move(choices));
  }

  Node Quantified(int depth) {
    Node item = Atom(depth);
    bool quantified = false;
    while (!AtEnd()) {
      int64_t least = 0, most = Node::kUnbounded;
      if (Take("*")) {
      } else if (Take("+")) {
        least = 1;
      } else if (Take("?")) {
        most = 1;
      } else if (!TakeBraces(&least, &most)) {
        return item;
      }
      if (quantified) Fail("a quantifier behind a quantifier", "a group around what is repeated twice");
      quantified = true;
      if (Peek() == '+') Refuse("a possessive quantifier");
      Take("?");
      item = Node::Repeat(std::move(item), least, most);
    }
    return item;
  }

  // {m} {m,} {m,n} {,n}; braces of another form are characters.
  bool TakeBraces(int64_t* least, int64_t* most) {
    const size_t start = at_;
    if (!Take("{")) return false;
    const std::optional<int64_t> m = TakeNumber(kMaxRegexRepeat);
    std::optional<int64_t> n = m;
    bool comma = false;
    if (Take(",")) {
      comma = true;
      n = TakeNumber(kMaxRegexRepeat);
    }
    if (!Take("}") || (!m && !n)) {
      at_ = start;
      return false;
    }
    *least = m.value_or(0);
    *most = comma ? n.value_or(Node::kUnbounded) : *least;
    if (*least > kMaxRegexRepeat || *most > kMaxRegexRepeat) {
      Fail("a repetition too large", fmt::format("at most {}", kMaxRegexRepeat));
    }
    if (*most != Node::kUnbounded && *most < *least) Fail("a repetition whose bounds are in the wrong order");
    return true;
  }

  Node Atom(int depth) {
    switch (Peek()) {
      case '(':
        return Group(depth);
      case '[':
        return Node::Set(Class());
      case '.':
        ++at_;
        return Node::Set(DotChars());
      case '^':
        ++at_;
        return {.kind = Node::Kind::kBegin};
      case '$':
        ++at_;
        return {.kind = Node::Kind::kEnd};
      case '*':
      case '+':
      case '?':
        Fail("a quantifier with nothing before it", "what is to be repeated");
      case '\\':
        return Escape();
      default:
        if (size_t start = at_; Peek() == '{') {
          int64_t m, n;
          if (TakeBraces(&m, &n)) {
            at_ = start;
            Fail("a quantifier with nothing before it", "what is to be repeated");
          }
        }
        const uint32_t c = TakeChar();
        return Node::Set(Normalised({{c, c}}));
    }
  }

  Node Group(int depth) {
    Take("(");
    if (Peek() == '*') Refuse("a verb (*...)");
    if (Take("?")) {
      if (Peek() == '=' || Peek() == '!') Refuse("look-ahead");
      if (Peek() == '<' && (Peek(1) == '=' || Peek(1) == '!')) Refuse("look-behind");
      if (Peek() == '>') Refuse("an atomic group");
      if (Take("P=") || Take("P>")) Refuse("a reference to a group");
      if (Take("#")) Refuse("a comment");
      if (Take("P<") || Take("<")) {
        const size_t end = text_.find('>', at_);
        if (end == std::string_view::npos || end == at_) Fail("a group's name without its end", "(?<name>...)");
        at_ = end + 1;
      } else if (!Take(":")) {
        Refuse("a group (? of this kind (flags, conditions)");
      }
    }
    Node node = Alternatives(depth + 1);
    if (!Take(")")) Fail("a parenthesis is not closed", ")");
    return node;
  }

  Node Escape() {
    if (const auto set = SetEscape()) return Node::Set(*set);
    const char c = Peek(1);
    if (c == 'b' || c == 'B') Refuse(fmt::format("a word boundary \\{}", c));
    if (c >= '1' && c <= '9') Refuse(fmt::format("a back-reference \\{}", c));
    if (c == 'k') Refuse("a back-reference \\k");
    if (Take("\\A")) return {.kind = Node::Kind::kBegin};
    if (Take("\\z") || Take("\\Z")) return {.kind = Node::Kind::kEnd};
    const uint32_t value = CharEscape();
    return Node::Set(Normalised({{value, value}}));
  }

  // \d and its like, if one stands here.
  std::optional<CharSet> SetEscape() {
    const char c = Peek(1);
    const auto take = [&](const CharSet& set, bool all) {
      at_ += 2;
      return all ? set : Complement(set);
    };
    if (c == 'd' || c == 'D') return take(DigitChars(), c == 'd');
    if (c == 'w' || c == 'W') return take(WordChars(), c == 'w');
    if (c == 's' || c == 'S') return take(SpaceChars(), c == 's');
    if (c != 'p' && c != 'P') return std::nullopt;
    at_ += 2;
    std::string_view name = text_.substr(at_, 1);
    if (Take("{")) {
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos) Fail("a class \\p{...} is not closed", "}");
      name = text_.substr(at_, end - at_);
      at_ = end + 1;
    } else {
      at_ += name.size();
    }
    for (std::string_view prefix : {"General_Category=", "gc="}) {
      if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
    }
    const std::optional<CharSet> set = UnicodeClass(name);
    if (!set) Refuse(fmt::format("the class \\p{{{}}} (L, M, P, S, N and Any are)", Utf8Lossy(name.substr(0, 40))));
    return c == 'p' ? *set : Complement(*set);
  }

  uint32_t CharEscape() {
    Take("\\");
    if (AtEnd()) Fail("a backslash at the end", "what it escapes");
    const uint32_t c = TakeChar();
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case '0':
        if (Peek() >= '0' && Peek() <= '9') Refuse("an octal escape");
        return 0;
      case 'x':
        return Hex(2);
      case 'c': {
        const char letter = Peek();
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) Fail("\\c without a letter");
        ++at_;
        return static_cast<uint32_t>(letter) % 32;
      }
      case 'u': {
        if (Take("{")) {
          const uint32_t value = Hex(0);
          if (!Take("}")) Fail("\\u{...} is not closed", "}");
          return value;
        }
        const uint32_t high = Hex(4);
        if (high < 0xD800 || high > 0xDBFF || Peek() != '\\' || Peek(1) != 'u') return high;
        const size_t start = at_;
        at_ += 2;
        const uint32_t low = Hex(4);
        if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        at_ = start;
        return high;
      }
      default:
        if (c < 0x80 && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
          Refuse(fmt::format("the escape \\{}", static_cast<char>(c)));
        }
        return c;
    }
  }
  // So many hexadecimal digits; 0: as many as stand there.
  uint32_t Hex(int digits) {
    uint32_t value = 0;
    int n = 0;
    for (; digits == 0 || n < digits; ++n, ++at_) {
      const int digit = HexDigit(Peek());
      if (digit < 0) break;
      value = value * 16 + static_cast<uint32_t>(digit);
      if (value > kMaxChar) Fail("a character above 10FFFF");
    }
    if (n == 0 || n < digits) Fail("hexadecimal digits are missing");
    return value;
  }

  CharSet Class() {
    Take("[");
    const bool inverted = Take("^");
    std::vector<CharRange> ranges;
    const auto add = [&](const CharSet& set) { ranges.insert(ranges.end(), set.begin(), set.end()); };
    while (!Take("]")) {
      if (AtEnd()) Fail("a class [...] is not closed", "]");
      if (Peek() == '[' && Peek(1) == ':' && text_.find(":]", at_ + 2) != std::string_view::npos) {
        Refuse("a POSIX class [:name:]");
      }
      if (Peek() == '\\') {
        if (const auto set = SetEscape()) {
          if (Peek() == '-' && Peek(1) != ']') Fail("a class as the beginning of a range");
          add(*set);
          continue;
        }
      }
      const uint32_t first = ClassChar();
      uint32_t last = first;
      if (Peek() == '-' && Peek(1) != ']' && at_ + 1 < text_.size()) {
        ++at_;
        if (Peek() == '\\' && SetEscape()) Fail("a class as the end of a range");
        last = ClassChar();
        if (last < first) Fail("a range in the wrong order");
      }
      ranges.push_back({first, last});
    }
    const CharSet set = Normalised(std::move(ranges));
    return inverted ? Complement(set) : set;
  }
  uint32_t ClassChar() {
    if (Peek() != '\\') return TakeChar();
    if (Take("\\b")) return '\b';
    if (Take("\\-")) return '-';
    return CharEscape();
  }
};

}  // namespace

Result<Node> ParseRegex(std::string_view expression) {
  return ParseText<RegexParser>(expression, "regular expression", kMaxRegexBytes);
}

Result<std::unique_ptr<CharMachine>> RegexOverChars(std::string_view expression, RegexScope scope) {
  Result<Node> node = ParseRegex(expression);
  if (!node.ok()) return node.error();
  Node body = std::move(node).Value();
  if (scope == RegexScope::kSearch) {
    const auto anything = [] { return Node::Repeat(Node::Set(AllChars()), 0, Node::kUnbounded); };
    std::vector<Node> parts;
    parts.push_back(anything());
    parts.push_back(std::move(body));
    parts.push_back(anything());
    body = Node::Sequence(std::move(parts));
  }
  Rules rules;
  rules.rules.push_back({"", std::move(body)});
  return MakeCharMachine(rules, "regular expression");
}

Result<std::unique_ptr<Machine>> CompileRegex(std::string_view expression, RegexScope scope) {
  Result<std::unique_ptr<CharMachine>> chars = RegexOverChars(expression, scope);
  if (!chars.ok()) return chars.error();
  return std::unique_ptr<Machine>(std::make_unique<Utf8Machine>(std::move(chars).Value()));
}

}  // namespace fathom::grammar
