// A request's body as JSON, from bytes that anyone may have sent. Bounded: the body's size (by the HTTP server), the
// depth of nesting (nothing here or behind it recurses deeper), and the number of values, because an empty array of
// three bytes takes many times that in memory. A key may appear once in an object; the text must be UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "server/api_error.h"

namespace fathom::server {

using Json = nlohmann::json;

inline constexpr size_t kMaxDepth = 64;
inline constexpr size_t kMaxScalars = 8u << 20;       // keys included
inline constexpr size_t kMaxContainers = 256u << 10;  // objects and arrays

// The object that the body is; throws ApiError (400).
Json ParseBody(std::string_view body);

}  // namespace fathom::server
