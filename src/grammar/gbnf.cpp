#include "grammar/gbnf.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/utf8.h"
#include "grammar/left_recursion.h"
#include "grammar/text_cursor.h"
#include "grammar/utf8_machine.h"

namespace fathom::grammar {
namespace {

constexpr int kMaxGbnfDepth = 200;
constexpr int64_t kMaxGbnfRepeat = 100'000;
constexpr size_t kMaxRules = 20'000;
constexpr std::string_view kRoot = "root";

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser : private TextCursor {
 public:
  explicit GbnfParser(std::string_view text) : TextCursor(text) {}

  GbnfGrammar Parse() {
    RuleOf(kRoot);
    SkipSpace(true);
    while (!AtEnd()) ParseRule();
    if (!defined_[0]) Fail("there is no rule named root", "root ::= ...");
    for (size_t r = 0; r < defined_.size(); ++r) {
      if (defined_[r]) continue;
      at_ = first_use_[r];
      Fail(fmt::format("the rule {} is not defined", rules_.rules[r].name),
           fmt::format("{} ::= ...", rules_.rules[r].name));
    }
    GbnfGrammar grammar{.rules = std::move(rules_), .unreachable = {}};
    grammar.unreachable = Unreachable(grammar.rules);
    return grammar;
  }

 private:
  [[noreturn]] void Fail(const std::string& what, const std::string& expected = "") const {
    const size_t at = std::min(at_, text_.size());
    const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    const std::string shown = Utf8Lossy(text_.substr(at, 40));
    throw Error("grammar: " + what,
                shown.empty() ? fmt::format("line {}, at the end", line) : fmt::format("line {}: {}", line, shown),
                expected, "docs/structured-output.md has the syntax");
  }

  void SkipSpace(bool lines) {
    while (!AtEnd()) {
      const char c = Peek();
      if (c == '#') {
        while (!AtEnd() && Peek() != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }
  std::string_view Name() {
    const size_t begin = at_;
    while (IsNameChar(Peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  // Whether `name ::=` stands here.
  bool AtRule() {
    const size_t start = at_;
    const bool named = !Name().empty();
    SkipSpace(true);
    const bool is = named && Peek() == ':' && Peek(1) == ':' && Peek(2) == '=';
    at_ = start;
    return is;
  }
  int32_t RuleOf(std::string_view name) {
    const auto [at, fresh] = ids_.try_emplace(std::string(name), static_cast<int32_t>(ids_.size()));
    if (fresh) {
      if (ids_.size() > kMaxRules) Fail("too many rules", fmt::format("at most {}", kMaxRules));
      rules_.rules.push_back({std::string(name), {}});
      defined_.push_back(false);
      first_use_.push_back(at_);
    }
    return at->second;
  }

  void ParseRule() {
    const size_t start = at_;
    const std::string_view name = Name();
    if (name.empty()) Fail("a rule is expected", "name ::= ...");
    SkipSpace(true);
    if (!Take("::=")) {
      if (Peek() == ':' || Peek() == '=') Fail("rules are written with ::=", "GBNF: name ::= ... (not Lark)");
      at_ = start;
      Fail("a rule is expected", "name ::= ...");
    }
    const auto rule = static_cast<size_t>(RuleOf(name));
    if (defined_[rule]) {
      at_ = start;
      Fail(fmt::format("the rule {} is defined twice", name), "one definition, alternatives with |");
    }
    defined_[rule] = true;
    rules_.rules[rule].body = Alternatives(0);
    if (!AtEnd() && !AtRule()) Fail("a rule's end, or one of its elements, is expected");
  }

  Node Alternatives(int depth) {
    if (depth > kMaxGbnfDepth) Fail("groups are nested too deeply", fmt::format("at most {} levels", kMaxGbnfDepth));
    std::vector<Node> choices;
    do {
      SkipSpace(true);
      std::vector<Node> elements;
      while (AtElement()) {
        elements.push_back(Quantified(depth));
        SkipSpace(true);
      }
      choices.push_back(Node::Sequence(std::move(elements)));
    } while (Take("|"));
    return Node::Choice(std::move(choices));
  }
  bool AtElement() {
    const char c = Peek();
    if (c == '<' || c == '!') Fail("token elements <...> are not supported", "texts");
    if (c == '/') Fail("expressions /.../ are not supported in a grammar", "GBNF: [a-z]+ and the like");
    if (c == '(' && Peek(1) == '=') Fail("look-ahead (=...) is not supported", "a group (...)");
    return c == '"' || c == '\'' || c == '[' || c == '.' || c == '(' || (IsNameChar(c) && !AtRule());
  }

  Node Quantified(int depth) {
    Node element = Element(depth);
    for (int times = 0;; ++times) {
      // A quantifier may stand behind spaces, as llama.cpp reads it.
      const size_t start = at_;
      SkipSpace(false);
      int64_t least = 0, most = Node::kUnbounded;
      if (Take("*")) {
      } else if (Take("+")) {
        least = 1;
      } else if (Take("?")) {
        most = 1;
      } else if (Peek() == '{') {
        Braces(&least, &most);
      } else {
        at_ = start;
        return element;
      }
      if (times >= 2) Fail("too many quantifiers behind each other");
      element = Node::Repeat(std::move(element), least, most);
    }
  }
  void Braces(int64_t* least, int64_t* most) {
    Take("{");
    const auto number = [&](int64_t none) {
      SkipSpace(false);
      const int64_t n = TakeNumber(kMaxGbnfRepeat).value_or(none);
      SkipSpace(false);
      return n;
    };
    *least = number(-1);
    const bool bounds = Take(",");
    *most = bounds ? number(Node::kUnbounded) : *least;
    if (!Take("}") || (*least < 0 && *most < 0)) Fail("a count is not complete", "{m}, {m,}, {m,n} or {,n}");
    *least = std::max<int64_t>(*least, 0);
    if (*least > kMaxGbnfRepeat || *most > kMaxGbnfRepeat) {
      Fail("a repetition too large", fmt::format("at most {}", kMaxGbnfRepeat));
    }
    if (*most != Node::kUnbounded && *most < *least) Fail("a repetition whose bounds are in the wrong order");
  }

  Node Element(int depth) {
    const char c = Peek();
    if (c == '"' || c == '\'') return Literal(c);
    if (c == '[') return Node::Set(Class());
    if (Take(".")) return Node::Set(AllChars());
    if (Take("(")) {
      Node node = Alternatives(depth + 1);
      if (!Take(")")) Fail("a parenthesis is not closed", ")");
      return node;
    }
    const size_t start = at_;
    const std::string_view name = Name();
    at_ = start;  // where an undefined one is shown
    const int32_t rule = RuleOf(name);
    at_ = start + name.size();
    return Node::Rule(rule);
  }

  Node Literal(char quote) {
    ++at_;
    std::vector<Node> chars;
    while (Peek() != quote || AtEnd()) {
      if (AtEnd()) Fail("a text is not closed", std::string(1, quote));
      const uint32_t c = Char();
      chars.push_back(Node::Set(Normalised({{c, c}})));
    }
    ++at_;
    return Node::Sequence(std::move(chars));
  }

  CharSet Class() {
    Take("[");
    const bool inverted = Take("^");
    std::vector<CharRange> ranges;
    while (!Take("]")) {
      if (AtEnd()) Fail("a class [...] is not closed", "]");
      const uint32_t first = Char();
      uint32_t last = first;
      if (Peek() == '-' && Peek(1) != ']') {
        ++at_;
        if (AtEnd()) Fail("a class [...] is not closed", "]");
        last = Char();
        if (last < first) Fail("a range in the wrong order");
      }
      ranges.push_back({first, last});
    }
    const CharSet set = Normalised(std::move(ranges));
    return inverted ? Complement(set) : set;
  }

  uint32_t Char() {
    if (Peek() != '\\') return TakeChar();
    ++at_;
    const char c = Peek();
    ++at_;
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return HexDigits(2);
      case 'u':
        return HexDigits(4);
      case 'U':
        return HexDigits(8);
      case '\\':
      case '"':
      case '\'':
      case '[':
      case ']':
      case '-':
      case '^':
      case '/':
        return static_cast<uint32_t>(c);
      default:
        --at_;
        Fail("an escape that is not known", R"(\n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH)");
    }
  }
  uint32_t HexDigits(int digits) {
    uint64_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int digit = HexDigit(Peek());
      if (digit < 0) Fail("hexadecimal digits are missing", fmt::format("{} of them", digits));
      value = value * 16 + static_cast<uint64_t>(digit);
    }
    if (value > kMaxChar) Fail("a character above 10FFFF");
    return static_cast<uint32_t>(value);
  }

  static std::vector<std::string> Unreachable(const Rules& rules) {
    std::vector<bool> seen(rules.rules.size(), false);
    std::vector<int32_t> open{0};
    seen[0] = true;
    const auto visit = [&](const auto& self, const Node& node) -> void {
      if (node.kind == Node::Kind::kRule && !seen[static_cast<size_t>(node.rule)]) {
        seen[static_cast<size_t>(node.rule)] = true;
        open.push_back(node.rule);
      }
      for (const Node& child : node.children) self(self, child);
    };
    while (!open.empty()) {
      const int32_t rule = open.back();
      open.pop_back();
      visit(visit, rules.rules[static_cast<size_t>(rule)].body);
    }
    std::vector<std::string> names;
    for (size_t r = 0; r < seen.size(); ++r) {
      if (!seen[r]) names.push_back(rules.rules[r].name);
    }
    return names;
  }

  Rules rules_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<bool> defined_;
  std::vector<size_t> first_use_;
};

Result<std::unique_ptr<Machine>> CompileRules(Rules rules) {
  RewriteLeftRecursion(rules);
  if (const auto cycle = FindLeftRecursion(rules)) {
    return Error("grammar: left recursion through other rules, or behind what may be empty", *cycle,
                 "rules that begin with a character before they come back to themselves",
                 "write a ::= b (\"+\" b)* instead of a ::= b, b ::= a \"+\" b | ...");
  }
  Result<std::unique_ptr<CharMachine>> chars = MakeCharMachine(rules, "grammar");
  if (!chars.ok()) return chars.error();
  auto machine = std::make_unique<Utf8Machine>(std::move(chars).Value());
  if (machine->Start() == Machine::kDead) {
    return Error("grammar: no text matches it", "", "a root whose rules can end", "a rule that always needs itself?");
  }
  return std::unique_ptr<Machine>(std::move(machine));
}

}  // namespace

Result<GbnfGrammar> ParseGbnf(std::string_view text) {
  return ParseText<GbnfParser>(text, "grammar", kMaxGrammarBytes);
}

Result<std::unique_ptr<Machine>> CompileGbnf(std::string_view text) {
  Result<GbnfGrammar> grammar = ParseGbnf(text);
  if (!grammar.ok()) return grammar.error();
  return CompileRules(std::move(grammar).Value().rules);
}

Result<std::unique_ptr<Machine>> CompileChoice(const std::vector<std::string>& texts) {
  if (texts.empty()) return Error("choice: no texts", "an empty list", "at least one");
  std::vector<Node> choices;
  for (const std::string& text : texts) {
    if (!IsUtf8(text)) return Error("choice: not valid UTF-8");
    choices.push_back(Node::Literal(text));
  }
  Rules rules;
  rules.rules.push_back({std::string(kRoot), Node::Choice(std::move(choices))});
  return CompileRules(std::move(rules));
}

}  // namespace fathom::grammar
