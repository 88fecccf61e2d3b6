#include "eval/text_loss.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom::eval {
namespace {

// Every id but the first is scored once, from half a window of context or from all there is.
TEST(TextWindows, ScoreEachTokenOnce) {
  for (const int64_t window : {2, 7, 8, 512}) {
    for (const int64_t ids : {0, 1, 2, 3, 7, 8, 9, 12, 13, 100, 513, 514, 1400}) {
      int64_t next = 1;
      for (const TextWindow& w : TextWindows(ids, window)) {
        EXPECT_EQ(w.scored, next);
        EXPECT_GE(w.length, 1);
        EXPECT_LE(w.length, window);
        EXPECT_LE(w.begin + w.length, ids - 1);
        EXPECT_GE(w.scored - w.begin, w.begin == 0 ? 1 : window / 2);
        next = w.begin + w.length + 1;
      }
      EXPECT_EQ(next, std::max<int64_t>(ids, 1)) << ids << " ids in windows of " << window;
    }
  }
}

TEST(TextLoss, Figures) {
  TextLoss a{.documents = 1, .tokens = 10, .bytes = 40, .nats = 20, .mtp_nats = 9, .mtp_tokens = 9, .mtp_agreed = 6};
  a.Add({.documents = 1, .tokens = 10, .bytes = 40, .nats = 40, .mtp_nats = 18, .mtp_tokens = 9, .mtp_agreed = 3});
  EXPECT_EQ(a.documents, 2);
  EXPECT_DOUBLE_EQ(a.nats_per_token(), 3);
  EXPECT_DOUBLE_EQ(a.perplexity(), std::exp(3.0));
  EXPECT_DOUBLE_EQ(a.bits_per_byte(), 60.0 / 80 / std::log(2.0));
  EXPECT_DOUBLE_EQ(a.byte_perplexity(), std::exp(0.75));
  EXPECT_DOUBLE_EQ(a.mtp_nats_per_token(), 1.5);
  EXPECT_DOUBLE_EQ(a.mtp_agreement(), 0.5);
  EXPECT_EQ(TextLoss{}.bits_per_byte(), 0);
}

}  // namespace
}  // namespace fathom::eval
