#include "server/key_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "io/file.h"
#include "server/json_body.h"

namespace fathom::server {
namespace {

constexpr int64_t kMaxFile = 4 << 20;
constexpr int64_t kMostOfALimit = int64_t{1} << 40;

const char* const kFields = "name, key or sha256, requests_per_minute, tokens_per_minute, concurrent, admin";

// The fields of one key, from either form; throws Error with `where`.
class EntryMaker {
 public:
  explicit EntryMaker(std::string where) : where_(std::move(where)) {}

  void Text(std::string_view field, const std::string& value) {
    if (field == "name") {
      if (value.empty() || value.size() > 128) Fail("name", "1 to 128 bytes");
      entry_.name = value;
    } else if (field == "key") {
      if (value.empty()) Fail("key is empty", "");
      entry_.digest = io::Sha256(value);
      ++given_;
    } else if (field == "sha256") {
      if (!DigestFromHex(value, &entry_.digest)) Fail("sha256", "64 hexadecimal digits");
      ++given_;
    } else {
      Wrong(field);
    }
  }
  void Number(std::string_view field, int64_t value) {
    int64_t* const limit = field == "requests_per_minute" ? &entry_.limits.requests_per_minute
                           : field == "tokens_per_minute" ? &entry_.limits.tokens_per_minute
                           : field == "concurrent"        ? &entry_.limits.concurrent
                                                          : nullptr;
    if (!limit) Wrong(field);
    if (value < 0 || value > kMostOfALimit) Fail(std::string(field), "0 (no limit) or more");
    *limit = value;
  }
  void Flag(std::string_view field, bool value) {
    if (field != "admin") Wrong(field);
    entry_.admin = value;
  }
  [[noreturn]] void Wrong(std::string_view field) const {
    Fail(fmt::format("{} is not known here, or its value has the wrong type", field), kFields);
  }
  [[noreturn]] void Fail(const std::string& what, const std::string& expected) const {
    throw Error(fmt::format("{}: {}", where_, what), "", expected);
  }
  KeyEntry Finish(const std::string& default_name) {
    if (given_ != 1) Fail(given_ == 0 ? "a key is missing" : "key and sha256 are both given", "key or sha256");
    if (entry_.name.empty()) entry_.name = default_name;
    return std::move(entry_);
  }

 private:
  std::string where_;
  KeyEntry entry_;
  int given_ = 0;
};

KeyEntry FromJson(std::string_view line, const std::string& where, const std::string& name) {
  EntryMaker maker(where);
  Json json;
  try {
    json = ParseBody(line);
  } catch (const std::exception& e) {
    maker.Fail(fmt::format("no valid JSON object: {}", e.what()), "");
  }
  for (const auto& [field, value] : json.items()) {
    if (value.is_string()) {
      maker.Text(field, value.get<std::string>());
    } else if (value.is_boolean()) {
      maker.Flag(field, value.get<bool>());
    } else if (value.is_number_integer()) {
      maker.Number(field, value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX ? -1 : value.get<int64_t>());
    } else {
      maker.Wrong(field);
    }
  }
  return maker.Finish(name);
}

std::vector<KeyEntry> FromToml(std::string_view text, const std::string& path) {
  toml::table root;
  try {
    root = toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    throw Error(fmt::format("{} is not valid TOML: line {}: {}", path, e.source().begin.line, e.description()));
  }
  std::vector<KeyEntry> entries;
  for (const auto& [name, node] : root) {
    const toml::array* list = node.as_array();
    if (name.str() != "key" || !list)
      throw Error(fmt::format("{}: {} is not known here", path, name.str()), "", "[[key]]");
    for (const toml::node& element : *list) {
      EntryMaker maker(fmt::format("{}: line {}", path, element.source().begin.line));
      const toml::table* table = element.as_table();
      if (!table) maker.Fail("a key is a table", "[[key]]");
      for (const auto& [key, value] : *table) {
        std::string field(key.str());
        std::replace(field.begin(), field.end(), '-', '_');
        if (const auto* s = value.as_string()) {
          maker.Text(field, s->get());
        } else if (const auto* b = value.as_boolean()) {
          maker.Flag(field, b->get());
        } else if (const auto* i = value.as_integer()) {
          maker.Number(field, i->get());
        } else {
          maker.Wrong(field);
        }
      }
      entries.push_back(maker.Finish(fmt::format("key-{}", entries.size() + 1)));
    }
  }
  return entries;
}

std::vector<KeyEntry> FromLines(std::string_view text, const std::string& path) {
  std::vector<KeyEntry> entries;
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const size_t first = line.find_first_not_of(" \t\r"), last = line.find_last_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    line = line.substr(first, last - first + 1);
    const std::string name = fmt::format("key-{}", entries.size() + 1);
    entries.push_back(line.front() == '{' ? FromJson(line, fmt::format("{}: line {}", path, number), name)
                                          : KeyOf(line, name));
  }
  return entries;
}

}  // namespace

Result<std::vector<KeyEntry>> ParseKeys(std::string_view text, const std::string& path) {
  const bool toml = path.size() >= 5 && path.compare(path.size() - 5, 5, ".toml") == 0;
  try {
    std::vector<KeyEntry> entries = toml ? FromToml(text, path) : FromLines(text, path);
    std::set<std::string> names;
    std::set<io::Digest> digests;
    for (const KeyEntry& entry : entries) {
      if (!names.insert(entry.name).second) return Error(fmt::format("{}: two keys are named {}", path, entry.name));
      if (!digests.insert(entry.digest).second)
        return Error(fmt::format("{}: the key of {} is there twice", path, entry.name));
    }
    return entries;
  } catch (const Error& e) {
    return e;
  }
}

std::vector<KeyEntry> ReadKeyFile(const std::string& path) {
  std::vector<KeyEntry> entries = ParseKeys(io::ReadFile(path, kMaxFile).Value(), path).Value();
  if (entries.empty()) throw Error("no API key in the file", path, "a key a line, or tables [[key]] in a .toml file");
  return entries;
}

}  // namespace fathom::server
