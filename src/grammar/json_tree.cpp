#include "grammar/json_tree.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fathom::grammar {
namespace {

// nlohmann's events into a JsonTree. An object's members are sorted when it ends.
class TreeReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonTree root;
  std::string fault;

  bool null() override { return Put(JsonTree{}); }
  bool boolean(bool value) override {
    JsonTree tree(JsonTree::Kind::kBool);
    tree.truth = value;
    return Put(std::move(tree));
  }
  bool number_integer(number_integer_t value) override { return Number(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Number(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return Number(text); }
  bool string(string_t& value) override { return Put(JsonTree(JsonTree::Kind::kString, std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return Open(JsonTree::Kind::kObject); }
  bool start_array(std::size_t) override { return Open(JsonTree::Kind::kArray); }
  bool key(string_t& name) override {
    keys_.back() = std::move(name);
    return true;
  }
  bool end_object() override {
    auto& members = open_.back().members;
    std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    size_t kept = 0;
    for (size_t i = 0; i < members.size(); i++) {
      if (i + 1 < members.size() && members[i + 1].first == members[i].first) continue;
      if (kept != i) members[kept] = std::move(members[i]);
      kept++;
    }
    members.resize(kept);
    return Close();
  }
  bool end_array() override { return Close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    fault = "no JSON at byte " + std::to_string(position);
    return false;
  }

 private:
  bool Number(std::string text) { return Put(JsonTree(JsonTree::Kind::kNumber, std::move(text))); }
  bool Put(JsonTree value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (open_.back().IsArray()) {
      open_.back().items.push_back(std::move(value));
    } else {
      open_.back().members.emplace_back(std::move(keys_.back()), std::move(value));
    }
    return true;
  }
  bool Open(JsonTree::Kind kind) {
    if (open_.size() >= kMaxSchemaDepth) {
      fault = "nested deeper than " + std::to_string(kMaxSchemaDepth);
      return false;
    }
    open_.emplace_back(kind);
    keys_.emplace_back();
    return true;
  }
  bool Close() {
    JsonTree value = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return Put(std::move(value));
  }

  std::vector<JsonTree> open_;
  std::vector<std::string> keys_;  // of each that is open, the name read last
};

}  // namespace

JsonTree::JsonTree(Kind kind, std::string text) : kind(kind), text(std::move(text)) {}
JsonTree::JsonTree(const JsonTree&) = default;
JsonTree::JsonTree(JsonTree&&) noexcept = default;
JsonTree& JsonTree::operator=(const JsonTree&) = default;
JsonTree& JsonTree::operator=(JsonTree&&) noexcept = default;
JsonTree::~JsonTree() = default;

const JsonTree* JsonTree::Find(std::string_view name) const {
  const auto at = std::lower_bound(members.begin(), members.end(), name,
                                   [](const auto& member, std::string_view wanted) { return member.first < wanted; });
  return at != members.end() && at->first == name ? &at->second : nullptr;
}

Result<JsonTree> ReadJsonTree(std::string_view json) {
  if (json.size() > kMaxSchemaBytes) {
    return Error{"a JSON text is too long", std::to_string(json.size()) + " bytes",
                 "at most " + std::to_string(kMaxSchemaBytes)};
  }
  TreeReader reader;
  if (!nlohmann::json::sax_parse(json, &reader)) return Error{"a JSON text cannot be read", reader.fault};
  return std::move(reader.root);
}

std::u32string CharactersOf(std::string_view utf8) {
  std::u32string characters;
  for (size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<uint8_t>(utf8[i]);
    const int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    uint32_t character = more == 0 ? lead : lead & (0x3Fu >> more);
    for (int k = 1; k <= more && i + static_cast<size_t>(k) < utf8.size(); k++) {
      character = character << 6 | (static_cast<uint8_t>(utf8[i + static_cast<size_t>(k)]) & 0x3Fu);
    }
    characters.push_back(character);
    i += static_cast<size_t>(more) + 1;
  }
  return characters;
}

}  // namespace fathom::grammar
