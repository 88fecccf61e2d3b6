// The expressions of a template; Parser (parser.cpp) adds the statements.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "jinja/ast.h"
#include "jinja/lexer.h"

namespace fathom::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  using Kind = Expression::Kind;

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& Take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool IsName(std::string_view text) const { return Now().kind == Token::Kind::kName && Now().text == text; }
  bool IsSign(std::string_view text) const { return Now().kind == Token::Kind::kSign && Now().text == text; }
  bool TakeName(std::string_view text);
  bool TakeSign(std::string_view text);
  void NeedSign(std::string_view text);
  std::string NeedAnyName(std::string_view what);
  [[noreturn]] void Fail(const std::string& what) const { throw SourceError{what, Now().line}; }
  [[noreturn]] void Unexpected(std::string_view expected) const;
  int Intern(const std::string& name);

  ExpressionPtr Any(bool with_condition = true);  // parse_expression
  // Several with commas between are a tuple; `end` is a name that ends it.
  ExpressionPtr MaybeTuple(bool with_condition, std::string_view end = "", bool parentheses = false);
  ExpressionPtr Filters(ExpressionPtr value, bool only_filters);
  ExpressionPtr FirstFilter();  // of a filter block, then others behind |

  ExpressionPtr Make(Kind kind, int line) const;
  ExpressionPtr Finish(ExpressionPtr e) const;  // its depth

  std::vector<std::string> names_;

 private:
  class Deeper;
  ExpressionPtr Condition();
  ExpressionPtr Or();
  ExpressionPtr And();
  ExpressionPtr Not();
  ExpressionPtr Comparison();
  ExpressionPtr Sum();
  ExpressionPtr Concat();
  ExpressionPtr Product();
  ExpressionPtr Power();
  ExpressionPtr Unary(bool with_filters);
  ExpressionPtr Primary();
  ExpressionPtr Dictionary();
  ExpressionPtr Postfix(ExpressionPtr value);
  ExpressionPtr Subscript(ExpressionPtr value);
  ExpressionPtr OneFilter(ExpressionPtr value);
  ExpressionPtr OneTest(ExpressionPtr value);
  void CallArguments(Expression& call);
  bool AtTupleEnd(std::string_view end) const;
  std::string DottedName(std::string_view what);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  std::unordered_map<std::string, int> numbers_;
};

// The names that filters.cpp and predicates.cpp know.
bool HasFilter(std::string_view name);
bool HasTest(std::string_view name);

}  // namespace fathom::jinja
