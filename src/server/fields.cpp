#include "server/fields.h"

#include <fmt/format.h>

#include <cmath>

namespace fathom::server {
namespace {

constexpr double kExactInts = 9007199254740992.0;  // 2^53

}  // namespace

std::string_view KindOf(const Json& v) {
  if (v.is_null()) return "null";
  if (v.is_boolean()) return "true or false";
  if (v.is_number_integer()) return "an integer";
  if (v.is_number()) return "a number";
  if (v.is_string()) return "a string";
  if (v.is_array()) return "a list";
  return "an object";
}

bool IsInt(const Json& v) {
  if (v.is_number_unsigned()) return v.get<uint64_t>() <= INT64_MAX;
  if (v.is_number_integer()) return true;
  return v.is_number_float() && std::fabs(v.get<double>()) <= kExactInts &&
         v.get<double>() == std::floor(v.get<double>());
}

int64_t ToInt(const Json& v) { return v.is_number_float() ? static_cast<int64_t>(v.get<double>()) : v.get<int64_t>(); }

int32_t TokenOf(const Json& v, const std::string& name, int64_t vocab) {
  if (!IsInt(v)) throw BadField(name, fmt::format("{} must be a token id, not {}", name, KindOf(v)));
  if (ToInt(v) < 0 || ToInt(v) >= vocab) {
    throw BadField(name,
                   fmt::format("{} is {}: no token of this model, whose ids are 0 to {}", name, ToInt(v), vocab - 1));
  }
  return static_cast<int32_t>(ToInt(v));
}

std::vector<int32_t> TokensOf(const Json& list, const std::string& name, int64_t vocab) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& v = list[i];
    if (v.is_number_unsigned() && v.get<uint64_t>() < static_cast<uint64_t>(vocab)) {
      ids.push_back(static_cast<int32_t>(v.get<uint64_t>()));
    } else {
      ids.push_back(TokenOf(v, fmt::format("{}[{}]", name, i), vocab));
    }
  }
  return ids;
}

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) throw BadField(where_, fmt::format("{} must be an object, not {}", where_, KindOf(object)));
}

const Json* Fields::Find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string Fields::Name(std::string_view key) const {
  return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
}

void Fields::Fail(std::string_view key, std::string_view what) const {
  throw BadField(Name(key), fmt::format("{} {}", Name(key), what));
}

std::optional<bool> Fields::Bool(std::string_view key) const {
  const Json* v = Find(key);
  if (!v) return std::nullopt;
  if (!v->is_boolean()) Fail(key, fmt::format("must be true or false, not {}", KindOf(*v)));
  return v->get<bool>();
}

std::optional<int64_t> Fields::Int(std::string_view key, int64_t least, int64_t most) const {
  const Json* v = Find(key);
  if (!v) return std::nullopt;
  if (!v->is_number() || (v->is_number_float() && !IsInt(*v)))
    Fail(key, fmt::format("must be an integer, not {}", KindOf(*v)));
  if (!IsInt(*v) || ToInt(*v) < least || ToInt(*v) > most) {
    Fail(key, most == INT64_MAX ? fmt::format("is {}: it must be at least {}", v->dump(), least)
                                : fmt::format("is {}: it must be {} to {}", v->dump(), least, most));
  }
  return ToInt(*v);
}

std::optional<double> Fields::Number(std::string_view key, double least, double most) const {
  const Json* v = Find(key);
  if (!v) return std::nullopt;
  if (!v->is_number()) Fail(key, fmt::format("must be a number, not {}", KindOf(*v)));
  const double number = v->get<double>();
  if (!(number >= least && number <= most))
    Fail(key, fmt::format("is {}: it must be {} to {}", v->dump(), least, most));
  return number;
}

std::optional<std::string> Fields::String(std::string_view key) const {
  const Json* v = Find(key);
  if (!v) return std::nullopt;
  if (!v->is_string()) Fail(key, fmt::format("must be a string, not {}", KindOf(*v)));
  return v->get<std::string>();
}

const Json* Fields::Array(std::string_view key) const {
  const Json* v = Find(key);
  if (v && !v->is_array()) Fail(key, fmt::format("must be a list, not {}", KindOf(*v)));
  return v;
}

const Json* Fields::Object(std::string_view key) const {
  const Json* v = Find(key);
  if (v && !v->is_object()) Fail(key, fmt::format("must be an object, not {}", KindOf(*v)));
  return v;
}

std::vector<int32_t> Fields::Tokens(std::string_view key, int64_t vocab) const {
  const Json* v = Array(key);
  return v ? TokensOf(*v, Name(key), vocab) : std::vector<int32_t>{};
}

}  // namespace fathom::server
