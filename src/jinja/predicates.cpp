// Tests: what stands behind `is`.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "jinja/expression_parser.h"
#include "jinja/interpreter.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

using Test = bool (*)(Interpreter&, const Value&, const Arguments&);

int64_t WholeNumber(const Value& v) {
  if (!v.IsInteger() && !v.IsBool())
    throw Failure(v.IsUndefined() ? v.UndefinedWhat() : fmt::format("a whole number is expected, not {}", v.Kind()));
  return v.Integer();
}

template <int kRest>
bool Parity(Interpreter&, const Value& v, const Arguments&) {
  return (WholeNumber(v) & 1) == kRest;
}

bool DivisibleBy(Interpreter&, const Value& v, const Arguments& a) {
  const int64_t by = WholeNumber(Bound("divisibleby", a, {"num"}).Need(0));
  if (by == 0) throw Failure("division by zero");
  return by == -1 || WholeNumber(v) % by == 0;
}

// As str.isupper and str.islower: there is a letter with case, and none of the other one.
template <bool (*kIs)(char32_t), bool (*kIsOther)(char32_t)>
bool AllCase(Interpreter& in, const Value& v, const Arguments&) {
  const std::string text = in.Text(v);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextChar(text, at);
    if (kIsOther(c)) return false;
    any = any || kIs(c);
  }
  return any;
}

template <bool kWanted>
bool Equals(Interpreter& in, const Value& v, const Arguments& a) {
  const Value& other = Bound("the test", a, {"other"}).Need(0);
  in.Spend(std::min(v.Weight(), other.Weight()) / 16);
  return Equal(v, other) == kWanted;
}

template <bool (*kHolds)(int)>
bool Orders(Interpreter& in, const Value& v, const Arguments& a) {
  const Value& other = Bound("the test", a, {"other"}).Need(0);
  in.Spend(std::min(v.Weight(), other.Weight()) / 16);
  return kHolds(Compare(v, other));
}
bool Less(int order) { return order < 0; }
bool LessEqual(int order) { return order <= 0; }
bool Greater(int order) { return order > 0; }
bool GreaterEqual(int order) { return order >= 0; }

bool IsSequence(Interpreter&, const Value& v, const Arguments&) {
  const Sequence* s = v.AsSequence();
  return v.IsString() || v.AsMapping() || v.IsUndefined() || (s && (s->form == Form::kList || s->form == Form::kTuple));
}

const std::unordered_map<std::string_view, Test>& Tests() {
  static const std::unordered_map<std::string_view, Test> table = {
      {"!=", Equals<false>},
      {"<", Orders<Less>},
      {"<=", Orders<LessEqual>},
      {"==", Equals<true>},
      {">", Orders<Greater>},
      {">=", Orders<GreaterEqual>},
      {"boolean", [](Interpreter&, const Value& v, const Arguments&) { return v.IsBool(); }},
      {"callable",
       [](Interpreter&, const Value& v, const Arguments&) { return v.AsObject() && v.AsObject()->callable(); }},
      {"defined", [](Interpreter&, const Value& v, const Arguments&) { return !v.IsUndefined(); }},
      {"divisibleby", DivisibleBy},
      {"eq", Equals<true>},
      {"equalto", Equals<true>},
      {"even", Parity<0>},
      {"false", [](Interpreter&, const Value& v, const Arguments&) { return v.IsBool() && !v.Bool(); }},
      {"float", [](Interpreter&, const Value& v, const Arguments&) { return v.IsFloat(); }},
      {"ge", Orders<GreaterEqual>},
      {"greaterthan", Orders<Greater>},
      {"gt", Orders<Greater>},
      {"in", [](Interpreter& in, const Value& v,
                const Arguments& a) { return in.Contains(Bound("in", a, {"seq"}).Need(0), v); }},
      {"integer", [](Interpreter&, const Value& v, const Arguments&) { return v.IsInteger() || v.IsBig(); }},
      {"iterable", [](Interpreter&, const Value& v,
                      const Arguments&) { return v.IsString() || v.AsSequence() || v.AsMapping() || v.IsUndefined(); }},
      {"le", Orders<LessEqual>},
      {"lessthan", Orders<Less>},
      {"lower", AllCase<IsLower, IsUpper>},
      {"lt", Orders<Less>},
      {"mapping", [](Interpreter&, const Value& v, const Arguments&) { return v.AsMapping() != nullptr; }},
      {"ne", Equals<false>},
      {"none", [](Interpreter&, const Value& v, const Arguments&) { return v.IsNone(); }},
      {"number", [](Interpreter&, const Value& v, const Arguments&) { return v.IsNumber() || v.IsBig(); }},
      {"odd", Parity<1>},
      {"sameas", [](Interpreter&, const Value& v,
                    const Arguments& a) { return v.SameAs(Bound("sameas", a, {"other"}).Need(0)); }},
      {"sequence", IsSequence},
      {"string", [](Interpreter&, const Value& v, const Arguments&) { return v.IsString(); }},
      {"true", [](Interpreter&, const Value& v, const Arguments&) { return v.IsBool() && v.Bool(); }},
      {"undefined", [](Interpreter&, const Value& v, const Arguments&) { return v.IsUndefined(); }},
      {"upper", AllCase<IsUpper, IsLower>}};
  return table;
}

}  // namespace

bool HasTest(std::string_view name) { return Tests().count(name) > 0; }

bool ApplyTest(Interpreter& in, std::string_view name, const Value& value, const Arguments& arguments) {
  in.Spend(1);
  return Tests().at(name)(in, value, arguments);
}

}  // namespace fathom::jinja
