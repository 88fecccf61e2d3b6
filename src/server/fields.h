// Typed reading of a JSON object's fields. A field that is absent or null is not there; one of the wrong type or out of
// range is an ApiError that names it ("messages[0].content"). Fields that nobody asks for are ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/json_body.h"

namespace fathom::server {

class Fields {
 public:
  // `where` is the object's own name, empty for the body.
  explicit Fields(const Json& object, std::string where = "");

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const Json* Find(std::string_view key) const;  // nullptr if absent or null
  std::string Name(std::string_view key) const;

  std::optional<bool> Bool(std::string_view key) const;
  std::optional<int64_t> Int(std::string_view key, int64_t least, int64_t most) const;
  std::optional<double> Number(std::string_view key, double least, double most) const;
  std::optional<std::string> String(std::string_view key) const;
  const Json* Array(std::string_view key) const;
  const Json* Object(std::string_view key) const;
  // A list of token ids in [0, vocab).
  std::vector<int32_t> Tokens(std::string_view key, int64_t vocab) const;

  [[noreturn]] void Fail(std::string_view key, std::string_view what) const;

 private:
  const Json& object_;
  std::string where_;
};

// The same of a value that is no field: an element of a list, say.
bool IsInt(const Json& value);  // also 5.0
int64_t ToInt(const Json& value);
int32_t TokenOf(const Json& value, const std::string& name, int64_t vocab);
std::vector<int32_t> TokensOf(const Json& list, const std::string& name, int64_t vocab);
// "a string", "an object", ...
std::string_view KindOf(const Json& value);

}  // namespace fathom::server
