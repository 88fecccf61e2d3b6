#include "io/digest.h"

#include <openssl/evp.h>

#include "core/error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace fathom::io {

Digest Sha256(std::span<const std::byte> bytes) {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);  // fetching takes longer than a block
  Digest digest;
  unsigned length = 0;
  FATHOM_CHECK(sha256 && EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, sha256, nullptr) == 1 &&
               length == digest.size());
  return digest;
}

Digest Sha256(std::string_view text) { return Sha256(std::as_bytes(std::span(text))); }

std::string Hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t b : bytes) {
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

uint64_t Checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace fathom::io
