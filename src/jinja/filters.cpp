// Filters. Each is called with the value and its arguments; what Jinja makes a generator is one here.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <unordered_map>

#include "jinja/expression_parser.h"
#include "jinja/interpreter.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);

int64_t Length(const Value& v) {
  if (v.IsUndefined()) return 0;
  if (v.IsString()) return static_cast<int64_t>(CountChars(v.String()));
  if (const Mapping* m = v.AsMapping()) return static_cast<int64_t>(m->items.size());
  const Sequence* s = v.AsSequence();
  if (!s || s->form == Form::kGenerator) throw Failure(fmt::format("{} has no length", v.Kind()));
  return static_cast<int64_t>(s->items.size());
}

// "a.b.0" or 0: what is looked up in an element, one after the other.
class Path {
 public:
  explicit Path(const Value* attribute) {
    if (!attribute || attribute->IsNone()) return;
    if (!attribute->IsString()) {
      parts_.push_back(*attribute);
      return;
    }
    for (const std::string_view part : Split(attribute->String(), ".", -1)) {
      const bool number = !part.empty() && part.size() < 10 &&
                          std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      int64_t n = 0;
      if (number) std::from_chars(part.data(), part.data() + part.size(), n);
      parts_.push_back(number ? Value(n) : Value(part));
    }
  }
  Value Of(Interpreter& in, Value item, const Value* otherwise = nullptr) const {
    for (const Value& part : parts_) {
      item = in.Item(item, part);
      if (otherwise && item.IsUndefined()) item = *otherwise;
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
};

Value WithoutCase(Interpreter& in, const Value& v) {
  if (!v.IsString()) return v;
  in.SpendBytes(v.Weight());
  return Lower(v.String());
}

const Value* Given(const Bound& b, size_t i) { return b.Has(i) ? &b.Need(i) : nullptr; }

template <std::string (*F)(std::string_view)>
Value Mapped(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("the filter", a, {});
  const std::string text = in.Text(v);
  return in.NewString(F(text));
}

Value Length(Interpreter& in, const Value& v, const Arguments&) {
  in.Spend(v.IsString() ? v.Weight() / 16 : 1);
  return Length(v);
}

Value Trim(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("trim", a, {"chars"});
  const std::string text = in.Text(v);
  in.Spend(static_cast<int64_t>(text.size()) / 16);
  if (!b.Has(0) || b.Need(0).IsNone()) return in.NewString(std::string(Strip(text)));
  return in.NewString(std::string(Strip(text, in.Text(b.Need(0)), Side::kBoth)));
}

Value Default(Interpreter&, const Value& v, const Arguments& a) {
  const Bound b("default", a, {"default_value", "boolean"});
  return v.IsUndefined() || (b.Truth(1) && !v.Truth()) ? b.Or(0, "") : v;
}

Value Join(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("join", a, {"d", "attribute"});
  const std::string between = in.Text(b.Or(0, ""));
  const Path path(Given(b, 1));
  std::string out;
  bool first = true;
  for (const Value& item : in.Elements(v)) {
    if (!std::exchange(first, false)) out += between;
    const Value shown = path.Of(in, item);
    in.SpendBytes(shown.Weight() + static_cast<int64_t>(between.size()));
    out += shown.Text();
  }
  return out;
}

Value First(Interpreter& in, const Value& v, const Arguments&) {
  const Sequence* s = v.AsSequence();
  if (s && s->form == Form::kGenerator) {
    if (s->taken < s->items.size()) return s->items[s->taken++];
    return Value::Undefined("the first element of nothing");
  }
  if (v.IsString() && !v.String().empty()) return in.Item(v, int64_t{0});
  const std::vector<Value> items = in.Elements(v);
  return items.empty() ? Value::Undefined("the first element of nothing") : items.front();
}

Value Last(Interpreter& in, const Value& v, const Arguments&) {
  const Sequence* s = v.AsSequence();
  if (s && s->form == Form::kGenerator) throw Failure("a generator has no last element: make it a list");
  if (v.IsString() && !v.String().empty()) return in.Item(v, int64_t{-1});
  const std::vector<Value> items = in.Elements(v);
  return items.empty() ? Value::Undefined("the last element of nothing") : items.back();
}

Value ListOf(Interpreter& in, const Value& v, const Arguments&) { return in.NewList(in.Elements(v)); }

Value Items(Interpreter& in, const Value& v, const Arguments&) {
  if (v.IsUndefined()) return in.NewList({}, Form::kGenerator);
  const Mapping* m = v.AsMapping();
  if (!m) throw Failure("items of what is no dictionary");
  std::vector<Value> out;
  for (const auto& [key, value] : m->items) out.push_back(in.NewList({key, value}, Form::kTuple));
  return in.NewList(std::move(out), Form::kGenerator);
}

// Stable, by keys that are made once.
std::vector<Value> Sorted(Interpreter& in, std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  const auto less = [&](const auto& x, const auto& y) {
    in.Spend(1 + std::min(x.first.Weight(), y.first.Weight()) / 16);
    return reverse ? Compare(y.first, x.first) < 0 : Compare(x.first, y.first) < 0;
  };
  // No std::stable_sort: what has no order throws, and NaN would break its rules.
  std::vector<std::pair<Value, Value>> other(keyed.size());
  for (size_t width = 1; width < keyed.size(); width *= 2) {
    for (size_t at = 0; at < keyed.size(); at += 2 * width) {
      const size_t middle = std::min(at + width, keyed.size()), end = std::min(at + 2 * width, keyed.size());
      size_t i = at, j = middle;
      for (size_t k = at; k < end; ++k) {
        const bool right = i == middle || (j < end && less(keyed[j], keyed[i]));
        other[k] = std::move(keyed[right ? j++ : i++]);
      }
    }
    keyed.swap(other);
  }
  std::vector<Value> out;
  for (auto& [key, value] : keyed) out.push_back(std::move(value));
  return out;
}

Value DictSort(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("dictsort", a, {"case_sensitive", "by", "reverse"});
  const Mapping* m = v.AsMapping();
  if (!m) throw Failure("dictsort of what is no dictionary");
  const std::string by = in.Text(b.Or(1, "key"));
  if (by != "key" && by != "value") throw Failure("dictsort sorts by 'key' or by 'value'");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : m->items) {
    const Value& of = by == "key" ? key : value;
    keyed.emplace_back(b.Truth(0) ? of : WithoutCase(in, of), in.NewList({key, value}, Form::kTuple));
  }
  return in.NewList(Sorted(in, std::move(keyed), b.Truth(2)));
}

Value Sort(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("sort", a, {"reverse", "case_sensitive", "attribute"});
  std::vector<Path> paths;
  if (b.Has(2) && b.Need(2).IsString()) {
    for (const std::string_view one : Split(b.Need(2).String(), ",", -1)) {
      const Value text(one);
      paths.emplace_back(&text);
    }
  } else {
    paths.emplace_back(Given(b, 2));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : in.Elements(v)) {
    std::vector<Value> key;
    for (const Path& path : paths) {
      Value part = path.Of(in, item);
      key.push_back(b.Truth(1) ? part : WithoutCase(in, part));
    }
    Value whole = in.NewList(std::move(key));
    keyed.emplace_back(std::move(whole), std::move(item));
  }
  return in.NewList(Sorted(in, std::move(keyed), b.Truth(0)));
}

Value Unique(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("unique", a, {"case_sensitive", "attribute"});
  const Path path(Given(b, 1));
  std::vector<Value> keys, out;
  std::unordered_map<std::string, bool> strings;
  for (Value& item : in.Elements(v)) {
    const Value of = path.Of(in, item);
    Value key = b.Truth(0) ? of : WithoutCase(in, of);
    if (key.IsString()) {
      if (!strings.emplace(key.String(), true).second) continue;
    } else {
      in.Spend(static_cast<int64_t>(keys.size()) * (1 + key.Weight() / 16));
      if (std::any_of(keys.begin(), keys.end(), [&](const Value& k) { return Equal(k, key); })) continue;
      keys.push_back(std::move(key));
    }
    out.push_back(std::move(item));
  }
  return in.NewList(std::move(out), Form::kGenerator);
}

Value Reverse(Interpreter& in, const Value& v, const Arguments&) {
  std::vector<Value> items = in.Elements(v);
  std::reverse(items.begin(), items.end());
  if (!v.IsString()) return in.NewList(std::move(items), Form::kGenerator);
  std::string out;
  for (const Value& c : items) out += c.String();
  return in.NewString(std::move(out));
}

Value Replace(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("replace", a, {"old", "new", "count"});
  Arguments plain{.positional = {in.Text(b.Need(0)), in.Text(b.Need(1))}, .named = {}};
  if (b.Has(2) && !b.Need(2).IsNone()) plain.positional.push_back(b.Need(2));
  return CallMethod(in, in.Text(v), "replace", plain);
}

Value Indent(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("indent", a, {"width", "first", "blank"});
  const Value width = b.Or(0, int64_t{4});
  std::string by;
  if (width.IsString()) {
    by = width.String();
  } else {
    const int64_t n = std::max<int64_t>(b.Integer(0, 4), 0);
    in.SpendBytes(n);
    by.assign(static_cast<size_t>(n), ' ');
  }
  const std::string text = in.Text(v) + "\n";
  const std::vector<std::string_view> lines = SplitLines(text, false);
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    in.SpendBytes(static_cast<int64_t>(lines[i].size() + by.size()) + 1);
    if (i > 0) out += '\n';
    const bool indented = i == 0 ? b.Truth(1) : b.Truth(2) || !lines[i].empty();
    if (indented) out += by;
    out += lines[i];
  }
  return out;
}

Value Escape(Interpreter& in, const Value& v, const Arguments&) {
  std::string out;
  for (const char c : in.Text(v)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return in.NewString(std::move(out));
}

// int() and float() of a string; nothing if it is no number.
std::optional<int64_t> ParseInteger(std::string_view text, int base) {
  text = Strip(text);
  const bool negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char c = static_cast<char>(text[1] | 0x20);
    if ((base == 16 && c == 'x') || (base == 8 && c == 'o') || (base == 2 && c == 'b')) text.remove_prefix(2);
  }
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits += text[i];
    } else if (i == 0 || i + 1 == text.size() || text[i + 1] == '_') {
      return std::nullopt;
    }
  }
  if (digits.empty() || digits.front() == '-') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) throw Failure("an integer that is too large");
  if (error != std::errc()) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text);
  const bool negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  if (text.empty() || text.front() == '-') return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || text.find('(') != std::string_view::npos) return std::nullopt;
  if (error == std::errc::result_out_of_range) value = text.find('-') == std::string_view::npos ? HUGE_VAL : 0;
  return negative ? -value : value;
}

std::optional<double> ToFloat(const Value& v) {
  if (v.IsNumber()) return v.Number();
  if (v.IsString()) return ParseFloat(v.String());
  if (v.IsBig()) return ParseFloat(v.Digits());
  if (v.IsUndefined()) throw Failure(v.UndefinedWhat());
  return std::nullopt;
}

Value Int(Interpreter&, const Value& v, const Arguments& a) {
  const Bound b("int", a, {"default", "base"});
  const int64_t base = b.Integer(1, 10);
  if (base != 2 && base != 8 && base != 10 && base != 16) throw Failure("int() to a base other than 2, 8, 10 or 16");
  if (v.IsInteger() || v.IsBool()) return v.Integer();
  if (v.IsBig()) return v;
  if (v.IsString()) {
    if (const auto n = ParseInteger(v.String(), static_cast<int>(base))) return *n;
  }
  const std::optional<double> f = ToFloat(v);
  if (!f || !std::isfinite(*f)) return b.Or(0, int64_t{0});
  if (std::fabs(*f) >= 9.2e18) throw Failure("an integer that is too large");
  return static_cast<int64_t>(*f);
}

Value Float(Interpreter&, const Value& v, const Arguments& a) {
  const Bound b("float", a, {"default"});
  const std::optional<double> f = ToFloat(v);
  return f ? Value(*f) : b.Or(0, 0.0);
}

Value Abs(Interpreter&, const Value& v, const Arguments&) {
  if (v.IsFloat()) return std::fabs(v.Number());
  if (!v.IsNumber()) throw Failure(v.IsUndefined() ? v.UndefinedWhat() : fmt::format("abs of {}", v.Kind()));
  if (v.Integer() == INT64_MIN) throw Failure("an integer that is too large");
  return std::abs(v.Integer());
}

Value Round(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("round", a, {"precision", "method"});
  const int64_t precision = b.Integer(0, 0);
  const std::string method = in.Text(b.Or(1, "common"));
  if (method != "common" && method != "ceil" && method != "floor")
    throw Failure("round has the methods common, ceil, floor");
  if (!v.IsNumber()) throw Failure(v.IsUndefined() ? v.UndefinedWhat() : fmt::format("round of {}", v.Kind()));
  constexpr int64_t kMost = 300;
  if (std::abs(precision) > kMost) throw Failure("round to a precision that is too large");
  const double scale = std::pow(10.0, static_cast<double>(precision)), x = v.Number();
  if (method != "common") return (method == "ceil" ? std::ceil(x * scale) : std::floor(x * scale)) / scale;
  if (!v.IsFloat() && precision >= 0) return v.Integer();
  if (!std::isfinite(x)) return x;
  if (precision < 0) {
    const double rounded = std::nearbyint(x * scale) / scale;
    return v.IsFloat() ? Value(rounded) : Value(static_cast<int64_t>(rounded));
  }
  // The decimals of the exact value, ties to even: as Python's round.
  return ParseFloat(fmt::format("{:.{}f}", x, precision)).value_or(x);
}

Value Map(Interpreter& in, const Value& v, const Arguments& a) {
  std::vector<Value> out;
  if (a.positional.empty()) {
    const Bound b("map", a, {"attribute", "default"});
    const Path path(&b.Need(0));
    const Value* otherwise = b.Has(1) && !b.Need(1).IsNone() ? &b.Need(1) : nullptr;
    for (const Value& item : in.Elements(v)) out.push_back(path.Of(in, item, otherwise));
  } else {
    const std::string name = in.Text(a.positional.front());
    if (!HasFilter(name)) throw Failure(fmt::format("no filter named '{}'", name));
    const Arguments rest{.positional = {a.positional.begin() + 1, a.positional.end()}, .named = a.named};
    for (const Value& item : in.Elements(v)) out.push_back(ApplyFilter(in, name, item, rest));
  }
  return in.NewList(std::move(out), Form::kGenerator);
}

template <bool kByAttribute, bool kWanted>
Value Select(Interpreter& in, const Value& v, const Arguments& a) {
  constexpr size_t kFirst = kByAttribute ? 1 : 0;
  if (a.positional.size() < kFirst) throw Failure("an attribute to select by is missing");
  const Path path(kByAttribute ? &a.positional.front() : nullptr);
  std::string test;
  Arguments rest{.positional = {}, .named = a.named};
  if (a.positional.size() > kFirst) {
    test = in.Text(a.positional[kFirst]);
    if (!HasTest(test)) throw Failure(fmt::format("no test named '{}'", test));
    rest.positional.assign(a.positional.begin() + kFirst + 1, a.positional.end());
  }
  std::vector<Value> out;
  for (Value& item : in.Elements(v)) {
    in.Spend(1);
    const Value of = path.Of(in, item);
    if ((test.empty() ? of.Truth() : ApplyTest(in, test, of, rest)) == kWanted) out.push_back(std::move(item));
  }
  return in.NewList(std::move(out), Form::kGenerator);
}

Value Sum(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("sum", a, {"attribute", "start"});
  const Path path(Given(b, 0));
  const Value start = b.Or(1, int64_t{0});
  double sum = start.IsNumber() ? start.Number() : NAN;
  int64_t whole = start.IsFloat() || !start.IsNumber() ? 0 : start.Integer();
  bool floats = start.IsFloat();
  for (const Value& item : in.Elements(v)) {
    const Value of = path.Of(in, item);
    if (!of.IsNumber() || !start.IsNumber()) throw Failure("sum of what are no numbers");
    floats = floats || of.IsFloat();
    sum += of.Number();
    if (!of.IsFloat() && __builtin_add_overflow(whole, of.Integer(), &whole))
      throw Failure("an integer that is too large");
  }
  return floats ? Value(sum) : Value(whole);
}

template <int kSign>
Value Extreme(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("min or max", a, {"case_sensitive", "attribute"});
  const Path path(Given(b, 1));
  std::optional<std::pair<Value, Value>> best;
  for (Value& item : in.Elements(v)) {
    const Value of = path.Of(in, item);
    Value key = b.Truth(0) ? of : WithoutCase(in, of);
    in.Spend(key.Weight() / 16);
    if (!best || Compare(key, best->first) * kSign > 0) best.emplace(std::move(key), std::move(item));
  }
  return best ? best->second : Value::Undefined("the least or largest of nothing");
}

Value AttributeOf(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("attr", a, {"name"});
  const std::string name = in.Text(b.Need(0));
  if (v.AsMapping() && !HasMethod(v, name)) return Value::Undefined(fmt::format("'dict' has no attribute '{}'", name));
  return in.Attribute(v, name);
}

Value WordCount(Interpreter& in, const Value& v, const Arguments&) {
  const std::string text = in.Text(v);
  int64_t n = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextChar(text, at);
    const bool word = c == '_' || (c >= '0' && c <= '9') || IsLetter(c);
    if (word && !inside) ++n;
    inside = word;
  }
  return n;
}

// Jinja's title: words begin behind blanks, hyphens and brackets.
Value TitleWords(Interpreter& in, const Value& v, const Arguments&) {
  std::string out;
  bool begins = true;
  const std::string text = in.Text(v);
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextChar(text, at);
    AppendChar(out, begins ? ToUpper(c) : ToLower(c));
    begins = IsBlank(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  }
  return in.NewString(std::move(out));
}

const std::unordered_map<std::string_view, Filter>& Filters() {
  static const std::unordered_map<std::string_view, Filter> table = {
      {"abs", Abs},
      {"attr", AttributeOf},
      {"capitalize", Mapped<Capitalize>},
      {"count", Length},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"e", Escape},
      {"escape", Escape},
      {"first", First},
      {"float", Float},
      {"indent", Indent},
      {"int", Int},
      {"items", Items},
      {"join", Join},
      {"last", Last},
      {"length", Length},
      {"list", ListOf},
      {"lower", Mapped<Lower>},
      {"map", Map},
      {"max", Extreme<1>},
      {"min", Extreme<-1>},
      {"reject", Select<false, false>},
      {"rejectattr", Select<true, false>},
      {"replace", Replace},
      {"reverse", Reverse},
      {"round", Round},
      {"safe", [](Interpreter& in, const Value& v, const Arguments&) -> Value { return in.Text(v); }},
      {"select", Select<false, true>},
      {"selectattr", Select<true, true>},
      {"sort", Sort},
      {"string", [](Interpreter& in, const Value& v, const Arguments&) -> Value { return in.Text(v); }},
      {"sum", Sum},
      {"title", TitleWords},
      {"tojson",
       [](Interpreter& in, const Value& v, const Arguments& a) -> Value { return in.NewString(ToJson(in, v, a)); }},
      {"trim", Trim},
      {"unique", Unique},
      {"upper", Mapped<Upper>},
      {"wordcount", WordCount}};
  return table;
}

}  // namespace

bool HasFilter(std::string_view name) { return Filters().count(name) > 0; }

Value ApplyFilter(Interpreter& in, std::string_view name, const Value& value, const Arguments& arguments) {
  in.Spend(1);
  return Filters().at(name)(in, value, arguments);
}

}  // namespace fathom::jinja
