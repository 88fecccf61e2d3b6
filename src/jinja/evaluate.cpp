// The interpreter's expressions.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "jinja/interpreter.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

[[noreturn]] void NotFor(const char* what, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b}) {
    if (v->IsUndefined()) throw Failure(v->UndefinedWhat());
  }
  throw Failure(fmt::format("{} is not defined for {} and {}", what, a.Kind(), b.Kind()));
}

int64_t Checked(bool overflows, int64_t v) {
  if (overflows) throw Failure("an integer that is too large");
  return v;
}

int64_t FloorDivide(int64_t a, int64_t b) {
  if (b == -1) {
    int64_t out = 0;
    const bool overflows = __builtin_sub_overflow(int64_t{0}, a, &out);
    return Checked(overflows, out);
  }
  const int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

Value Power(const Value& a, const Value& b) {
  if (a.IsFloat() || b.IsFloat() || b.Integer() < 0) {
    if (a.Number() == 0 && b.Number() < 0) throw Failure("zero to a negative power");
    const double v = std::pow(a.Number(), b.Number());
    if (std::isnan(v) && !std::isnan(a.Number()) && !std::isnan(b.Number()))
      throw Failure("a power that is no real number");
    return v;
  }
  int64_t out = 1, base = a.Integer();
  for (int64_t n = b.Integer(); n > 0; n >>= 1) {
    int64_t next = 0;
    if (n & 1) Checked(__builtin_mul_overflow(out, base, &next), 0), out = next;
    if (n == 1) break;
    Checked(__builtin_mul_overflow(base, base, &next), 0);
    base = next;
  }
  return out;
}

Value Numbers(Operator op, const Value& a, const Value& b) {
  const bool floats = a.IsFloat() || b.IsFloat();
  const double x = a.Number(), y = b.Number();
  const bool divides = op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && y == 0) throw Failure("division by zero");
  if (op == Operator::kPower) return Power(a, b);
  if (op == Operator::kDivide) return x / y;
  if (floats) {
    switch (op) {
      case Operator::kAdd:
        return x + y;
      case Operator::kSubtract:
        return x - y;
      case Operator::kMultiply:
        return x * y;
      case Operator::kFloorDivide:
        return std::floor(x / y);
      default: {
        const double rest = std::fmod(x, y);
        return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
      }
    }
  }
  const int64_t i = a.Integer(), j = b.Integer();
  int64_t out = 0;
  switch (op) {
    case Operator::kAdd: {
      const bool overflows = __builtin_add_overflow(i, j, &out);
      return Checked(overflows, out);
    }
    case Operator::kSubtract: {
      const bool overflows = __builtin_sub_overflow(i, j, &out);
      return Checked(overflows, out);
    }
    case Operator::kMultiply: {
      const bool overflows = __builtin_mul_overflow(i, j, &out);
      return Checked(overflows, out);
    }
    case Operator::kFloorDivide:
      return FloorDivide(i, j);
    default:
      if (j == -1) return int64_t{0};
      return i % j != 0 && (i < 0) != (j < 0) ? i % j + j : i % j;
  }
}

// begin, end and step of a slice of `size` elements, as Python has them; the indices it takes.
std::vector<size_t> SliceIndices(int64_t size, const std::optional<int64_t>& first, const std::optional<int64_t>& last,
                                 int64_t step) {
  const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? size - 1 : size;
  const auto clamp = [&](int64_t i) { return std::clamp(i < 0 ? i + size : i, low, high); };
  const int64_t begin = first ? clamp(*first) : step < 0 ? high : low;
  const int64_t end = last ? clamp(*last) : step < 0 ? low : high;
  std::vector<size_t> out;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    out.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out;
}

bool IsIndexable(const Sequence& s) { return s.form == Form::kList || s.form == Form::kTuple; }

}  // namespace

Value Interpreter::Evaluate(const Expression& e, Scope& scope) {
  using Kind = Expression::Kind;
  if (e.kind == Kind::kConstant) return e.value;
  if (e.kind == Kind::kName) return EvaluateName(e, scope);
  const Deeper deeper(*this);
  const auto part = [&](size_t i) { return Evaluate(*e.parts[i], scope); };
  const auto parts = [&] {
    std::vector<Value> out;
    out.reserve(e.parts.size());
    for (const ExpressionPtr& p : e.parts) out.push_back(Evaluate(*p, scope));
    return out;
  };
  switch (e.kind) {
    case Kind::kList:
      return NewList(parts());
    case Kind::kTuple:
      return NewList(parts(), Form::kTuple);
    case Kind::kDict: {
      std::vector<std::pair<Value, Value>> items;
      for (size_t i = 0; i < e.parts.size(); i += 2) {
        Value key = part(i);
        items.emplace_back(std::move(key), part(i + 1));
      }
      SpendBytes(static_cast<int64_t>(items.size() * sizeof(items[0])));
      line_ = e.line;
      return Value::Dict(std::move(items));
    }
    case Kind::kAttribute: {
      const Value object = part(0);
      line_ = e.line;
      return Attribute(object, e.text);
    }
    case Kind::kItem: {
      const Value object = part(0), key = part(1);
      line_ = e.line;
      return Item(object, key);
    }
    case Kind::kSlice:
      return EvaluateSlice(e, scope);
    case Kind::kCall:
      return EvaluateCall(e, scope, nullptr);
    case Kind::kFilter:
      return EvaluateFilter(e, scope, nullptr);
    case Kind::kTest: {
      const Value value = part(0);
      const Arguments arguments = EvaluateArguments(e, scope);
      line_ = e.line;
      return ApplyTest(*this, e.text, value, arguments);
    }
    case Kind::kChain:
      return EvaluateChain(e, scope);
    case Kind::kConcat: {
      std::string out;
      for (const ExpressionPtr& p : e.parts) {
        const Value v = Evaluate(*p, scope);
        line_ = e.line;
        SpendBytes(v.Weight());
        out += v.Text();
      }
      return NewString(std::move(out));
    }
    case Kind::kCompare:
      return EvaluateCompare(e, scope);
    case Kind::kNot:
      return !part(0).Truth();
    case Kind::kNegative:
    case Kind::kPositive: {
      const Value v = part(0);
      line_ = e.line;
      if (!v.IsNumber()) NotFor("a sign", v, v);
      if (e.kind == Kind::kPositive) return v.IsBool() ? Value(v.Integer()) : v;
      return v.IsFloat() ? Value(-v.Number()) : Numbers(Operator::kSubtract, int64_t{0}, v);
    }
    case Kind::kAnd:
    case Kind::kOr: {
      Value v;
      for (const ExpressionPtr& p : e.parts) {
        v = Evaluate(*p, scope);
        if (v.Truth() == (e.kind == Kind::kOr)) break;
      }
      return v;
    }
    case Kind::kCondition:
      if (part(1).Truth()) return part(0);
      return e.parts[2] ? part(2) : Value::Undefined("a condition that is false has no else");
    case Kind::kConstant:
    case Kind::kName:
      break;
  }
  return {};
}

Value Interpreter::EvaluateName(const Expression& e, const Scope& scope) {
  Spend(1);
  for (const Scope* s = &scope; s; s = s->parent) {
    for (const auto& [name, value] : s->variables) {
      if (name == e.name) return value;
    }
  }
  const std::optional<Value>& global = globals_[static_cast<size_t>(e.name)];
  return global ? *global : Value::Undefined(fmt::format("'{}' is undefined", e.text));
}

Value Interpreter::EvaluateChain(const Expression& e, Scope& scope) {
  Value left = Evaluate(*e.parts.front(), scope);
  for (size_t i = 1; i < e.parts.size(); ++i) {
    Value right = Evaluate(*e.parts[i], scope);
    line_ = e.line;
    if (!left.IsString() || !right.IsString() || e.operators[i - 1] != Operator::kAdd) {
      left = Arithmetic(e.operators[i - 1], left, right);
      continue;
    }
    std::string joined = left.String() + right.String();  // strings that are added up are copied once
    while (i + 1 < e.parts.size() && e.operators[i] == Operator::kAdd) {
      right = Evaluate(*e.parts[i + 1], scope);
      if (!right.IsString()) {
        line_ = e.line;
        NotFor("+", left, right);
      }
      SpendBytes(static_cast<int64_t>(right.String().size()));
      joined += right.String();
      ++i;
    }
    left = NewString(std::move(joined));
  }
  return left;
}

Value Interpreter::Repeated(const Value& what, int64_t times) {
  const auto n = static_cast<size_t>(std::max<int64_t>(times, 0));
  const Sequence* s = what.AsSequence();
  const size_t size = s ? s->items.size() * sizeof(Value) : what.String().size();
  if (size > 0 && n > static_cast<size_t>(limits_.bytes) / size) throw Failure("a repetition that is too long");
  SpendBytes(static_cast<int64_t>(size * n));
  if (!s) {
    std::string out;
    out.reserve(size * n);
    if (size > 0) {
      for (size_t i = 0; i < n; ++i) out += what.String();
    }
    return out;
  }
  std::vector<Value> items;
  if (size > 0) {
    for (size_t i = 0; i < n; ++i) items.insert(items.end(), s->items.begin(), s->items.end());
  }
  return Value::List(std::move(items), s->form);
}

Value Interpreter::Arithmetic(Operator op, const Value& a, const Value& b) {
  static constexpr const char* kNames[] = {"+", "-", "*", "/", "//", "%", "**"};
  if (a.IsNumber() && b.IsNumber()) return Numbers(op, a, b);
  const Sequence *x = a.AsSequence(), *y = b.AsSequence();
  if (op == Operator::kAdd) {
    if (a.IsString() && b.IsString()) return NewString(a.String() + b.String());
    if (x && y && x->form == y->form && IsIndexable(*x)) {
      std::vector<Value> items = x->items;
      items.insert(items.end(), y->items.begin(), y->items.end());
      return NewList(std::move(items), x->form);
    }
  }
  if (op == Operator::kMultiply) {
    const auto repeats = [](const Value& v, const Sequence* s) { return v.IsString() || (s && IsIndexable(*s)); };
    const auto counts = [](const Value& v) { return v.IsInteger() || v.IsBool(); };
    if (repeats(a, x) && counts(b)) return Repeated(a, b.Integer());
    if (repeats(b, y) && counts(a)) return Repeated(b, a.Integer());
  }
  if (op == Operator::kModulo && a.IsString()) throw Failure("formatting by % is not supported");
  NotFor(kNames[static_cast<size_t>(op)], a, b);
}

bool Interpreter::Contains(const Value& container, const Value& value) {
  if (container.IsString()) {
    if (!value.IsString()) NotFor("in", value, container);
    SpendSearch(container.String().size(), value.String().size());
    return container.String().find(value.String()) != std::string::npos;
  }
  if (const Mapping* m = container.AsMapping()) {
    Spend(static_cast<int64_t>(m->items.size()) / 8);
    return m->Find(value) != nullptr;
  }
  if (const Sequence* s = container.AsSequence()) {
    size_t i = s->form == Form::kGenerator ? s->taken : 0;
    bool found = false;
    while (i < s->items.size() && !found) {
      Spend(1 + std::min(value.Weight(), s->items[i].Weight()) / 16);
      found = Equal(s->items[i++], value);
    }
    if (s->form == Form::kGenerator) s->taken = i;
    return found;
  }
  if (container.IsUndefined()) return false;
  throw Failure(fmt::format("{} has no elements to look for", container.Kind()));
}

bool Interpreter::Relation(Operator op, const Value& a, const Value& b) {
  if (op == Operator::kIn || op == Operator::kNotIn) return Contains(b, a) == (op == Operator::kIn);
  Spend(std::min(a.Weight(), b.Weight()) / 16);
  if (op == Operator::kEqual) return Equal(a, b);
  if (op == Operator::kNotEqual) return !Equal(a, b);
  if (a.IsNumber() && b.IsNumber() && (std::isnan(a.Number()) || std::isnan(b.Number()))) return false;
  const int order = Compare(a, b);
  switch (op) {
    case Operator::kLess:
      return order < 0;
    case Operator::kLessEqual:
      return order <= 0;
    case Operator::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

Value Interpreter::EvaluateCompare(const Expression& e, Scope& scope) {
  Value left = Evaluate(*e.parts.front(), scope);
  for (size_t i = 0; i < e.operators.size(); ++i) {
    Value right = Evaluate(*e.parts[i + 1], scope);
    line_ = e.line;
    if (!Relation(e.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::EvaluateSlice(const Expression& e, Scope& scope) {
  const Value object = Evaluate(*e.parts[0], scope);
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!e.parts[i + 1]) continue;
    const Value v = Evaluate(*e.parts[i + 1], scope);
    line_ = e.line;
    if (v.IsNone()) continue;
    if (!v.IsInteger() && !v.IsBool()) throw Failure(fmt::format("a slice to {}", v.Kind()));
    bounds[i] = v.Integer();
  }
  line_ = e.line;
  const int64_t step = bounds[2].value_or(1);
  if (step == 0) throw Failure("a slice with a step of 0");
  if (object.IsUndefined()) throw Failure(object.UndefinedWhat());
  if (object.IsString()) {
    SpendBytes(static_cast<int64_t>(object.String().size()) * 4);
    const std::vector<char32_t> chars = ToChars(object.String());
    std::string out;
    for (const size_t i : SliceIndices(static_cast<int64_t>(chars.size()), bounds[0], bounds[1], step))
      AppendChar(out, chars[i]);
    return NewString(std::move(out));
  }
  const Sequence* s = object.AsSequence();
  if (!s || !IsIndexable(*s)) return Value::Undefined(fmt::format("{} has no slices", object.Kind()));
  std::vector<Value> items;
  for (const size_t i : SliceIndices(static_cast<int64_t>(s->items.size()), bounds[0], bounds[1], step))
    items.push_back(s->items[i]);
  return NewList(std::move(items), s->form);
}

Arguments Interpreter::EvaluateArguments(const Expression& e, Scope& scope) {
  Arguments out;
  for (size_t i = 1; i < e.parts.size(); ++i) out.positional.push_back(Evaluate(*e.parts[i], scope));
  for (const auto& [name, p] : e.named) out.named.emplace_back(name, Evaluate(*p, scope));
  return out;
}

Value Interpreter::EvaluateCall(const Expression& e, Scope& scope, const Value* caller) {
  const Expression& callee = *e.parts.front();
  Value function;
  if (callee.kind == Expression::Kind::kAttribute) {  // a method, without an object made of it
    const Value object = Evaluate(*callee.parts.front(), scope);
    if (HasMethod(object, callee.text)) {
      const Arguments arguments = EvaluateArguments(e, scope);
      line_ = e.line;
      return CallMethod(*this, object, callee.text, arguments);
    }
    line_ = e.line;
    function = Attribute(object, callee.text);
  } else {
    function = Evaluate(callee, scope);
  }
  Arguments arguments = EvaluateArguments(e, scope);
  if (caller) arguments.named.emplace_back("caller", *caller);
  line_ = e.line;
  return Call(function, arguments);
}

Value Interpreter::Call(const Value& function, const Arguments& arguments) {
  if (function.IsUndefined()) throw Failure(function.UndefinedWhat());
  const Object* object = function.AsObject();
  if (!object) throw Failure(fmt::format("{} is no function", function.Kind()));
  Spend(1);
  return object->Call(*this, arguments);
}

Value Interpreter::EvaluateFilter(const Expression& e, Scope& scope, const Value* input) {
  const Deeper deeper(*this);
  const Expression* inner = e.parts.front().get();
  const Value value = !inner                                              ? *input
                      : input && inner->kind == Expression::Kind::kFilter ? EvaluateFilter(*inner, scope, input)
                                                                          : Evaluate(*inner, scope);
  const Arguments arguments = EvaluateArguments(e, scope);
  line_ = e.line;
  return ApplyFilter(*this, e.text, value, arguments);
}

Value Interpreter::Item(const Value& object, const Value& key) {
  if (object.IsUndefined()) throw Failure(object.UndefinedWhat());
  if (const Mapping* m = object.AsMapping()) {
    const Sequence* list = key.AsSequence();
    const bool hashable = !key.AsMapping() && !(list && list->form == Form::kList);
    Spend(key.IsString() ? 1 : static_cast<int64_t>(m->items.size()) / 8);
    if (const Value* v = hashable ? m->Find(key) : nullptr) return *v;
  } else if (key.IsInteger() || key.IsBool()) {
    int64_t i = key.Integer();
    if (const Sequence* s = object.AsSequence(); s && IsIndexable(*s)) {
      const auto size = static_cast<int64_t>(s->items.size());
      if (i < 0) i += size;
      if (i >= 0 && i < size) return s->items[static_cast<size_t>(i)];
    } else if (object.IsString()) {
      const std::string& text = object.String();
      Spend(static_cast<int64_t>(text.size()) / 16);
      const auto size = static_cast<int64_t>(CountChars(text));
      if (i < 0) i += size;
      if (i >= 0 && i < size) {
        size_t at = 0;
        while (i-- > 0) NextChar(text, at);
        const size_t begin = at;
        NextChar(text, at);
        return std::string_view(text).substr(begin, at - begin);
      }
    }
  }
  if (key.IsString()) {
    if (HasMethod(object, key.String())) return BindMethod(object, key.String());
    if (const Object* o = object.AsObject()) return o->Attribute(key.String());
  }
  return Value::Undefined(
      fmt::format("'{}' has no element {}", object.Kind(), key.Weight() < 100 ? key.Repr() : "so named"));
}

Value Interpreter::Attribute(const Value& object, std::string_view name) {
  Spend(1);
  if (object.IsUndefined()) throw Failure(object.UndefinedWhat());
  if (HasMethod(object, name)) return BindMethod(object, name);
  if (const Mapping* m = object.AsMapping()) {
    if (const Value* v = m->FindText(name)) return *v;
  }
  if (const Object* o = object.AsObject()) return o->Attribute(name);
  return Value::Undefined(fmt::format("'{}' has no attribute '{}'", object.Kind(), name));
}

}  // namespace fathom::jinja
