#include "cache/block_key.h"

#include <string>

namespace fathom::cache {
namespace {

void AppendNumber(std::string& text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i);
}

}  // namespace

// The first byte keeps roots and blocks apart.
BlockKey RootKey(std::string_view identity, uint64_t scope) {
  std::string text("R");
  AppendNumber(text, scope, 8);
  text += identity;
  return {io::Sha256(text)};
}

BlockKey NextKey(const BlockKey& before, std::span<const int32_t> tokens) {
  std::string text("B");
  text.reserve(1 + before.bytes.size() + 4 * tokens.size());
  text.append(before.bytes.begin(), before.bytes.end());
  for (int32_t token : tokens) AppendNumber(text, static_cast<uint32_t>(token), 4);
  return {io::Sha256(text)};
}

}  // namespace fathom::cache
