#include "jinja/expression_parser.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace fathom::jinja {
namespace {

constexpr int kMaxExpressionDepth = 120;

std::optional<Operator> ComparisonOf(const Token& t) {
  if (t.kind != Token::Kind::kSign) return std::nullopt;
  static constexpr std::pair<std::string_view, Operator> kSigns[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
  for (const auto& [sign, op] : kSigns) {
    if (t.text == sign) return op;
  }
  return std::nullopt;
}

std::string Shown(const Token& t) {
  switch (t.kind) {
    case Token::Kind::kEnd:
      return "the template's end";
    case Token::Kind::kBlockEnd:
      return "%}";
    case Token::Kind::kOutputEnd:
      return "}}";
    case Token::Kind::kString:
      return fmt::format("the string '{}'", t.text.substr(0, 40));
    default:
      return fmt::format("'{}'", t.text.substr(0, 40));
  }
}

}  // namespace

class ExpressionParser::Deeper {
 public:
  explicit Deeper(ExpressionParser& parser) : depth_(parser.depth_) {
    if (++depth_ > kMaxExpressionDepth) {
      --depth_;
      parser.Fail("an expression that is nested too deeply");
    }
  }
  ~Deeper() { --depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  int& depth_;
};

bool ExpressionParser::TakeName(std::string_view text) {
  if (!IsName(text)) return false;
  Take();
  return true;
}
bool ExpressionParser::TakeSign(std::string_view text) {
  if (!IsSign(text)) return false;
  Take();
  return true;
}
void ExpressionParser::NeedSign(std::string_view text) {
  if (!TakeSign(text)) Unexpected(fmt::format("'{}'", text));
}
std::string ExpressionParser::NeedAnyName(std::string_view what) {
  if (Now().kind != Token::Kind::kName) Unexpected(what);
  return Take().text;
}
void ExpressionParser::Unexpected(std::string_view expected) const {
  Fail(fmt::format("{} where {} is expected", Shown(Now()), expected));
}

int ExpressionParser::Intern(const std::string& name) {
  const auto [it, fresh] = numbers_.emplace(name, static_cast<int>(names_.size()));
  if (fresh) names_.push_back(name);
  return it->second;
}

ExpressionPtr ExpressionParser::Make(Kind kind, int line) const {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->line = line;
  return e;
}

ExpressionPtr ExpressionParser::Finish(ExpressionPtr e) const {
  for (const ExpressionPtr& p : e->parts) {
    if (p) e->depth = std::max(e->depth, p->depth + 1);
  }
  for (const auto& [name, p] : e->named) e->depth = std::max(e->depth, p->depth + 1);
  if (e->depth > kMaxExpressionDepth) Fail("an expression that is nested too deeply");
  return e;
}

ExpressionPtr ExpressionParser::Any(bool with_condition) {
  const Deeper deeper(*this);
  return with_condition ? Condition() : Or();
}

ExpressionPtr ExpressionParser::Condition() {
  ExpressionPtr value = Or();
  while (IsName("if")) {
    ExpressionPtr e = Make(Kind::kCondition, Take().line);
    e->parts.push_back(std::move(value));
    e->parts.push_back(Or());
    e->parts.push_back(TakeName("else") ? Any() : nullptr);
    value = Finish(std::move(e));
  }
  return value;
}

ExpressionPtr ExpressionParser::Or() {
  ExpressionPtr first = And();
  if (!IsName("or")) return first;
  ExpressionPtr e = Make(Kind::kOr, Now().line);
  e->parts.push_back(std::move(first));
  while (TakeName("or")) e->parts.push_back(And());
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::And() {
  ExpressionPtr first = Not();
  if (!IsName("and")) return first;
  ExpressionPtr e = Make(Kind::kAnd, Now().line);
  e->parts.push_back(std::move(first));
  while (TakeName("and")) e->parts.push_back(Not());
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Not() {
  if (!IsName("not")) return Comparison();
  const Deeper deeper(*this);
  ExpressionPtr e = Make(Kind::kNot, Take().line);
  e->parts.push_back(Not());
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Comparison() {
  ExpressionPtr first = Sum();
  ExpressionPtr e;
  while (true) {
    std::optional<Operator> op = ComparisonOf(Now());
    const int line = Now().line;
    if (op) {
      Take();
    } else if (TakeName("in")) {
      op = Operator::kIn;
    } else if (IsName("not") && Ahead().kind == Token::Kind::kName && Ahead().text == "in") {
      Take();
      Take();
      op = Operator::kNotIn;
    } else {
      return e ? Finish(std::move(e)) : std::move(first);
    }
    if (!e) {
      e = Make(Kind::kCompare, line);
      e->parts.push_back(std::move(first));
    }
    e->operators.push_back(*op);
    e->parts.push_back(Sum());
  }
}

ExpressionPtr ExpressionParser::Sum() {
  ExpressionPtr first = Concat();
  if (!IsSign("+") && !IsSign("-")) return first;
  ExpressionPtr e = Make(Kind::kChain, Now().line);
  e->parts.push_back(std::move(first));
  while (IsSign("+") || IsSign("-")) {
    e->operators.push_back(Take().text == "+" ? Operator::kAdd : Operator::kSubtract);
    e->parts.push_back(Concat());
  }
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Concat() {
  ExpressionPtr first = Product();
  if (!IsSign("~")) return first;
  ExpressionPtr e = Make(Kind::kConcat, Now().line);
  e->parts.push_back(std::move(first));
  while (TakeSign("~")) e->parts.push_back(Product());
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Product() {
  ExpressionPtr first = Power();
  const auto op = [&]() -> std::optional<Operator> {
    if (IsSign("*")) return Operator::kMultiply;
    if (IsSign("/")) return Operator::kDivide;
    if (IsSign("//")) return Operator::kFloorDivide;
    if (IsSign("%")) return Operator::kModulo;
    return std::nullopt;
  };
  if (!op()) return first;
  ExpressionPtr e = Make(Kind::kChain, Now().line);
  e->parts.push_back(std::move(first));
  while (const auto now = op()) {
    Take();
    e->operators.push_back(*now);
    e->parts.push_back(Power());
  }
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Power() {
  ExpressionPtr first = Unary(true);
  if (!IsSign("**")) return first;
  ExpressionPtr e = Make(Kind::kChain, Now().line);
  e->parts.push_back(std::move(first));
  while (TakeSign("**")) {
    e->operators.push_back(Operator::kPower);
    e->parts.push_back(Unary(true));
  }
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::Unary(bool with_filters) {
  ExpressionPtr value;
  if (IsSign("-") || IsSign("+")) {
    const Deeper deeper(*this);
    const Token& sign = Take();
    value = Make(sign.text == "-" ? Kind::kNegative : Kind::kPositive, sign.line);
    value->parts.push_back(Unary(false));
    value = Finish(std::move(value));
  } else {
    value = Primary();
  }
  value = Postfix(std::move(value));
  return with_filters ? Filters(std::move(value), false) : std::move(value);
}

ExpressionPtr ExpressionParser::Primary() {
  const Token& t = Now();
  ExpressionPtr e = Make(Kind::kConstant, t.line);
  switch (t.kind) {
    case Token::Kind::kName:
      Take();
      if (t.text == "true" || t.text == "True" || t.text == "false" || t.text == "False") {
        e->value = t.text.front() == 't' || t.text.front() == 'T';
      } else if (t.text != "none" && t.text != "None") {
        e->kind = Kind::kName;
        e->text = t.text;
        e->name = Intern(t.text);
      }
      return e;
    case Token::Kind::kString: {
      std::string text = Take().text;
      while (Now().kind == Token::Kind::kString) text += Take().text;
      e->value = std::move(text);
      return e;
    }
    case Token::Kind::kInteger:
      e->value = Take().integer;
      return e;
    case Token::Kind::kFloat:
      e->value = std::strtod(Take().text.c_str(), nullptr);
      return e;
    default:
      break;
  }
  if (TakeSign("(")) {
    const Deeper deeper(*this);
    e = MaybeTuple(true, "", true);
    NeedSign(")");
    return e;
  }
  if (TakeSign("[")) {
    e->kind = Kind::kList;
    while (!IsSign("]")) {
      if (!e->parts.empty()) NeedSign(",");
      if (IsSign("]")) break;
      e->parts.push_back(Any());
    }
    NeedSign("]");
    return Finish(std::move(e));
  }
  if (IsSign("{")) return Dictionary();
  Unexpected("an expression");
}

ExpressionPtr ExpressionParser::Dictionary() {
  ExpressionPtr e = Make(Kind::kDict, Take().line);
  while (!IsSign("}")) {
    if (!e->parts.empty()) NeedSign(",");
    if (IsSign("}")) break;
    e->parts.push_back(Any());
    NeedSign(":");
    e->parts.push_back(Any());
  }
  NeedSign("}");
  return Finish(std::move(e));
}

bool ExpressionParser::AtTupleEnd(std::string_view end) const {
  return Now().kind == Token::Kind::kOutputEnd || Now().kind == Token::Kind::kBlockEnd || IsSign(")") ||
         (!end.empty() && IsName(end));
}

ExpressionPtr ExpressionParser::MaybeTuple(bool with_condition, std::string_view end, bool parentheses) {
  ExpressionPtr e = Make(Kind::kTuple, Now().line);
  bool tuple = false;
  while (true) {
    if (!e->parts.empty()) NeedSign(",");
    if (AtTupleEnd(end)) break;
    e->parts.push_back(Any(with_condition));
    if (!IsSign(",")) break;
    tuple = true;
  }
  if (tuple) return Finish(std::move(e));
  if (!e->parts.empty()) return std::move(e->parts.front());
  if (!parentheses) Unexpected("an expression");
  return e;
}

ExpressionPtr ExpressionParser::Postfix(ExpressionPtr value) {
  while (true) {
    if (IsSign(".") || IsSign("[")) {
      value = Subscript(std::move(value));
    } else if (IsSign("(")) {
      ExpressionPtr e = Make(Kind::kCall, Now().line);
      e->parts.push_back(std::move(value));
      CallArguments(*e);
      value = Finish(std::move(e));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::Subscript(ExpressionPtr value) {
  const Token& sign = Take();
  ExpressionPtr e = Make(Kind::kItem, sign.line);
  e->parts.push_back(std::move(value));
  if (sign.text == ".") {
    const Token& t = Take();
    if (t.kind == Token::Kind::kName) {
      e->kind = Kind::kAttribute;
      e->text = t.text;
    } else if (t.kind == Token::Kind::kInteger) {
      e->parts.push_back(Make(Kind::kConstant, t.line));
      e->parts.back()->value = t.integer;
    } else {
      Fail("a name or a number is expected behind '.'");
    }
    return Finish(std::move(e));
  }
  const auto at_end = [&] { return IsSign("]") || IsSign(":"); };
  if (!IsSign(":")) {
    e->parts.push_back(Any());
    if (!IsSign(":")) {
      if (IsSign(",")) Fail("several subscripts are not supported");
      NeedSign("]");
      return Finish(std::move(e));
    }
  } else {
    e->parts.push_back(nullptr);
  }
  e->kind = Kind::kSlice;
  NeedSign(":");
  e->parts.push_back(at_end() ? nullptr : Any());
  e->parts.push_back(TakeSign(":") && !IsSign("]") ? Any() : nullptr);
  NeedSign("]");
  return Finish(std::move(e));
}

void ExpressionParser::CallArguments(Expression& call) {
  NeedSign("(");
  bool first = true;
  while (!IsSign(")")) {
    if (!std::exchange(first, false)) NeedSign(",");
    if (IsSign(")")) break;
    if (IsSign("*") || IsSign("**")) Fail("arguments from a list or a dictionary (*, **) are not supported");
    if (Now().kind == Token::Kind::kName && Ahead().kind == Token::Kind::kSign && Ahead().text == "=") {
      std::string name = Take().text;
      Take();
      call.named.emplace_back(std::move(name), Any());
    } else {
      if (!call.named.empty()) Fail("an argument without name behind one with a name");
      call.parts.push_back(Any());
    }
  }
  NeedSign(")");
}

ExpressionPtr ExpressionParser::Filters(ExpressionPtr value, bool only_filters) {
  while (true) {
    if (IsSign("|")) {
      Take();
      value = OneFilter(std::move(value));
    } else if (!only_filters && IsName("is")) {
      value = OneTest(std::move(value));
    } else if (!only_filters && IsSign("(")) {
      value = Postfix(std::move(value));
    } else {
      return value;
    }
  }
}

std::string ExpressionParser::DottedName(std::string_view what) {
  std::string name = NeedAnyName(what);
  while (TakeSign(".")) name.append(".").append(NeedAnyName(what));
  return name;
}

ExpressionPtr ExpressionParser::OneFilter(ExpressionPtr value) {
  ExpressionPtr e = Make(Kind::kFilter, Now().line);
  e->text = DottedName("a filter");
  if (!HasFilter(e->text)) Fail(fmt::format("no filter named '{}'", e->text));
  e->parts.push_back(std::move(value));
  if (IsSign("(")) CallArguments(*e);
  return Finish(std::move(e));
}

ExpressionPtr ExpressionParser::FirstFilter() { return Filters(OneFilter(nullptr), true); }

ExpressionPtr ExpressionParser::OneTest(ExpressionPtr value) {
  ExpressionPtr e = Make(Kind::kTest, Take().line);
  const bool negated = TakeName("not");
  e->text = DottedName("a test");
  if (!HasTest(e->text)) Fail(fmt::format("no test named '{}'", e->text));
  e->parts.push_back(std::move(value));
  const Token& t = Now();
  if (IsName("is")) Fail("a test behind a test");
  const bool reserved = t.text == "else" || t.text == "or" || t.text == "and";
  if (IsSign("(")) {
    CallArguments(*e);
  } else if (t.kind == Token::Kind::kString || t.kind == Token::Kind::kInteger || t.kind == Token::Kind::kFloat ||
             IsSign("[") || IsSign("{") || (t.kind == Token::Kind::kName && !reserved)) {
    // One argument without parentheses.
    const Deeper deeper(*this);
    e->parts.push_back(Postfix(Primary()));
  }
  e = Finish(std::move(e));
  if (!negated) return e;
  ExpressionPtr negation = Make(Kind::kNot, e->line);
  negation->parts.push_back(std::move(e));
  return Finish(std::move(negation));
}

}  // namespace fathom::jinja
