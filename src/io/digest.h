// Digests of bytes. Sha256 names content: nobody can make two that agree. Checksum64 (XXH3) finds damage, at the speed
// of memory; it is no defence against people.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fathom::io {

using Digest = std::array<uint8_t, 32>;
Digest Sha256(std::span<const std::byte> bytes);
Digest Sha256(std::string_view text);
std::string Hex(std::span<const uint8_t> bytes);

uint64_t Checksum64(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace fathom::io
