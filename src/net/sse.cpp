#include "net/sse.h"

namespace fathom::net {
namespace {

// The line at the beginning of text, which is moved behind the line's break.
std::string_view NextLine(std::string_view& text) {
  const size_t end = text.find_first_of("\r\n");
  const std::string_view line = text.substr(0, end);
  if (end == std::string_view::npos) {
    text = {};
  } else {
    text.remove_prefix(end + (text.substr(end, 2) == "\r\n" ? 2 : 1));
  }
  return line;
}

}  // namespace

void AppendSse(std::string& out, std::string_view data, std::string_view event) {
  if (!event.empty()) {
    out += "event: ";
    out += event;
    out += '\n';
  }
  bool more;  // a break at the end is followed by an empty line of data
  do {
    const size_t before = data.size();
    const std::string_view line = NextLine(data);
    more = line.size() < before;
    out += "data: ";
    out += line;
    out += '\n';
  } while (more);
  out += '\n';
}

void AppendSseComment(std::string& out, std::string_view text) {
  out += ": ";
  out += text;
  out += "\n\n";
}

bool SseParser::Feed(std::string_view bytes, const OnEvent& on_event) {
  while (!failed_ && !bytes.empty()) {
    if (after_return_ && bytes.front() == '\n') bytes.remove_prefix(1);
    after_return_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    const std::string_view part = bytes.substr(0, end);
    if (line_.size() + event_.data.size() + part.size() > max_bytes_) {
      failed_ = true;
      line_ = event_.data = {};
      break;
    }
    if (end == std::string_view::npos) {
      line_ += part;
      break;
    }
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (line_.empty()) {
      Line(part, on_event);
    } else {
      line_ += part;
      Line(line_, on_event);
      line_.clear();
    }
  }
  return !failed_;
}

void SseParser::Line(std::string_view line, const OnEvent& on_event) {
  if (first_line_ && line.substr(0, 3) == "\xEF\xBB\xBF") line.remove_prefix(3);
  first_line_ = false;
  if (line.empty()) {
    if (has_data_) on_event(event_);
    event_.event.clear();
    event_.data.clear();
    has_data_ = false;
    return;
  }
  const size_t colon = line.find(':');
  if (colon == 0) return;  // a comment
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (field == "data") {
    if (has_data_) event_.data += '\n';
    event_.data += value;
    has_data_ = true;
  } else if (field == "event") {
    event_.event = value;
  } else if (field == "id" && value.find('\0') == std::string_view::npos) {
    event_.id = value;
  }
}

}  // namespace fathom::net
