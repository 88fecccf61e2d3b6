#include "net/sse.h"

#include <gtest/gtest.h>

#include <vector>

namespace fathom::net {
namespace {

std::vector<std::string> Parse(std::string_view bytes, size_t piece, int64_t limit = 1000, bool* ok = nullptr) {
  SseParser parser(limit);
  std::vector<std::string> events;
  bool good = true;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    good = parser.Feed(bytes.substr(at, piece),
                       [&](const SseEvent& e) { events.push_back(e.event + "|" + e.data + "|" + e.id); });
  }
  if (ok != nullptr) *ok = good;
  return events;
}

TEST(Sse, FieldsLineBreaksAndComments) {
  const std::string bytes =
      "\xEF\xBB\xBF: hello\n"
      "data: {\"a\":1}\n\n"
      "data:no space\r\ndata:  two\r\n\r\n"
      "event: delta\rid: 7\rdata\rdata: x\r\r"
      "event: without data\n\n"
      "retry: 10\nunknown: field\ndata: [DONE]\n\n"
      "data: incomplete\n";
  const std::vector<std::string> expected = {"|{\"a\":1}|", "|no space\n two|", "delta|\nx|7", "|[DONE]|7"};
  for (size_t piece = 1; piece <= bytes.size(); ++piece) EXPECT_EQ(Parse(bytes, piece), expected) << piece;
}

TEST(Sse, WrittenAndReadAgain) {
  for (const std::string data : {"", "x", "a\nb", "\n", "a\n", "\n\na", ": no comment", " space"}) {
    std::string bytes;
    AppendSseComment(bytes, "keep-alive");
    AppendSse(bytes, data, "e");
    EXPECT_EQ(Parse(bytes, 3), std::vector<std::string>{"e|" + data + "|"}) << bytes;
  }
  std::string bytes;
  AppendSse(bytes, "a\r\nb\rc");
  EXPECT_EQ(bytes, "data: a\ndata: b\ndata: c\n\n");
}

TEST(Sse, TooLargeEventsEndIt) {
  bool ok = true;
  EXPECT_EQ(Parse("data: a\n\n" + std::string(60, 'x'), 5, 50, &ok).size(), 1u);
  EXPECT_FALSE(ok);
  std::string lines = "data: a\n\n";  // no line is long
  for (int i = 0; i < 20; ++i) lines += "data: 1234\n";
  EXPECT_EQ(Parse(lines + "\n\ndata: later\n\n", 5, 50, &ok).size(), 1u);
  EXPECT_FALSE(ok);
  EXPECT_EQ(Parse("data: a\n\n" + std::string(40, 'x') + "\n\ndata: b\n\n", 5, 50, &ok).size(), 2u);
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace fathom::net
