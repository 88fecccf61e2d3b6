// What the tests of JSON schemas share: a tree back to compact text, numbers as they were written.
#pragma once

#include <string>

#include "grammar/json_tree.h"

namespace fathom::grammar {

inline std::string JsonString(const std::string& utf8) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : utf8) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20) {
      text += std::string("\\u00") + kHex[byte >> 4] + kHex[byte & 15];
    } else {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
  }
  return text + '"';
}

// Members in their order, or from the last to the first.
inline std::string CompactText(const JsonTree& tree, bool backwards = false) {
  switch (tree.kind) {
    case JsonTree::Kind::kNull:
      return "null";
    case JsonTree::Kind::kBool:
      return tree.truth ? "true" : "false";
    case JsonTree::Kind::kNumber:
      return tree.text;
    case JsonTree::Kind::kString:
      return JsonString(tree.text);
    case JsonTree::Kind::kArray: {
      std::string text = "[";
      for (const JsonTree& item : tree.items) text += (text.size() > 1 ? "," : "") + CompactText(item, backwards);
      return text + "]";
    }
    case JsonTree::Kind::kObject: {
      std::string text = "{";
      for (size_t i = 0; i < tree.members.size(); i++) {
        const auto& [name, value] = tree.members[backwards ? tree.members.size() - 1 - i : i];
        text += (text.size() > 1 ? "," : "") + JsonString(name) + ":" + CompactText(value, backwards);
      }
      return text + "}";
    }
  }
  return "";
}

}  // namespace fathom::grammar
