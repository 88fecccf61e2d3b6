#include "jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/utf8.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

constexpr size_t kIndexedFrom = 8;
constexpr size_t kMaxOtherKeys = 200;  // that are no strings, which are found one after the other

void CheckSize(int depth, int64_t weight) {
  if (depth > kMaxNesting) throw Failure(fmt::format("values nested more than {} deep", kMaxNesting));
  if (weight > kMaxWeight) throw Failure("a value that is too large");
}

template <class T>
int ThreeWay(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

void CheckKey(const Value& key) {
  const Sequence* s = key.AsSequence();
  if (key.AsMapping() || (s && s->form == Form::kList))
    throw Failure(fmt::format("a {} cannot be a key of a dictionary", key.Kind()));
}

}  // namespace

Value Object::Attribute(std::string_view name) const {
  return Value::Undefined(fmt::format("{} has no attribute '{}'", Text(), name));
}

Value Object::Call(Interpreter&, const Arguments&) const { throw Failure(fmt::format("{} is no function", Text())); }

Value Value::Undefined(std::string what) {
  Value out;
  out.v_ = Missing{std::make_shared<const std::string>(std::move(what))};
  return out;
}

Value Value::List(std::vector<Value> items, Form form) {
  auto s = std::make_shared<Sequence>();
  for (const Value& v : items) {
    s->depth = std::max(s->depth, v.Depth() + 1);
    s->weight += v.Weight() + 2;
  }
  CheckSize(s->depth, s->weight);
  s->items = std::move(items);
  s->form = form;
  return std::shared_ptr<const Sequence>(std::move(s));
}

Value Value::Dict(std::vector<std::pair<Value, Value>> items) {
  auto m = std::make_shared<Mapping>();
  m->items.reserve(items.size());
  size_t others = 0;
  for (auto& [key, value] : items) {
    CheckKey(key);
    if (!key.IsString() && ++others > kMaxOtherKeys) throw Failure("a dictionary of too many keys that are no strings");
    m->depth = std::max({m->depth, key.Depth() + 1, value.Depth() + 1});
    m->weight += key.Weight() + value.Weight() + 4;
    if (const Value* have = m->Find(key)) {
      const_cast<Value&>(*have) = std::move(value);  // NOLINT: it is this function's own
      continue;
    }
    m->items.emplace_back(std::move(key), std::move(value));
    const size_t n = m->items.size();
    if (n < kIndexedFrom) continue;
    for (size_t i = n == kIndexedFrom ? 0 : n - 1; i < n; ++i) {
      if (m->items[i].first.IsString()) m->index_.emplace(m->items[i].first.String(), i);
    }
  }
  CheckSize(m->depth, m->weight);
  return std::shared_ptr<const Mapping>(std::move(m));
}

Value Value::FromJson(const nlohmann::ordered_json& json) {
  using Kind = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Kind::boolean:
      return json.get<bool>();
    case Kind::number_integer:
      return json.get<int64_t>();
    case Kind::number_unsigned: {
      const auto v = json.get<uint64_t>();
      if (v <= INT64_MAX) return static_cast<int64_t>(v);
      Value out;
      out.v_ = BigInteger{std::make_shared<const std::string>(std::to_string(v))};
      return out;
    }
    case Kind::number_float:
      return json.get<double>();
    case Kind::string: {
      const auto& s = json.get_ref<const std::string&>();
      if (!IsUtf8(s)) throw Failure("text that is not UTF-8");
      return std::string_view(s);
    }
    case Kind::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& v : json) items.push_back(FromJson(v));
      return List(std::move(items));
    }
    case Kind::object: {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(json.size());
      for (const auto& [key, v] : json.items()) items.emplace_back(std::string_view(key), FromJson(v));
      return Dict(std::move(items));
    }
    default:
      return {};
  }
}

const Sequence* Value::AsSequence() const {
  const auto* p = std::get_if<std::shared_ptr<const Sequence>>(&v_);
  return p ? p->get() : nullptr;
}
const Mapping* Value::AsMapping() const {
  const auto* p = std::get_if<std::shared_ptr<const Mapping>>(&v_);
  return p ? p->get() : nullptr;
}
const Object* Value::AsObject() const {
  const auto* p = std::get_if<std::shared_ptr<const Object>>(&v_);
  return p ? p->get() : nullptr;
}

bool Value::Truth() const {
  if (IsUndefined() || IsNone()) return false;
  if (IsBool()) return Bool();
  if (IsInteger()) return Integer() != 0;
  if (IsFloat()) return Number() != 0;
  if (IsString()) return !String().empty();
  if (const Sequence* s = AsSequence()) return s->form == Form::kGenerator || !s->items.empty();
  if (const Mapping* m = AsMapping()) return !m->items.empty();
  return true;
}

int Value::Depth() const {
  if (const Sequence* s = AsSequence()) return s->depth;
  if (const Mapping* m = AsMapping()) return m->depth;
  if (const Object* o = AsObject()) return o->depth();
  return 0;
}

int64_t Value::Weight() const {
  constexpr int64_t kSmall = 16;
  if (IsString()) return static_cast<int64_t>(String().size()) + 2;
  if (const Sequence* s = AsSequence()) return s->weight;
  if (const Mapping* m = AsMapping()) return m->weight;
  return IsBig() ? static_cast<int64_t>(Digits().size()) : kSmall;
}

std::string_view Value::Kind() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "NoneType";
  if (IsBool()) return "bool";
  if (IsInteger() || IsBig()) return "int";
  if (IsFloat()) return "float";
  if (IsString()) return "str";
  if (AsMapping()) return "dict";
  if (const Sequence* s = AsSequence()) {
    constexpr std::string_view kNames[] = {"list", "tuple", "generator", "view"};
    return kNames[static_cast<size_t>(s->form)];
  }
  return "object";
}

std::string Value::Text() const {
  if (IsUndefined()) return "";
  if (IsString()) return String();
  return Repr();
}

std::string Value::Repr() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "None";
  if (IsBool()) return Bool() ? "True" : "False";
  if (IsInteger()) return std::to_string(Integer());
  if (IsBig()) return Digits();
  if (IsFloat()) return FloatText(Number());
  if (IsString()) return QuotePython(String());
  if (const Sequence* s = AsSequence()) {
    if (s->form == Form::kGenerator) return "<generator>";
    const bool tuple = s->form == Form::kTuple;
    std::string out = tuple ? "(" : "[";
    for (size_t i = 0; i < s->items.size(); ++i) {
      if (i > 0) out += ", ";
      out += s->items[i].Repr();
    }
    return out + (!tuple ? "]" : s->items.size() == 1 ? ",)" : ")");
  }
  if (const Mapping* m = AsMapping()) {
    std::string out = "{";
    for (size_t i = 0; i < m->items.size(); ++i) {
      if (i > 0) out += ", ";
      out.append(m->items[i].first.Repr()).append(": ").append(m->items[i].second.Repr());
    }
    return out + "}";
  }
  return AsObject()->Text();
}

bool Value::SameAs(const Value& other) const {
  if (v_.index() != other.v_.index()) return false;
  if (AsSequence()) return AsSequence() == other.AsSequence();
  if (AsMapping()) return AsMapping() == other.AsMapping();
  if (AsObject()) return AsObject() == other.AsObject();
  return Equal(*this, other);
}

const Value* Mapping::FindText(std::string_view key) const {
  if (!index_.empty()) {
    const auto at = index_.find(key);
    return at == index_.end() ? nullptr : &items[at->second].second;
  }
  for (const auto& [k, v] : items) {
    if (k.IsString() && k.String() == key) return &v;
  }
  return nullptr;
}

const Value* Mapping::Find(const Value& key) const {
  if (key.IsString()) return FindText(key.String());
  CheckKey(key);
  for (const auto& [k, v] : items) {
    if (Equal(k, key)) return &v;
  }
  return nullptr;
}

bool Equal(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? a.Number() == b.Number() : a.Integer() == b.Integer();
  }
  if (a.IsString() && b.IsString()) return a.String() == b.String();
  if (a.IsNone() || b.IsNone()) return a.IsNone() && b.IsNone();
  if (a.IsUndefined() || b.IsUndefined()) return a.IsUndefined() && b.IsUndefined();
  if (a.IsBig() && b.IsBig()) return a.Digits() == b.Digits();
  if (a.AsSequence() && b.AsSequence()) {
    const Sequence &x = *a.AsSequence(), &y = *b.AsSequence();
    if (x.form == Form::kGenerator) return &x == &y;
    return x.form == y.form && std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), Equal);
  }
  if (a.AsMapping() && b.AsMapping()) {
    const Mapping &x = *a.AsMapping(), &y = *b.AsMapping();
    return x.items.size() == y.items.size() && std::all_of(x.items.begin(), x.items.end(), [&](const auto& item) {
             const Value* other = y.Find(item.first);
             return other && Equal(item.second, *other);
           });
  }
  return a.AsObject() && a.AsObject() == b.AsObject();
}

int Compare(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? ThreeWay(a.Number(), b.Number()) : ThreeWay(a.Integer(), b.Integer());
  }
  if (a.IsString() && b.IsString()) return ThreeWay(a.String().compare(b.String()), 0);  // code points order as bytes
  const Sequence *x = a.AsSequence(), *y = b.AsSequence();
  if (x && y && x->form == y->form && (x->form == Form::kList || x->form == Form::kTuple)) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
      if (!Equal(x->items[i], y->items[i])) return Compare(x->items[i], y->items[i]);
    }
    return ThreeWay(x->items.size(), y->items.size());
  }
  for (const Value* v : {&a, &b}) {
    if (v->IsUndefined()) throw Failure(v->UndefinedWhat());
  }
  throw Failure(fmt::format("{} and {} have no order", a.Kind(), b.Kind()));
}

}  // namespace fathom::jinja
