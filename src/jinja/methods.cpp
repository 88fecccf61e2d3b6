// The methods of strings, lists and dictionaries that change nothing.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "jinja/interpreter.h"
#include "jinja/objects.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

using Method = Value (*)(Interpreter&, const Value&, const Arguments&);
using Table = std::unordered_map<std::string_view, Method>;

const std::string& StringOf(const Value& v, const char* what) {
  if (!v.IsString())
    throw Failure(v.IsUndefined() ? v.UndefinedWhat() : fmt::format("{} must be a string, not {}", what, v.Kind()));
  return v.String();
}

Value Strings(Interpreter& in, const std::vector<std::string_view>& parts, Form form = Form::kList) {
  std::vector<Value> out;
  out.reserve(parts.size());
  for (const std::string_view p : parts) {
    in.SpendBytes(static_cast<int64_t>(p.size() + sizeof(Value)));
    out.emplace_back(p);
  }
  return Value::List(std::move(out), form);
}

void LookedAt(Interpreter& in, const Value& v) { in.Spend(v.Weight() / 16); }

template <Side kSide>
Value StripMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("strip", a, {"chars"});
  LookedAt(in, v);
  if (!b.Has(0) || b.Need(0).IsNone()) return in.NewString(std::string(Strip(v.String(), kSide)));
  const std::string& chars = StringOf(b.Need(0), "what strip takes away");
  in.SpendSearch(v.String().size() * 16, chars.size());
  return in.NewString(std::string(Strip(v.String(), chars, kSide)));
}

template <bool kFromRight>
Value SplitMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("split", a, {"sep", "maxsplit"});
  const int64_t most = b.Integer(1, -1);
  LookedAt(in, v);
  if (!b.Has(0) || b.Need(0).IsNone()) return Strings(in, SplitBlanks(v.String(), most, kFromRight));
  const std::string& separator = StringOf(b.Need(0), "a separator");
  if (separator.empty()) throw Failure("an empty separator");
  in.SpendSearch(v.String().size(), separator.size());
  return Strings(in, kFromRight ? SplitFromRight(v.String(), separator, most) : Split(v.String(), separator, most));
}

template <bool kAtEnd>
Value Affix(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b(kAtEnd ? "endswith" : "startswith", a, {"affix"});
  const Value& wanted = b.Need(0);
  const auto matches = [&](const Value& w) {
    const std::string& s = StringOf(w, "what a string begins or ends with");
    return kAtEnd ? v.String().ends_with(s) : v.String().starts_with(s);
  };
  const Sequence* several = wanted.AsSequence();
  if (!several || several->form != Form::kTuple) return matches(wanted);
  in.Spend(static_cast<int64_t>(several->items.size()));
  return std::any_of(several->items.begin(), several->items.end(), matches);
}

template <bool kAtEnd>
Value RemoveAffix(Interpreter& in, const Value& v, const Arguments& a) {
  const std::string& s = StringOf(Bound("removeprefix", a, {"affix"}).Need(0), "what is removed");
  const std::string& text = v.String();
  if (kAtEnd) return in.NewString(text.ends_with(s) ? text.substr(0, text.size() - s.size()) : text);
  return in.NewString(text.starts_with(s) ? text.substr(s.size()) : text);
}

Value ReplaceMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("replace", a, {"old", "new", "count"});
  const std::string &text = v.String(), &old = StringOf(b.Need(0), "what is replaced"),
                    &fresh = StringOf(b.Need(1), "what it is replaced by");
  int64_t left = b.Integer(2, -1);
  in.SpendSearch(text.size(), old.size());
  std::string out;
  const auto add = [&](std::string_view piece) {
    in.SpendBytes(static_cast<int64_t>(piece.size()));
    out += piece;
  };
  size_t at = 0;
  if (old.empty()) {  // before each character, and at the end
    while (left != 0) {
      add(fresh);
      --left;
      if (at == text.size()) return out;
      const size_t begin = at;
      NextChar(text, at);
      add(std::string_view(text).substr(begin, at - begin));
    }
  }
  while (left != 0 && !old.empty()) {
    const size_t next = text.find(old, at);
    if (next == std::string::npos) break;
    add(std::string_view(text).substr(at, next - at));
    add(fresh);
    at = next + old.size();
    --left;
  }
  add(std::string_view(text).substr(at));
  return out;
}

template <bool kLast, bool kMust>
Value FindMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const std::string& wanted = StringOf(Bound("find", a, {"sub"}).Need(0), "what is looked for");
  in.SpendSearch(v.String().size(), wanted.size());
  const size_t at = kLast ? v.String().rfind(wanted) : v.String().find(wanted);
  if (at == std::string::npos) {
    if (kMust) throw Failure("a string that is not found");
    return int64_t{-1};
  }
  return static_cast<int64_t>(CountChars(std::string_view(v.String()).substr(0, at)));
}

Value CountMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const std::string& wanted = StringOf(Bound("count", a, {"sub"}).Need(0), "what is counted");
  in.SpendSearch(v.String().size(), wanted.size());
  if (wanted.empty()) return static_cast<int64_t>(CountChars(v.String()) + 1);
  int64_t n = 0;
  for (size_t at = v.String().find(wanted); at != std::string::npos; at = v.String().find(wanted, at + wanted.size()))
    ++n;
  return n;
}

Value JoinMethod(Interpreter& in, const Value& v, const Arguments& a) {
  std::string out;
  bool first = true;
  for (const Value& item : in.Elements(Bound("join", a, {"iterable"}).Need(0))) {
    const std::string& s = StringOf(item, "what is joined");
    in.SpendBytes(static_cast<int64_t>(s.size() + v.String().size()));
    if (!std::exchange(first, false)) out += v.String();
    out += s;
  }
  return out;
}

Value SplitLinesMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("splitlines", a, {"keepends"});
  LookedAt(in, v);
  return Strings(in, SplitLines(v.String(), b.Truth(0)));
}

template <bool kLast>
Value PartitionMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const std::string& separator = StringOf(Bound("partition", a, {"sep"}).Need(0), "a separator");
  if (separator.empty()) throw Failure("an empty separator");
  in.SpendSearch(v.String().size(), separator.size());
  const std::string_view s = v.String();
  const size_t at = kLast ? s.rfind(separator) : s.find(separator);
  if (at == std::string_view::npos) {
    return kLast ? Strings(in, {"", "", s}, Form::kTuple) : Strings(in, {s, "", ""}, Form::kTuple);
  }
  return Strings(in, {s.substr(0, at), separator, s.substr(at + separator.size())}, Form::kTuple);
}

template <int kPlace>  // -1 text at the left, 0 in the middle, 1 at the right
Value PadMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("a method that fills up", a, {"width", "fillchar"});
  b.Need(0);
  const std::string fill = b.Has(1) ? StringOf(b.Need(1), "what fills") : " ";
  if (CountChars(fill) != 1) throw Failure("one character fills");
  const int64_t more = std::max<int64_t>(b.Integer(0, 0) - static_cast<int64_t>(CountChars(v.String())), 0);
  in.SpendBytes(std::min<int64_t>(more, INT64_MAX / 8) * static_cast<int64_t>(fill.size()));
  const int64_t left = kPlace < 0 ? 0 : kPlace > 0 ? more : more / 2 + (more & b.Integer(0, 0) & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += v.String();
  for (int64_t i = left; i < more; ++i) out += fill;
  return out;
}

template <bool (*kIs)(char32_t)>
Value AllChars(Interpreter& in, const Value& v, const Arguments&) {
  LookedAt(in, v);
  for (size_t at = 0; at < v.String().size();) {
    if (!kIs(NextChar(v.String(), at))) return false;
  }
  return !v.String().empty();
}
bool IsDecimal(char32_t c) { return c >= '0' && c <= '9'; }
bool IsLetterOrDecimal(char32_t c) { return IsLetter(c) || IsDecimal(c); }

template <bool kUpper>
Value CaseTest(Interpreter& in, const Value& v, const Arguments&) {
  return ApplyTest(in, kUpper ? "upper" : "lower", v, {});
}

template <std::string (*F)(std::string_view)>
Value MapMethod(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("the method", a, {});
  return in.NewString(F(v.String()));
}

[[noreturn]] Value NoFormat(Interpreter&, const Value&, const Arguments&) {
  throw Failure("format and encode are not supported");
}
[[noreturn]] Value NoChange(Interpreter&, const Value&, const Arguments&) {
  throw Failure("lists and dictionaries cannot be changed: make new ones, or use a namespace");
}

const Table& OfStrings() {
  static const Table table = {{"capitalize", MapMethod<Capitalize>},
                              {"center", PadMethod<0>},
                              {"count", CountMethod},
                              {"encode", NoFormat},
                              {"endswith", Affix<true>},
                              {"find", FindMethod<false, false>},
                              {"format", NoFormat},
                              {"index", FindMethod<false, true>},
                              {"isalnum", AllChars<IsLetterOrDecimal>},
                              {"isalpha", AllChars<IsLetter>},
                              {"isdigit", AllChars<IsDecimal>},
                              {"islower", CaseTest<false>},
                              {"isspace", AllChars<IsBlank>},
                              {"isupper", CaseTest<true>},
                              {"join", JoinMethod},
                              {"ljust", PadMethod<-1>},
                              {"lower", MapMethod<Lower>},
                              {"lstrip", StripMethod<Side::kLeft>},
                              {"partition", PartitionMethod<false>},
                              {"removeprefix", RemoveAffix<false>},
                              {"removesuffix", RemoveAffix<true>},
                              {"replace", ReplaceMethod},
                              {"rfind", FindMethod<true, false>},
                              {"rindex", FindMethod<true, true>},
                              {"rjust", PadMethod<1>},
                              {"rpartition", PartitionMethod<true>},
                              {"rsplit", SplitMethod<true>},
                              {"rstrip", StripMethod<Side::kRight>},
                              {"split", SplitMethod<false>},
                              {"splitlines", SplitLinesMethod},
                              {"startswith", Affix<false>},
                              {"strip", StripMethod<Side::kBoth>},
                              {"title", MapMethod<Title>},
                              {"upper", MapMethod<Upper>}};
  return table;
}

Value Get(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("get", a, {"key", "default"});
  in.Spend(b.Need(0).IsString() ? 1 : static_cast<int64_t>(v.AsMapping()->items.size()) / 8);
  const Value* found = v.AsMapping()->Find(b.Need(0));
  return found ? *found : b.Or(1, {});
}

template <bool kKeys, bool kValues>
Value View(Interpreter& in, const Value& v, const Arguments&) {
  std::vector<Value> out;
  for (const auto& [key, value] : v.AsMapping()->items)
    out.push_back(!kValues ? key : !kKeys ? value : in.NewList({key, value}, Form::kTuple));
  return in.NewList(std::move(out), Form::kView);
}

const Table& OfDicts() {
  static const Table table = {{"clear", NoChange},
                              {"copy", [](Interpreter&, const Value& v, const Arguments&) { return v; }},
                              {"get", Get},
                              {"items", View<true, true>},
                              {"keys", View<true, false>},
                              {"pop", NoChange},
                              {"popitem", NoChange},
                              {"setdefault", NoChange},
                              {"update", NoChange},
                              {"values", View<false, true>}};
  return table;
}

Value IndexInList(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("index", a, {"value"});
  const std::vector<Value>& items = v.AsSequence()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    in.Spend(1 + std::min(items[i].Weight(), b.Need(0).Weight()) / 16);
    if (Equal(items[i], b.Need(0))) return static_cast<int64_t>(i);
  }
  throw Failure("a value that is not in the list");
}

Value CountInList(Interpreter& in, const Value& v, const Arguments& a) {
  const Bound b("count", a, {"value"});
  int64_t n = 0;
  for (const Value& item : v.AsSequence()->items) {
    in.Spend(1 + std::min(item.Weight(), b.Need(0).Weight()) / 16);
    if (Equal(item, b.Need(0))) ++n;
  }
  return n;
}

const Table& OfLists() {
  static const Table table = {{"append", NoChange},
                              {"clear", NoChange},
                              {"copy", [](Interpreter&, const Value& v, const Arguments&) { return v; }},
                              {"count", CountInList},
                              {"extend", NoChange},
                              {"index", IndexInList},
                              {"insert", NoChange},
                              {"pop", NoChange},
                              {"remove", NoChange},
                              {"reverse", NoChange},
                              {"sort", NoChange}};
  return table;
}

const Table& OfTuples() {
  static const Table table = {{"count", CountInList}, {"index", IndexInList}};
  return table;
}

const Table* TableOf(const Value& v) {
  if (v.IsString()) return &OfStrings();
  if (v.AsMapping()) return &OfDicts();
  const Sequence* s = v.AsSequence();
  if (s && s->form == Form::kList) return &OfLists();
  if (s && s->form == Form::kTuple) return &OfTuples();
  return nullptr;
}

}  // namespace

bool HasMethod(const Value& object, std::string_view name) {
  const Table* table = TableOf(object);
  return table && table->count(name) > 0;
}

Value CallMethod(Interpreter& in, const Value& object, std::string_view name, const Arguments& arguments) {
  in.Spend(1);
  return TableOf(object)->at(name)(in, object, arguments);
}

Value BindMethod(const Value& object, std::string_view name) {
  const int depth = object.Depth() + 1;
  if (depth > kMaxNesting) throw Failure("a method of a value that is nested too deeply");
  return std::shared_ptr<const Object>(std::make_shared<Function>(
      std::string(name),
      [object, method = TableOf(object)->at(name)](Interpreter& in, const Arguments& a) {
        return method(in, object, a);
      },
      depth));
}

}  // namespace fathom::jinja
