// 64-bit hashes of text that are the same on every machine and in every run: they name documents and corpora.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace fathom::data {

// Every bit of x reaches every bit of the result (the finaliser of SplitMix64: Steele et al., OOPSLA 2014).
inline uint64_t MixBits(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

inline uint64_t HashPair(uint64_t a, uint64_t b) { return MixBits(MixBits(a + 0x9E3779B97F4A7C15u) ^ b); }

// Eight bytes at a time, little-endian.
inline uint64_t HashText(std::string_view text, uint64_t seed = 0) {
  uint64_t hash = HashPair(seed, text.size());
  while (!text.empty()) {
    const size_t count = text.size() < 8 ? text.size() : 8;
    uint64_t word = 0;
    std::memcpy(&word, text.data(), count);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
    text.remove_prefix(count);
  }
  return MixBits(hash);
}

}  // namespace fathom::data
