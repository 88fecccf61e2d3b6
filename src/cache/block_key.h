// The name of a block of latent rows: a chain of digests over what the rows depend on, the model and how it is
// computed first, then the tokens, block after block. Two prefixes have the same key only if all of that is the same,
// so a block that is found under its key needs no other comparison.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "io/digest.h"

namespace fathom::cache {

struct BlockKey {
  io::Digest bytes{};
  bool operator==(const BlockKey& o) const { return bytes == o.bytes; }
  bool operator<(const BlockKey& o) const { return bytes < o.bytes; }
};

struct BlockKeyHash {
  size_t operator()(const BlockKey& key) const {  // a digest's bytes are as good as any hash of them
    size_t h;
    std::memcpy(&h, key.bytes.data(), sizeof h);
    return h;
  }
};

// What comes before the first block. `identity` says all that rows depend on besides tokens; prompts of different
// scopes share nothing.
BlockKey RootKey(std::string_view identity, uint64_t scope);
BlockKey NextKey(const BlockKey& before, std::span<const int32_t> tokens);

}  // namespace fathom::cache
