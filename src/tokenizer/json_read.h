// Reading fields of untrusted JSON with errors that name the place.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace fathom::tokenizer {

// A value as an error message shows it.
inline std::string Shorten(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 160) text = text.substr(0, 160) + "...";
  return text;
}

inline const nlohmann::json* Find(const nlohmann::json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

inline bool Get(const nlohmann::json& v, std::string* out) {
  return v.is_string() && (*out = v.get<std::string>(), true);
}
inline bool Get(const nlohmann::json& v, bool* out) { return v.is_boolean() && (*out = v.get<bool>(), true); }
inline bool Get(const nlohmann::json& v, int64_t* out) {
  if (!v.is_number_integer() || (v.is_number_unsigned() && v.get<uint64_t>() > INT64_MAX)) return false;
  *out = v.get<int64_t>();
  return true;
}
inline const char* TypeName(const std::string*) { return "a string"; }
inline const char* TypeName(const bool*) { return "true or false"; }
inline const char* TypeName(const int64_t*) { return "an integer"; }

// A field that must be there.
template <class T>
std::optional<Error> Read(const nlohmann::json& object, std::string_view where, std::string_view key, T* out) {
  const nlohmann::json* value = Find(object, key);
  if (value == nullptr) {
    return Error(fmt::format("tokenizer.json: {} has no field \"{}\"", where, key), Shorten(object), TypeName(out));
  }
  if (!Get(*value, out)) {
    return Error(fmt::format("tokenizer.json: {}.{} has the wrong type", where, key), Shorten(*value), TypeName(out));
  }
  return std::nullopt;
}

// A field that may be absent or null.
template <class T>
std::optional<Error> ReadOr(const nlohmann::json& object, std::string_view where, std::string_view key, T otherwise,
                            T* out) {
  const nlohmann::json* value = Find(object, key);
  *out = otherwise;
  if (value == nullptr || value->is_null()) return std::nullopt;
  return Read(object, where, key, out);
}

}  // namespace fathom::tokenizer
