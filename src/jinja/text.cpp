#include "jinja/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/utf8.h"

namespace fathom::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

unsigned char Byte(std::string_view s, size_t at) { return static_cast<unsigned char>(s[at]); }

// Bytes of the character that begins with `lead`.
size_t CharBytes(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

bool In(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

// Blocks in which capital and small letter alternate; `first` is a capital.
bool Paired(char32_t c, bool* upper) {
  const auto alternate = [&](char32_t first) {
    *upper = (c - first) % 2 == 0;
    return true;
  };
  if (In(c, 0x100, 0x137) && c != 0x130 && c != 0x131) return alternate(0x100);
  if (In(c, 0x139, 0x148)) return alternate(0x139);
  if (In(c, 0x14A, 0x177)) return alternate(0x14A);
  if (In(c, 0x179, 0x17E)) return alternate(0x179);
  if (In(c, 0x460, 0x481)) return alternate(0x460);
  if (In(c, 0x48A, 0x4BF)) return alternate(0x48A);
  if (In(c, 0x4D0, 0x52F)) return alternate(0x4D0);
  return false;
}

bool IsPrintable(char32_t c) {
  if (c < 0x20 || In(c, 0x7F, 0xA0) || c == 0xAD) return false;
  return !(IsBlank(c) && c != ' ') && !In(c, 0x200B, 0x200F) && !In(c, 0x202A, 0x202E) && !In(c, 0x2060, 0x206F) &&
         !In(c, 0xE000, 0xF8FF) && c != 0xFEFF && !In(c, 0xFFF0, 0xFFFB) && (c & 0xFFFE) != 0xFFFE && c < 0xE0000;
}

template <class F>
std::string MapChars(std::string_view s, const F& map) {
  std::string out;
  out.reserve(s.size());
  for (size_t at = 0; at < s.size();) map(out, NextChar(s, at));
  return out;
}

}  // namespace

size_t CountChars(std::string_view s) {
  return static_cast<size_t>(
      std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

char32_t NextChar(std::string_view s, size_t& at) {
  const unsigned char lead = Byte(s, at);
  const size_t n = std::min(CharBytes(lead), s.size() - at);
  char32_t c = n == 1 ? lead : lead & (0xFFu >> (n + 1));
  for (size_t k = 1; k < n; ++k) c = c << 6 | (Byte(s, at + k) & 0x3Fu);
  at += n;
  return c;
}

void AppendChar(std::string& out, char32_t c) {
  AppendUtf8(In(c, 0xD800, 0xDFFF) || c > 0x10FFFF ? 0xFFFD : static_cast<uint32_t>(c), out);
}

std::vector<char32_t> ToChars(std::string_view s) {
  std::vector<char32_t> out;
  out.reserve(s.size());
  for (size_t at = 0; at < s.size();) out.push_back(NextChar(s, at));
  return out;
}

std::string FromChars(const std::vector<char32_t>& chars) {
  std::string out;
  for (const char32_t c : chars) AppendChar(out, c);
  return out;
}

bool IsBlank(char32_t c) {
  return In(c, 9, 13) || In(c, 0x1C, 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || In(c, 0x2000, 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

char32_t ToLower(char32_t c) {
  bool upper = false;
  if (In(c, 'A', 'Z')) return c + 32;
  if (c < 0xC0) return c;
  if (In(c, 0xC0, 0xDE) && c != 0xD7) return c + 32;
  if (c == 0x178) return 0xFF;
  if (Paired(c, &upper)) return upper ? c + 1 : c;
  if (c == 0x386) return 0x3AC;
  if (In(c, 0x388, 0x38A)) return c + 37;
  if (c == 0x38C) return 0x3CC;
  if (c == 0x38E || c == 0x38F) return c + 63;
  if (In(c, 0x391, 0x3AB) && c != 0x3A2) return c + 32;
  if (In(c, 0x400, 0x40F)) return c + 80;
  if (In(c, 0x410, 0x42F)) return c + 32;
  return c;
}

char32_t ToUpper(char32_t c) {
  bool upper = false;
  if (In(c, 'a', 'z')) return c - 32;
  if (c == 0xB5) return 0x39C;
  if (c < 0xE0) return c;
  if (In(c, 0xE0, 0xFE) && c != 0xF7) return c - 32;
  if (c == 0xFF) return 0x178;
  if (Paired(c, &upper)) return upper ? c : c - 1;
  if (c == 0x3AC) return 0x386;
  if (In(c, 0x3AD, 0x3AF)) return c - 37;
  if (c == 0x3C2) return 0x3A3;
  if (In(c, 0x3B1, 0x3CB)) return c - 32;
  if (c == 0x3CC) return 0x38C;
  if (c == 0x3CD || c == 0x3CE) return c - 63;
  if (In(c, 0x430, 0x44F)) return c - 32;
  if (In(c, 0x450, 0x45F)) return c - 80;
  return c;
}

bool IsUpper(char32_t c) { return ToLower(c) != c; }
bool IsLower(char32_t c) { return ToUpper(c) != c || c == 0xDF || c == 0xAA || c == 0xBA; }
bool IsLetter(char32_t c) {
  if (IsUpper(c) || IsLower(c)) return true;
  // Scripts without case; enough to tell a letter from a sign.
  return In(c, 0x5D0, 0x5EA) || In(c, 0x620, 0x64A) || In(c, 0x904, 0x939) || In(c, 0xE01, 0xE30) ||
         In(c, 0x3041, 0x3096) || In(c, 0x30A1, 0x30FA) || In(c, 0x3400, 0x4DBF) || In(c, 0x4E00, 0x9FFF) ||
         In(c, 0xAC00, 0xD7A3) || In(c, 0x20000, 0x2FA1F);
}

std::string Upper(std::string_view s) {
  return MapChars(s,
                  [](std::string& out, char32_t c) { c == 0xDF ? out += "SS" : (AppendChar(out, ToUpper(c)), out); });
}
std::string Lower(std::string_view s) {
  return MapChars(s, [](std::string& out, char32_t c) { AppendChar(out, ToLower(c)); });
}
std::string Capitalize(std::string_view s) {
  bool first = true;
  return MapChars(
      s, [&](std::string& out, char32_t c) { AppendChar(out, std::exchange(first, false) ? ToUpper(c) : ToLower(c)); });
}
std::string Title(std::string_view s) {
  bool inside = false;
  return MapChars(s, [&](std::string& out, char32_t c) {
    AppendChar(out, inside ? ToLower(c) : ToUpper(c));
    inside = IsUpper(c) || IsLower(c);
  });
}

namespace {

template <class F>
std::string_view StripIf(std::string_view s, Side side, const F& drop) {
  if (side != Side::kRight) {
    for (size_t at = 0; at < s.size();) {
      const size_t begin = at;
      if (!drop(NextChar(s, at))) {
        s.remove_prefix(begin);
        break;
      }
      if (at == s.size()) return {};
    }
  }
  if (side != Side::kLeft) {
    while (!s.empty()) {
      size_t begin = s.size() - 1;
      while (begin > 0 && (Byte(s, begin) & 0xC0) == 0x80) --begin;
      size_t at = begin;
      if (!drop(NextChar(s, at))) break;
      s = s.substr(0, begin);
    }
  }
  return s;
}

}  // namespace

std::string_view Strip(std::string_view s, Side side) { return StripIf(s, side, IsBlank); }

std::string_view Strip(std::string_view s, std::string_view chars, Side side) {
  const std::vector<char32_t> set = ToChars(chars);
  return StripIf(s, side, [&](char32_t c) { return std::find(set.begin(), set.end(), c) != set.end(); });
}

std::vector<std::string_view> Split(std::string_view s, std::string_view separator, int64_t most) {
  std::vector<std::string_view> out;
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    const size_t at = s.find(separator);
    if (at == kNone) break;
    out.push_back(s.substr(0, at));
    s.remove_prefix(at + separator.size());
  }
  out.push_back(s);
  return out;
}

std::vector<std::string_view> SplitFromRight(std::string_view s, std::string_view separator, int64_t most) {
  std::vector<std::string_view> out;
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    const size_t at = s.rfind(separator);
    if (at == kNone) break;
    out.push_back(s.substr(at + separator.size()));
    s = s.substr(0, at);
  }
  out.push_back(s);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> SplitBlanks(std::string_view s, int64_t most, bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t at = 0, begin = kNone; at <= s.size();) {
    const size_t here = at;
    const bool blank = at == s.size() || IsBlank(NextChar(s, at));
    if (!blank && begin == kNone) begin = here;
    if (blank && begin != kNone) words.emplace_back(begin, here), begin = kNone;
    if (here == s.size()) break;
  }
  std::vector<std::string_view> out;
  const size_t n = words.size(), cuts = most < 0 ? n : static_cast<size_t>(most);
  if (n <= cuts) {
    for (const auto& [b, e] : words) out.push_back(s.substr(b, e - b));
    return out;
  }
  // What is left over keeps the blanks within it and at its outer end.
  if (from_right) {
    out.push_back(s.substr(0, words[n - 1 - cuts].second));
    for (size_t i = n - cuts; i < n; ++i) out.push_back(s.substr(words[i].first, words[i].second - words[i].first));
  } else {
    for (size_t i = 0; i < cuts; ++i) out.push_back(s.substr(words[i].first, words[i].second - words[i].first));
    out.push_back(s.substr(words[cuts].first));
  }
  return out;
}

std::vector<std::string_view> SplitLines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> out;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const size_t here = at;
    const char32_t c = NextChar(s, at);
    if (!In(c, 10, 13) && !In(c, 0x1C, 0x1E) && c != 0x85 && c != 0x2028 && c != 0x2029) continue;
    if (c == '\r' && at < s.size() && s[at] == '\n') ++at;
    out.push_back(s.substr(begin, (keep_ends ? at : here) - begin));
    begin = at;
  }
  if (begin < s.size()) out.push_back(s.substr(begin));
  return out;
}

// The shortest digits that read back the same; scientific below 1e-4 and from 1e16 on.
std::string FloatText(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::scientific).ptr;  // -d.ddde+XX
  std::string_view s(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (s.front() == '-') sign = "-", s.remove_prefix(1);
  const size_t e = s.find('e');
  std::string digits(s.substr(0, e));
  if (digits.size() > 1) digits.erase(1, 1);  // the point
  int exponent = 0;
  std::from_chars(s.data() + e + (s[e + 1] == '+' ? 2 : 1), s.data() + s.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string QuotePython(std::string_view s) {
  const char quote = s.find('\'') != kNone && s.find('"') == kNone ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < s.size();) {
    const char32_t c = NextChar(s, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      AppendChar(out, c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      AppendChar(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else {
      out += c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                         : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return out + quote;
}

std::string QuoteJson(std::string_view s, bool ensure_ascii) {
  std::string out = "\"";
  const auto escape = [&](uint32_t unit) { fmt::format_to(std::back_inserter(out), "\\u{:04x}", unit); };
  for (size_t at = 0; at < s.size();) {
    const unsigned char byte = Byte(s, at);
    if (byte >= 0x80 && ensure_ascii) {
      const char32_t c = NextChar(s, at);
      if (c < 0x10000) {
        escape(c);
      } else {
        escape(0xD800 + ((c - 0x10000) >> 10));
        escape(0xDC00 + ((c - 0x10000) & 0x3FF));
      }
      continue;
    }
    ++at;
    constexpr std::string_view kNamed = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
    if (const size_t named = kNamed.find(static_cast<char>(byte)); named != kNone) {
      out += '\\';
      out += kLetters[named];
    } else if (byte < 0x20) {
      escape(byte);
    } else {
      out += static_cast<char>(byte);
    }
  }
  return out + '"';
}

}  // namespace fathom::jinja
