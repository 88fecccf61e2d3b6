#include "server/api_keys.h"

#include <sstream>

#include "io/file.h"
#include "net/http.h"

namespace fathom::server {
namespace {

// The time depends on the length of `given` alone.
bool Equal(std::string_view given, std::string_view key) {
  size_t differ = given.size() ^ key.size();
  for (size_t i = 0; i < given.size(); ++i) {
    const char k = key.empty() ? '\0' : key[i % key.size()];
    differ |= static_cast<unsigned char>(given[i] ^ k);
  }
  return differ == 0;
}

}  // namespace

bool ApiKeys::Allows(std::string_view authorization) const {
  if (!required()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return false;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((authorization[i] | 0x20) != kScheme[i]) return false;
  }
  authorization.remove_prefix(kScheme.size());
  while (!authorization.empty() && authorization.front() == ' ') authorization.remove_prefix(1);
  while (!authorization.empty() && authorization.back() == ' ') authorization.remove_suffix(1);
  bool allowed = false;
  for (const std::string& key : keys_) allowed = Equal(authorization, key) || allowed;
  return allowed;
}

std::vector<std::string> ReadKeyFile(const std::string& path) {
  constexpr int64_t kMaxFile = 1 << 20;
  std::istringstream text(io::ReadFile(path, kMaxFile).Value());
  std::vector<std::string> keys;
  for (std::string line; std::getline(text, line);) {
    const size_t first = line.find_first_not_of(" \t\r"), last = line.find_last_not_of(" \t\r");
    if (first != std::string::npos && line[first] != '#') keys.push_back(line.substr(first, last - first + 1));
  }
  if (keys.empty()) throw Error("no API key in the file", path, "one key a line");
  return keys;
}

}  // namespace fathom::server
