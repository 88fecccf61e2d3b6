// Any bytes as a stream of events: cut into pieces they give the same events, within the limit, and an event written
// again is read as it was.
#include <cstdlib>
#include <vector>

#include "net/sse.h"

using namespace fathom::net;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kLimit = 256;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> whole, pieces;
  const auto keep = [](std::vector<std::string>& to) {
    return [&to](const SseEvent& e) {
      if (e.data.size() > kLimit || e.event.size() > kLimit) std::abort();
      to.push_back(e.event + '\n' + e.data);
    };
  };
  SseParser one(kLimit), many(kLimit);
  one.Feed(bytes, keep(whole));
  const size_t piece = size > 0 ? 1 + data[0] % 7 : 1;
  for (size_t at = 0; at < size; at += piece) many.Feed(bytes.substr(at, piece), keep(pieces));
  // A line beyond the limit is met earlier or later in its own event, never in another.
  if (whole != pieces) std::abort();
  for (const std::string& text : whole) {
    const std::string_view event = std::string_view(text).substr(0, text.find('\n'));
    const std::string_view body = std::string_view(text).substr(event.size() + 1);
    std::string written;
    AppendSse(written, body, event);
    bool read = false;
    SseParser(1 << 20).Feed(written, [&](const SseEvent& e) { read = e.data == body && e.event == event; });
    if (!read) std::abort();
  }
  return 0;
}
