// Of what states are found again by. Not for what an attacker may choose keys for without being bounded otherwise.
#pragma once

#include <cstdint>

namespace fathom::grammar {

inline constexpr uint64_t kHashSeed = 0x9E3779B97F4A7C15u;

inline uint64_t HashWord(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
  return hash ^ hash >> 32;
}

}  // namespace fathom::grammar
