// Runs a program. Everything that a template can make large or long is counted: steps (work), bytes (strings and lists
// made, output), depth (calls and expressions within each other); Failure where a limit is met.
#pragma once

#include <deque>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/ast.h"
#include "jinja/template.h"
#include "jinja/value.h"

namespace fathom::jinja {

// Arguments by the names of a function's parameters; Failure if there are others or too many.
class Bound {
 public:
  Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters);
  bool Has(size_t i) const { return values_[i] != nullptr; }
  const Value& Need(size_t i) const;
  const Value& Or(size_t i, const Value& otherwise) const { return Has(i) ? *values_[i] : otherwise; }
  bool Truth(size_t i) const { return Has(i) && values_[i]->Truth(); }
  int64_t Integer(size_t i, int64_t otherwise) const;

 private:
  std::string function_;
  std::vector<std::string_view> parameters_;
  std::vector<const Value*> values_;
};

struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> variables = {};
  bool captured = false;  // a macro was made here: it lives as long as the interpreter
};

class Interpreter {
 public:
  Interpreter(const Program& program, const Limits& limits, std::time_t now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void SetGlobal(std::string_view name, Value value);
  // Throws Failure; line() says where.
  std::string Run();
  int line() const { return line_; }
  std::time_t now() const { return now_; }

  void Spend(int64_t steps);
  void SpendBytes(int64_t bytes);
  void SpendSearch(size_t text, size_t wanted);  // for looking for a string in another
  // str() of a value, paid for.
  std::string Text(const Value& value);
  Value NewString(std::string text);
  Value NewList(std::vector<Value> items, Form form = Form::kList);
  // The elements that iteration gives; a generator's are gone then.
  std::vector<Value> Elements(const Value& value);
  Value Item(const Value& object, const Value& key);
  Value Attribute(const Value& object, std::string_view name);
  Value Call(const Value& function, const Arguments& arguments);
  bool Contains(const Value& container, const Value& value);
  Value NewNamespace(std::vector<std::pair<std::string, Value>> members);
  Value CallMacro(const MacroCode& macro, Scope* scope, const Arguments& arguments);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class Deeper {
   public:
    explicit Deeper(Interpreter& in);  // Failure if it is too deep
    ~Deeper() { --in_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Interpreter& in_;
  };
  class Capture;
  class Inner;

  Flow Execute(const Statements& statements, Scope& scope);
  Flow Execute(const Statement& s, Scope& scope);
  Flow ExecuteCaptured(const Statements& statements, Scope& scope, Value& text);
  Flow ExecuteIf(const Statement& s, Scope& scope);
  Flow ExecuteFor(const Statement& s, Scope& scope);
  void ExecuteWith(const Statement& s, Scope& scope);
  void ExecuteCallBlock(const Statement& s, Scope& scope);
  void Write(std::string_view text);
  void Assign(const Target& target, const Value& value, Scope& scope);

  Value Evaluate(const Expression& e, Scope& scope);
  Value EvaluateName(const Expression& e, const Scope& scope);
  Value EvaluateChain(const Expression& e, Scope& scope);
  Value EvaluateCompare(const Expression& e, Scope& scope);
  Value EvaluateSlice(const Expression& e, Scope& scope);
  Value EvaluateCall(const Expression& e, Scope& scope, const Value* caller);
  Value EvaluateFilter(const Expression& e, Scope& scope, const Value* input);
  Arguments EvaluateArguments(const Expression& e, Scope& scope);
  Value Arithmetic(Operator op, const Value& a, const Value& b);
  Value Repeated(const Value& what, int64_t times);
  bool Relation(Operator op, const Value& a, const Value& b);

  Scope& NewScope(Scope* parent);
  void Release(Scope& scope);

  const Program& program_;
  const Limits limits_;
  const std::time_t now_;
  std::vector<std::optional<Value>> globals_;  // by name
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_;
  std::vector<std::shared_ptr<class Namespace>> namespaces_;
  std::string* out_ = nullptr;
  int64_t steps_ = 0, bytes_ = 0;
  int depth_ = 0, line_ = 1;
  int loop_ = -1, caller_ = -1, varargs_ = -1, kwargs_ = -1;  // numbers of these names
};

// filters.cpp, predicates.cpp, methods.cpp. Names that the parser has let through.
Value ApplyFilter(Interpreter& in, std::string_view name, const Value& value, const Arguments& arguments);
bool ApplyTest(Interpreter& in, std::string_view name, const Value& value, const Arguments& arguments);
bool HasMethod(const Value& object, std::string_view name);
Value CallMethod(Interpreter& in, const Value& object, std::string_view name, const Arguments& arguments);
Value BindMethod(const Value& object, std::string_view name);
std::string ToJson(Interpreter& in, const Value& value, const Arguments& arguments);
// namespace, range, dict, raise_exception, strftime_now.
void AddGlobals(Interpreter& in);

}  // namespace fathom::jinja
