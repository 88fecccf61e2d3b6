#include "jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "jinja/objects.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

constexpr int64_t kScopeBytes = 64, kNamespaceBytes = 256;

}  // namespace

Bound::Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters)
    : function_(function), parameters_(parameters), values_(parameters.size(), nullptr) {
  if (arguments.positional.size() > values_.size()) {
    throw Failure(
        fmt::format("{} takes at most {} arguments, not {}", function, values_.size(), arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(parameters_.begin(), parameters_.end(), name);
    const auto i = static_cast<size_t>(at - parameters_.begin());
    if (at == parameters_.end() || values_[i])
      throw Failure(fmt::format("{} has no (further) argument '{}'", function, name));
    values_[i] = &value;
  }
}

const Value& Bound::Need(size_t i) const {
  if (!values_[i]) throw Failure(fmt::format("{} needs an argument '{}'", function_, parameters_[i]));
  return *values_[i];
}

int64_t Bound::Integer(size_t i, int64_t otherwise) const {
  if (!values_[i]) return otherwise;
  if (!values_[i]->IsInteger() && !values_[i]->IsBool())
    throw Failure(fmt::format("{}: '{}' must be an integer, not {}", function_, parameters_[i], values_[i]->Kind()));
  return values_[i]->Integer();
}

Interpreter::Deeper::Deeper(Interpreter& in) : in_(in) {
  in_.Spend(1);
  if (in_.depth_ >= in_.limits_.depth) throw Failure("calls and expressions within each other too deeply");
  ++in_.depth_;
}

// Output goes to a string of its own while this lives.
class Interpreter::Capture {
 public:
  explicit Capture(Interpreter& in) : in_(in), outer_(std::exchange(in.out_, &text_)) {}
  ~Capture() { in_.out_ = outer_; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  std::string Take() { return std::move(text_); }

 private:
  Interpreter& in_;
  std::string text_;
  std::string* outer_;
};

// A scope within another, given back at its end.
class Interpreter::Inner {
 public:
  Inner(Interpreter& in, Scope* parent) : in_(in), scope_(in.NewScope(parent)) {}
  ~Inner() { in_.Release(scope_); }
  Inner(const Inner&) = delete;
  Inner& operator=(const Inner&) = delete;
  Scope& operator*() const { return scope_; }
  Scope* operator->() const { return &scope_; }

 private:
  Interpreter& in_;
  Scope& scope_;
};

Interpreter::Interpreter(const Program& program, const Limits& limits, std::time_t now)
    : program_(program), limits_(limits), now_(now), globals_(program.names.size()) {
  for (size_t i = 0; i < program.names.size(); ++i) {
    const std::string& name = program.names[i];
    const auto number = static_cast<int>(i);
    if (name == "loop") loop_ = number;
    if (name == "caller") caller_ = number;
    if (name == "varargs") varargs_ = number;
    if (name == "kwargs") kwargs_ = number;
  }
}

// Namespaces may hold themselves, and macros point to scopes: all are emptied before any goes.
Interpreter::~Interpreter() {
  for (const auto& n : namespaces_) n->Clear();
  for (Scope& s : scopes_) s.variables.clear();
}

void Interpreter::SetGlobal(std::string_view name, Value value) {
  const auto at = std::find(program_.names.begin(), program_.names.end(), name);
  if (at != program_.names.end()) globals_[static_cast<size_t>(at - program_.names.begin())] = std::move(value);
}

void Interpreter::Spend(int64_t steps) {
  steps_ += steps;
  if (steps_ > limits_.steps) throw Failure(fmt::format("more than {} steps", limits_.steps));
}

void Interpreter::SpendBytes(int64_t bytes) {
  Spend(bytes / 16);
  bytes_ += bytes;
  if (bytes_ > limits_.bytes) throw Failure(fmt::format("more than {} bytes made", limits_.bytes));
}

void Interpreter::SpendSearch(size_t text, size_t wanted) {
  constexpr size_t kWord = 16, kAtOnce = 64;  // bytes
  Spend(static_cast<int64_t>(text / kWord * (1 + wanted / kAtOnce)));
}

std::string Interpreter::Text(const Value& value) {
  if (!value.IsString()) SpendBytes(value.Weight());
  return value.Text();
}

Value Interpreter::NewString(std::string text) {
  SpendBytes(static_cast<int64_t>(text.size()));
  return {std::move(text)};
}

Value Interpreter::NewList(std::vector<Value> items, Form form) {
  SpendBytes(static_cast<int64_t>(items.size() * sizeof(Value)));
  return Value::List(std::move(items), form);
}

Value Interpreter::NewNamespace(std::vector<std::pair<std::string, Value>> members) {
  SpendBytes(kNamespaceBytes + static_cast<int64_t>(members.size()) * kScopeBytes);
  namespaces_.push_back(std::make_shared<Namespace>());
  for (auto& [name, value] : members) namespaces_.back()->Set(name, std::move(value));
  return std::shared_ptr<const Object>(namespaces_.back());
}

Scope& Interpreter::NewScope(Scope* parent) {
  if (free_.empty()) {
    SpendBytes(kScopeBytes);
    scopes_.emplace_back();
    free_.push_back(&scopes_.back());
  }
  Scope& scope = *free_.back();
  free_.pop_back();
  scope.parent = parent;
  return scope;
}

void Interpreter::Release(Scope& scope) {
  if (scope.captured) return;
  scope.variables.clear();
  free_.push_back(&scope);
}

std::string Interpreter::Run() {
  std::string out;
  out_ = &out;
  Execute(program_.body, NewScope(nullptr));
  return out;
}

void Interpreter::Write(std::string_view text) {
  SpendBytes(static_cast<int64_t>(text.size()));
  out_->append(text);
}

Interpreter::Flow Interpreter::Execute(const Statements& statements, Scope& scope) {
  for (const Statement& s : statements) {
    if (const Flow flow = Execute(s, scope); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const Statement& s, Scope& scope) {
  using Kind = Statement::Kind;
  if (s.kind == Kind::kText) {
    Write(s.text);
    return Flow::kNext;
  }
  const Deeper deeper(*this);
  line_ = s.line;
  switch (s.kind) {
    case Kind::kOutput: {
      const Value v = Evaluate(*s.expression, scope);
      v.IsString() ? Write(v.String()) : Write(Text(v));
      return Flow::kNext;
    }
    case Kind::kIf:
      return ExecuteIf(s, scope);
    case Kind::kFor:
      return ExecuteFor(s, scope);
    case Kind::kSet:
      Assign(s.target, Evaluate(*s.expression, scope), scope);
      return Flow::kNext;
    case Kind::kSetBlock:
    case Kind::kFilter: {
      Value text;
      const Inner inner(*this, &scope);
      const Flow flow = ExecuteCaptured(s.bodies.front(), *inner, text);
      if (s.expression) text = EvaluateFilter(*s.expression, *inner, &text);
      s.kind == Kind::kSetBlock ? Assign(s.target, text, scope) : Write(Text(text));
      return flow;
    }
    case Kind::kWith:
      ExecuteWith(s, scope);
      return Flow::kNext;
    case Kind::kScope: {
      const Inner inner(*this, &scope);
      return Execute(s.bodies.front(), *inner);
    }
    case Kind::kMacro:
      for (Scope* at = &scope; at && !at->captured; at = at->parent) at->captured = true;
      SpendBytes(kScopeBytes);
      Assign(s.target, std::shared_ptr<const Object>(std::make_shared<Macro>(s.macro, &scope)), scope);
      return Flow::kNext;
    case Kind::kCallBlock:
      ExecuteCallBlock(s, scope);
      return Flow::kNext;
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
    case Kind::kText:
      break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteCaptured(const Statements& statements, Scope& scope, Value& text) {
  Capture capture(*this);
  const Flow flow = Execute(statements, scope);
  text = capture.Take();
  return flow;
}

Interpreter::Flow Interpreter::ExecuteIf(const Statement& s, Scope& scope) {
  for (size_t i = 0; i < s.expressions.size(); ++i) {
    if (Evaluate(*s.expressions[i], scope).Truth()) return Execute(s.bodies[i], scope);
  }
  return s.bodies.size() > s.expressions.size() ? Execute(s.bodies.back(), scope) : Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteFor(const Statement& s, Scope& scope) {
  std::vector<Value> items = Elements(Evaluate(*s.expression, scope));
  if (!s.expressions.empty()) {
    std::vector<Value> kept;
    for (Value& item : items) {
      const Inner inner(*this, &scope);
      Assign(s.target, item, *inner);
      if (Evaluate(*s.expressions.front(), *inner).Truth()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  const Value list = NewList(std::move(items));
  const std::vector<Value>& all = list.AsSequence()->items;
  const auto loop = std::make_shared<Loop>(list);
  bool finished = false;
  for (size_t i = 0; i < all.size(); ++i) {
    Spend(1);
    loop->set_index(i);
    const Inner inner(*this, &scope);
    if (loop_ >= 0) inner->variables.emplace_back(loop_, std::shared_ptr<const Object>(loop));
    Assign(s.target, all[i], *inner);
    const Flow flow = Execute(s.bodies.front(), *inner);
    if (flow == Flow::kBreak) break;
    finished = finished || flow == Flow::kNext;
  }
  // As in Jinja: `else` is for a loop of which no turn came to its end, be it by break or continue.
  if (finished || s.bodies.size() == 1) return Flow::kNext;
  const Inner inner(*this, &scope);
  return Execute(s.bodies[1], *inner);
}

// The values are those of outside.
void Interpreter::ExecuteWith(const Statement& s, Scope& scope) {
  const Inner inner(*this, &scope);
  std::vector<Value> values;
  for (const ExpressionPtr& e : s.expressions) values.push_back(Evaluate(*e, scope));
  for (size_t i = 0; i < values.size(); ++i) Assign(s.targets[i], values[i], *inner);
  Execute(s.bodies.front(), *inner);
}

void Interpreter::ExecuteCallBlock(const Statement& s, Scope& scope) {
  for (Scope* at = &scope; at && !at->captured; at = at->parent) at->captured = true;
  const Value caller = std::shared_ptr<const Object>(std::make_shared<Macro>(s.macro, &scope));
  Write(Text(EvaluateCall(*s.expression, scope, &caller)));
}

Value Interpreter::CallMacro(const MacroCode& macro, Scope* scope, const Arguments& arguments) {
  const Deeper deeper(*this);
  const Inner inner(*this, scope);
  const int line = line_;
  const size_t n = macro.parameters.size(), first_default = n - macro.defaults.size();
  std::vector<Value> more;
  std::vector<std::pair<Value, Value>> more_named;
  const Value* caller = nullptr;
  std::vector<std::optional<Value>> values(n);
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    i < n ? void(values[i] = arguments.positional[i]) : more.push_back(arguments.positional[i]);
  }
  for (const auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < n && program_.names[static_cast<size_t>(macro.parameters[i])] != name) ++i;
    if (i < n) {
      if (values[i]) throw Failure(fmt::format("macro '{}' has two values for '{}'", macro.name, name));
      values[i] = value;
    } else if (name == "caller") {
      caller = &value;
    } else {
      more_named.emplace_back(std::string_view(name), value);
    }
  }
  if (!more.empty() && varargs_ < 0) throw Failure(fmt::format("macro '{}' takes at most {} arguments", macro.name, n));
  if (!more_named.empty() && kwargs_ < 0)
    throw Failure(fmt::format("macro '{}' has no parameter '{}'", macro.name, more_named.front().first.Text()));
  for (size_t i = 0; i < n; ++i) {
    if (!values[i]) {
      values[i] = i >= first_default
                      ? Evaluate(*macro.defaults[i - first_default], *inner)
                      : Value::Undefined(fmt::format("parameter '{}' was not provided",
                                                     program_.names[static_cast<size_t>(macro.parameters[i])]));
    }
    inner->variables.emplace_back(macro.parameters[i], *values[i]);
  }
  if (varargs_ >= 0) inner->variables.emplace_back(varargs_, NewList(std::move(more), Form::kTuple));
  if (kwargs_ >= 0) inner->variables.emplace_back(kwargs_, Value::Dict(std::move(more_named)));
  if (caller_ >= 0) inner->variables.emplace_back(caller_, caller ? *caller : Value::Undefined("no caller defined"));
  Capture capture(*this);
  Execute(macro.body, *inner);
  line_ = line;
  return capture.Take();
}

void Interpreter::Assign(const Target& target, const Value& value, Scope& scope) {
  if (!target.parts.empty()) {
    const std::vector<Value> values = Elements(value);
    if (values.size() != target.parts.size()) {
      throw Failure(fmt::format("{} values for {} names", values.size(), target.parts.size()));
    }
    for (size_t i = 0; i < values.size(); ++i) Assign(target.parts[i], values[i], scope);
    return;
  }
  if (!target.attribute.empty()) {
    const Value* holder = nullptr;
    for (const Scope* s = &scope; s && !holder; s = s->parent) {
      for (const auto& [name, v] : s->variables) {
        if (name == target.name) holder = &v;
      }
    }
    const auto* object = holder ? dynamic_cast<const Namespace*>(holder->AsObject()) : nullptr;
    if (!object) throw Failure("an attribute can be set of a namespace only");
    SpendBytes(kScopeBytes);
    const_cast<Namespace*>(object)->Set(target.attribute, value);  // NOLINT: namespaces are there to be changed
    return;
  }
  for (auto& [name, v] : scope.variables) {
    if (name == target.name) {
      v = value;
      return;
    }
  }
  scope.variables.emplace_back(target.name, value);
}

std::vector<Value> Interpreter::Elements(const Value& value) {
  if (const Sequence* s = value.AsSequence()) {
    SpendBytes(static_cast<int64_t>(s->items.size() * sizeof(Value)));
    if (s->form != Form::kGenerator) return s->items;
    const size_t from = std::exchange(s->taken, s->items.size());
    return {s->items.begin() + static_cast<ptrdiff_t>(from), s->items.end()};
  }
  std::vector<Value> out;
  if (const Mapping* m = value.AsMapping()) {
    SpendBytes(static_cast<int64_t>(m->items.size() * sizeof(Value)));
    for (const auto& [key, v] : m->items) out.push_back(key);
  } else if (value.IsString()) {
    const std::string& s = value.String();
    SpendBytes(static_cast<int64_t>(s.size() * kScopeBytes));
    for (size_t at = 0; at < s.size();) {
      const size_t begin = at;
      NextChar(s, at);
      out.emplace_back(std::string_view(s).substr(begin, at - begin));
    }
  } else if (!value.IsUndefined()) {
    throw Failure(fmt::format("{} has no elements", value.Kind()));
  }
  return out;
}

}  // namespace fathom::jinja
