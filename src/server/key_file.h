// Files of API keys. A line is a key, or a JSON object that says more of one; a file whose name ends in .toml has a
// table for each:
//
//   sk-plain-key                                             # named key-1, key-2, ... by its place in the file
//   {"name": "alice", "key": "sk-...", "requests_per_minute": 60, "tokens_per_minute": 100000, "concurrent": 4}
//
//   [[key]]
//   name = "bob"
//   sha256 = "9f86d081884c7d65..."    # of the key, in hexadecimal, instead of the key
//   tokens-per-minute = 100000
//   admin = true
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "server/api_keys.h"

namespace fathom::server {

// Blank lines and those that begin with # are none. `path` is for messages. An error names the line or the table.
Result<std::vector<KeyEntry>> ParseKeys(std::string_view text, const std::string& path);
// Throws Error: what ParseKeys says, a file that cannot be read, one without a key.
std::vector<KeyEntry> ReadKeyFile(const std::string& path);

}  // namespace fathom::server
