// Who may ask. Keys are compared in a time that does not depend on where they differ.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom::server {

class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  bool required() const { return !keys_.empty(); }
  // `authorization`: the header's value, "Bearer KEY".
  bool Allows(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

// The keys of a file, one a line; blank lines and those that begin with # are none. Throws Error: no key in it.
std::vector<std::string> ReadKeyFile(const std::string& path);

}  // namespace fathom::server
