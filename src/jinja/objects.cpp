#include "jinja/objects.h"

#include <fmt/format.h>

#include <algorithm>

namespace fathom::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // Jinja's sandbox has the same
constexpr size_t kMaxTimeFormat = 200;

void AddFunction(Interpreter& in, const std::string& name, Function::Code code) {
  in.SetGlobal(name, std::shared_ptr<const Object>(std::make_shared<Function>(name, std::move(code))));
}

Value Range(Interpreter& in, const Arguments& a) {
  const Bound b("range", a, {"start", "stop", "step"});
  const bool one = !b.Has(1);
  const int64_t start = one ? 0 : b.Integer(0, 0), stop = one ? b.Integer(0, 0) : b.Integer(1, 0);
  const int64_t step = b.Integer(2, 1);
  b.Need(0);
  if (step == 0) throw Failure("range() with a step of 0");
  std::vector<Value> items;
  const auto wide = [](int64_t v) { return static_cast<double>(v); };
  const double count = (wide(stop) - wide(start)) / wide(step);
  if (count > static_cast<double>(kMaxRange)) throw Failure(fmt::format("range() of more than {} numbers", kMaxRange));
  for (int64_t v = start; step > 0 ? v < stop : v > stop; v += step) items.emplace_back(v);
  return in.NewList(std::move(items));
}

Value TimeText(Interpreter& in, const Arguments& a) {
  const Bound b("strftime_now", a, {"format"});
  const std::string format = in.Text(b.Need(0));
  if (format.size() > kMaxTimeFormat) throw Failure("strftime_now() with a format that is too long");
  const std::time_t now = in.now();
  std::tm local{};
  localtime_r(&now, &local);
  std::string out(4096, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  return in.NewString(std::move(out));
}

Value MakeDict(Interpreter& in, const Arguments& a) {
  std::vector<std::pair<Value, Value>> items;
  if (a.positional.size() > 1) throw Failure("dict() takes at most one argument without a name");
  if (!a.positional.empty()) {
    const Mapping* m = a.positional.front().AsMapping();
    if (m) {
      items = m->items;
    } else {
      for (const Value& pair : in.Elements(a.positional.front())) {
        std::vector<Value> two = in.Elements(pair);
        if (two.size() != 2) throw Failure("dict() of what are no pairs");
        items.emplace_back(std::move(two[0]), std::move(two[1]));
      }
    }
  }
  for (const auto& [name, value] : a.named) items.emplace_back(std::string_view(name), value);
  in.SpendBytes(static_cast<int64_t>(items.size() * sizeof(items[0])));
  return Value::Dict(std::move(items));
}

}  // namespace

Value Namespace::Attribute(std::string_view name) const {
  for (const auto& [key, value] : members_) {
    if (key == name) return value;
  }
  return Value::Undefined(fmt::format("the namespace has no '{}'", name));
}

void Namespace::Set(const std::string& name, Value value) {
  for (auto& [key, member] : members_) {
    if (key != name) continue;
    member = std::move(value);
    return;
  }
  members_.emplace_back(name, std::move(value));
}

Value Macro::Attribute(std::string_view name) const {
  if (name == "name") return std::string_view(code_->name);
  return Object::Attribute(name);
}

Value Macro::Call(Interpreter& in, const Arguments& arguments) const { return in.CallMacro(*code_, scope_, arguments); }

std::string Loop::Text() const {
  return fmt::format("<LoopContext {}/{}>", index_ + 1, list_.AsSequence()->items.size());
}

Value Loop::Attribute(std::string_view name) const {
  const std::vector<Value>& items = list_.AsSequence()->items;
  const auto index = static_cast<int64_t>(index_), length = static_cast<int64_t>(items.size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return length - index;
  if (name == "revindex0") return length - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return int64_t{1};
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return index > 0 ? items[index_ - 1] : Value::Undefined("there is no previous item");
  if (name == "nextitem") return index + 1 < length ? items[index_ + 1] : Value::Undefined("there is no next item");
  if (name == "cycle" || name == "changed") {
    const bool cycles = name == "cycle";
    return std::shared_ptr<const Object>(std::make_shared<Function>(
        fmt::format("loop.{}", name),
        [self = shared_from_this(), cycles](Interpreter& in, const Arguments& a) -> Value {
          if (cycles) {
            if (a.positional.empty()) throw Failure("loop.cycle() without arguments");
            return a.positional[self->index_ % a.positional.size()];
          }
          in.Spend(static_cast<int64_t>(a.positional.size()));
          const bool same = self->last_ && std::equal(self->last_->begin(), self->last_->end(), a.positional.begin(),
                                                      a.positional.end(), Equal);
          if (!same) self->last_ = a.positional;
          return !same;
        },
        depth()));
  }
  return Object::Attribute(name);
}

void AddGlobals(Interpreter& in) {
  AddFunction(in, "range", Range);
  AddFunction(in, "strftime_now", TimeText);
  AddFunction(in, "dict", MakeDict);
  AddFunction(in, "namespace", [](Interpreter& i, const Arguments& a) {
    std::vector<std::pair<std::string, Value>> members;
    for (const Value& v : a.positional) {
      const Mapping* m = v.AsMapping();
      if (!m) throw Failure("namespace() of what is no dictionary");
      for (const auto& [key, value] : m->items) members.emplace_back(i.Text(key), value);
    }
    for (const auto& named : a.named) members.push_back(named);
    return i.NewNamespace(std::move(members));
  });
  AddFunction(in, "raise_exception", [](Interpreter& i, const Arguments& a) -> Value {
    throw Failure(i.Text(Bound("raise_exception", a, {"message"}).Need(0)));
  });
}

}  // namespace fathom::jinja
