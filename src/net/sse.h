// Server-sent events (the WHATWG HTML standard, section 9.2): written, and read from bytes as they come.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fathom::net {

struct SseEvent {
  std::string event;  // empty: "message"
  std::string data;   // lines are joined with \n
  std::string id;     // the last one given in the stream
};

// An event's bytes: each line of `data` (ended by \n, \r\n or \r) a field of its own, then an empty line.
void AppendSse(std::string& out, std::string_view data, std::string_view event = {});
// A line that readers ignore: keeps a connection alive. `text` without line breaks.
void AppendSseComment(std::string& out, std::string_view text);

class SseParser {
 public:
  using OnEvent = std::function<void(const SseEvent& event)>;
  // An event with more bytes than that ends the parsing.
  explicit SseParser(int64_t max_event_bytes = 16 << 20) : max_bytes_(static_cast<size_t>(max_event_bytes)) {}

  // Calls on_event for each event that these bytes complete. False, from then on, after one that is too large.
  bool Feed(std::string_view bytes, const OnEvent& on_event);

 private:
  void Line(std::string_view line, const OnEvent& on_event);

  size_t max_bytes_;
  std::string line_;  // the beginning of one
  SseEvent event_;
  bool has_data_ = false;
  bool first_line_ = true;     // may begin with a byte order mark
  bool after_return_ = false;  // a \n that follows belongs to the same line break
  bool failed_ = false;
};

}  // namespace fathom::net
