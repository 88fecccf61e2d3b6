// References of JSON schemas: URIs as RFC 3986 resolves them (no query is looked at), JSON pointers.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::grammar {

// `reference` as seen from `base`; both may be relative or empty.
std::string ResolveUri(std::string_view base, std::string_view reference);
// What stands before and behind the '#', the latter with its %XX decoded.
std::pair<std::string, std::string> SplitFragment(std::string_view uri);
// The names of "/a/b~1c", unescaped.
std::vector<std::string> PointerNames(std::string_view pointer);

}  // namespace fathom::grammar
