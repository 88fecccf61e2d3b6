// UTF-8. Text that comes from outside is checked by IsUtf8 or goes through Utf8Lossy, which puts one U+FFFD for each
// maximal invalid part (Unicode 16, section 3.9, "substitution of maximal subparts"), as Rust's String::from_utf8_lossy
// does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fathom {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// What stands at the head of some bytes: a character, an invalid part to be replaced as a whole, or the beginning of a
// character that the end cut off (`incomplete`: also an invalid part, unless more bytes follow).
struct Utf8Part {
  int length;
  bool valid;
  bool incomplete;
};
Utf8Part NextUtf8Part(std::string_view bytes);  // bytes must not be empty

bool IsUtf8(std::string_view bytes);
std::string Utf8Lossy(std::string_view bytes);
void AppendUtf8(uint32_t code_point, std::string& out);

// One character of valid UTF-8.
struct CodePoint {
  uint32_t value;
  int length;
};
inline CodePoint DecodeUtf8(const char* text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text);
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xE0) return {(p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu), 2};
  if (p[0] < 0xF0) return {(p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu), 3};
  return {(p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu), 4};
}

}  // namespace fathom
