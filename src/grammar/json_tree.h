// A JSON text as a tree that keeps what a schema's meaning hangs on: numbers as they are written. Bounded: bytes and
// depth.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace fathom::grammar {

inline constexpr size_t kMaxSchemaBytes = size_t{4} << 20;
inline constexpr int kMaxSchemaDepth = 200;

struct JsonTree {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

  // Not inline: members are of a type that is not complete before the end.
  explicit JsonTree(Kind kind = Kind::kNull, std::string text = "");
  JsonTree(const JsonTree&);
  JsonTree(JsonTree&&) noexcept;
  JsonTree& operator=(const JsonTree&);
  JsonTree& operator=(JsonTree&&) noexcept;
  ~JsonTree();

  Kind kind;
  bool truth = false;
  std::string text;  // of a string (UTF-8) or a number (as written)
  std::vector<JsonTree> items;
  std::vector<std::pair<std::string, JsonTree>> members;  // by name (bytes); of equal names the last one

  bool IsObject() const { return kind == Kind::kObject; }
  bool IsArray() const { return kind == Kind::kArray; }
  bool IsString() const { return kind == Kind::kString; }
  const JsonTree* Find(std::string_view name) const;  // of an object; null: none
};

Result<JsonTree> ReadJsonTree(std::string_view json);

// Valid UTF-8 as characters and back.
std::u32string CharactersOf(std::string_view utf8);

}  // namespace fathom::grammar
