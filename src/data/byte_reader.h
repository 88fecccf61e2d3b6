// The bytes of a file from front to back, decompressed on the way. Memory is bounded whatever the file says: zlib's
// window is 32 KiB, zstd's at most 128 MiB (larger ones are refused, as the zstd program does without --long).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/error.h"

namespace fathom::data {

enum class Compression : uint8_t { kNone, kGzip, kZstd };

// By the end of the name: .gz, .zst; the rest of the name in *stem.
Compression CompressionOf(std::string_view path, std::string_view* stem);

class ByteReader {
 public:
  static Result<std::unique_ptr<ByteReader>> Open(const std::string& path, Compression compression);
  virtual ~ByteReader() = default;
  // The next bytes, at most `count` of them; 0 only at the end. An Error for a file that ends too early or is corrupt;
  // nothing is read after one.
  virtual Result<int64_t> Read(char* out, int64_t count) = 0;
  // Leaves out `count` bytes (fewer where the file ends). A compressed file is decompressed for that.
  virtual Result<int64_t> Skip(int64_t count);
};

}  // namespace fathom::data
