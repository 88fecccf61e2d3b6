#include "tokenizer/piece_counter.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/utf8.h"
#include "tokenizer/published_scanner.h"

namespace fathom::tokenizer {
namespace {

using Counts = std::map<std::string, int64_t>;

Counts CountsOf(PieceCounter& counter) {
  Counts out;
  for (const PieceCount& p : counter.Pieces()) {
    EXPECT_TRUE(out.emplace(p.bytes, p.count).second) << "listed twice: " << p.bytes;
  }
  return out;
}

// The specification: each document as a whole.
Counts CountWhole(const std::vector<std::string>& documents) {
  Counts out;
  for (const std::string& d : documents) {
    const std::string text = Utf8Lossy(d);
    const PublishedScanner scanner(text);
    for (const char *p = text.data(), *end = p + text.size(); p != end;) {
      const char* next = scanner.Next(p);
      ++out[std::string(p, next)];
      p = next;
    }
  }
  return out;
}

// Text with all places where it may be cut, and what looks like them.
std::string RandomDocument(Rng& rng, size_t bytes) {
  static const std::vector<std::string> parts = {
      "word", "Word", " ",      " a",     "\n",     "\n\n",   "\r\n",     "  ",  "\n ",  "\n\u3000",
      ".",    "\t",   "\u00a0", "\u2028", "\u0301", "\u200b", "\u0001",   "123", "。",   "。中文",
      "。a",  "国。", "国",     "カ",     "\n国",   "\né",    "\n\u1680", "!\n", "\xff", "\n\xe3\x80",
      "😀",    "é",    "\x85",   "-",      "'s",     "\n.",    "\n1",      "x y", "\n_",  "。\u5000"};
  std::string out;
  while (out.size() < bytes) out += parts[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(parts.size())))];
  return out;
}

TEST(PieceCounter, EqualsTheScannerOnWholeDocuments) {
  Rng rng(1, 0);
  std::vector<std::string> documents = {"", "a", "\n", RandomDocument(rng, 3 * PieceCounter::kSegment)};
  for (int i = 0; i < 300; ++i) documents.push_back(RandomDocument(rng, static_cast<size_t>(rng.NextBelow(400))));
  for (int i = 0; i < 12; ++i) documents.push_back(RandomDocument(rng, 5 * PieceCounter::kLongestSegment / 2));
  const Counts expected = CountWhole(documents);
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    PieceCounter counter(pool);
    for (const std::string& d : documents) {
      for (size_t at = 0; at < d.size();) {  // in parts that do not end where characters do
        const size_t n = static_cast<size_t>(1 + rng.NextBelow(d.size() > 1000 ? 100000 : 50));
        counter.Append(std::string_view(d).substr(at, n));
        at += std::min(n, d.size() - at);
      }
      counter.EndDocument();
    }
    EXPECT_EQ(counter.documents(), static_cast<int64_t>(documents.size()) - 1);
    EXPECT_GT(counter.repaired(), 0);
    EXPECT_EQ(CountsOf(counter), expected) << threads << " threads";
  }
}

TEST(PieceCounter, TextWithNoPlaceToCutIsCutBetweenCharacters) {
  std::string text;  // 8 MB of one letter of three bytes
  for (size_t i = 0; i < 8 * PieceCounter::kLongestSegment / 3; ++i) text += "ก";
  Counts before;
  for (const size_t step : {text.size(), size_t{100'003}}) {
    ThreadPool pool(2);
    PieceCounter counter(pool);
    for (size_t at = 0; at < text.size(); at += step) counter.Append(std::string_view(text).substr(at, step));
    counter.EndDocument();
    const Counts counts = CountsOf(counter);
    int64_t bytes = 0;
    for (const auto& [piece, count] : counts) {
      EXPECT_LE(piece.size(), PieceCounter::kLongestSegment);
      EXPECT_TRUE(IsUtf8(piece));
      bytes += static_cast<int64_t>(piece.size()) * count;
    }
    EXPECT_EQ(bytes, static_cast<int64_t>(text.size()));
    if (!before.empty()) {
      EXPECT_EQ(counts, before);
    }
    before = counts;
  }
}

}  // namespace
}  // namespace fathom::tokenizer
