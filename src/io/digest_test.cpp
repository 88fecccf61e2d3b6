#include "io/digest.h"

#include <gtest/gtest.h>

#include <vector>

namespace fathom::io {
namespace {

TEST(Digest, Sha256IsTheStandards) {  // FIPS 180-4's examples
  EXPECT_EQ(Hex(Sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex(Sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Digest, ChecksumSeesEveryBitAndTheSeed) {
  std::vector<std::byte> bytes(1000);
  const uint64_t whole = Checksum64(bytes);
  EXPECT_EQ(whole, Checksum64(bytes));
  EXPECT_NE(whole, Checksum64(bytes, 1));
  EXPECT_NE(whole, Checksum64(std::span(bytes).first(999)));
  for (size_t i = 0; i < 8 * bytes.size(); ++i) {
    bytes[i / 8] ^= std::byte{1} << i % 8;
    EXPECT_NE(Checksum64(bytes), whole) << "bit " << i;
    bytes[i / 8] ^= std::byte{1} << i % 8;
  }
}

}  // namespace
}  // namespace fathom::io
