// A parsed template. Names are numbers (Program::names); how deep expressions and statements nest is bounded by the
// parser.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace fathom::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

struct Expression {
  enum class Kind : uint8_t {
    kConstant,   // value
    kName,       // name
    kList,       // parts
    kTuple,      // parts
    kDict,       // parts: key, value, key, ...
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]]; nullptr where left out
    kCall,       // parts[0](parts[1], ..., named)
    kFilter,     // parts[0] | text(parts[1], ..., named); parts[0] is nullptr: what a block has written
    kTest,       // parts[0] is text(parts[1], ..., named)
    kChain,      // parts[0] operators[0] parts[1] operators[1] ..., from the left
    kConcat,     // parts[0] ~ parts[1] ~ ...
    kCompare,    // parts[0] operators[0] parts[1] and parts[1] operators[1] ...
    kNot,
    kNegative,
    kPositive,
    kAnd,
    kOr,
    kCondition  // parts[0] if parts[1] else parts[2]; nullptr without else
  };
  Kind kind;
  int line = 1;
  int depth = 1;
  int name = -1;
  std::string text = {};
  Value value = {};
  std::vector<ExpressionPtr> parts = {};
  std::vector<Operator> operators = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
};

// What a value is given to: names, attributes of namespaces, or several of them.
struct Target {
  int name = -1;
  std::string attribute = {};  // empty: the name itself
  std::vector<Target> parts = {};
};

struct Statement;
using Statements = std::vector<Statement>;

struct MacroCode {
  std::string name;
  std::vector<int> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Statements body;
};

struct Statement {
  enum class Kind : uint8_t {
    kText,       // text
    kOutput,     // expression
    kIf,         // expressions[i] -> bodies[i]; one more body: else
    kFor,        // target, expression, expressions[0]: filter or nothing; bodies[0], bodies[1]: else
    kSet,        // target, expression
    kSetBlock,   // target, bodies[0]; expression: filters or nothing
    kFilter,     // expression: filters; bodies[0]
    kWith,       // targets, expressions; bodies[0]
    kMacro,      // macro
    kCallBlock,  // expression: the call; macro: its caller
    kScope,      // bodies[0]
    kBreak,
    kContinue
  };
  Kind kind;
  int line = 1;
  std::string text = {};
  Target target = {};
  std::vector<Target> targets = {};
  ExpressionPtr expression = {};
  std::vector<ExpressionPtr> expressions = {};
  std::vector<Statements> bodies = {};
  std::shared_ptr<const MacroCode> macro = {};
};

struct Program {
  std::vector<std::string> names;
  Statements body;
};

}  // namespace fathom::jinja
