#include "server/json_text.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "core/utf8.h"

namespace fathom::server {

void AppendQuoted(std::string& out, std::string_view text) {
  if (!IsUtf8(text)) return AppendQuoted(out, Utf8Lossy(text));
  out += '"';
  size_t copied = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
    out.append(text, copied, i - copied);
    copied = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    }
  }
  out.append(text, copied);
  out += '"';
}

std::string Quoted(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  AppendQuoted(out, text);
  return out;
}

void AppendLogprob(std::string& out, float value) {
  constexpr float kNone = -9999.0f;
  if (std::isnan(value)) {
    out += "null";
  } else {
    fmt::format_to(std::back_inserter(out), "{}", std::max(value, kNone));
  }
}

}  // namespace fathom::server
