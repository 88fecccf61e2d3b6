#include "report/png.h"

#include <zlib.h>

#include "core/error.h"

namespace fathom::report {
namespace {

void AppendBigEndian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
}

void AppendChunk(std::string& out, const std::string& type, const std::string& data) {
  AppendBigEndian(out, static_cast<uint32_t>(data.size()));
  const std::string body = type + data;
  out += body;
  AppendBigEndian(out, static_cast<uint32_t>(
                           crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}

}  // namespace

std::string EncodePng(const std::vector<uint8_t>& pixels, int64_t width, int64_t height,
                      const std::vector<Rgba>& palette) {
  constexpr int64_t kMaxSide = 1 << 15;
  FATHOM_CHECK(width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide);
  FATHOM_CHECK(static_cast<int64_t>(pixels.size()) == width * height && !palette.empty() && palette.size() <= 256);
  std::string rows;
  for (int64_t y = 0; y < height; ++y) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(pixels.data()) + y * width, static_cast<size_t>(width));
  }
  uLongf bytes = compressBound(static_cast<uLong>(rows.size()));
  std::string packed(bytes, '\0');
  const int code = compress2(reinterpret_cast<Bytef*>(packed.data()), &bytes,
                             reinterpret_cast<const Bytef*>(rows.data()), static_cast<uLong>(rows.size()), 9);
  FATHOM_CHECK(code == Z_OK);
  packed.resize(bytes);

  std::string header, colours, alphas, png = "\x89PNG\r\n\x1A\n";
  AppendBigEndian(header, static_cast<uint32_t>(width));
  AppendBigEndian(header, static_cast<uint32_t>(height));
  header += std::string("\x08\x03\x00\x00\x00", 5);  // 8 bits, palette, deflate, filters of type 0, not interlaced
  for (const Rgba& c : palette) {
    colours.append(reinterpret_cast<const char*>(c.data()), 3);
    alphas += static_cast<char>(c[3]);
  }
  AppendChunk(png, "IHDR", header);
  AppendChunk(png, "PLTE", colours);
  AppendChunk(png, "tRNS", alphas);
  AppendChunk(png, "IDAT", packed);
  AppendChunk(png, "IEND", "");
  return png;
}

std::string DataUri(const std::string& mime_type, const std::string& bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out = "data:" + mime_type + ";base64,";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) {
      out += i + j < bytes.size() + 1 ? kDigits[group >> (18 - 6 * static_cast<int>(j)) & 63] : '=';
    }
  }
  return out;
}

}  // namespace fathom::report
