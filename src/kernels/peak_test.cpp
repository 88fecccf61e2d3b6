#include "kernels/peak.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/tensor.h"
#include "kernels/peak_loops.h"

namespace fathom::kernels {
namespace {

TEST(Peak, MedianOfOddEvenAndNothing) {
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
}

// Every loop must touch every byte, else its bandwidth is a fiction: one changed byte anywhere changes the xor.
TEST(Peak, EveryReadLoopReadsEveryLine) {
  std::vector<peak::ReadFn> loops = {peak::ReadPlain};
#if defined(__x86_64__)
  if (MachineHas(Isa::kAvx2)) loops.push_back(peak::ReadAvx2);
  if (MachineHas(Isa::kAvx512)) loops.push_back(peak::ReadAvx512);
#endif
  for (int64_t lines : {1, 2, 7, 64, 131}) {
    Buffer buffer(lines * peak::kLine);
    for (peak::ReadFn read : loops) {
      for (int streams : {1, 2, 4}) {
        for (bool prefetch : {false, true}) {
          ASSERT_EQ(read(buffer.data(), buffer.bytes(), streams, prefetch), 0u);
          for (int64_t i = 0; i < buffer.bytes(); i += 61) {
            buffer.data<uint8_t>()[i] = 1;
            EXPECT_NE(read(buffer.data(), buffer.bytes(), streams, prefetch), 0u)
                << "byte " << i << " of " << lines << " lines, " << streams << " streams";
            buffer.data<uint8_t>()[i] = 0;
          }
        }
      }
    }
  }
}

TEST(Peak, MetersGiveFiguresOfThisMachine) {
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = BestIsa(), .verbose = {}};
  Buffer a(3 << 20), b(100);
  // Spans that share no alignment with cache lines, one too short to hold a line.
  const std::vector<ByteSpan> spans = {
      {a.data() + 3, (1 << 20) + 7}, {b.data() + 1, 60}, {a.data() + (2 << 20) + 1, 1 << 19}};
  EXPECT_EQ(TotalBytes(spans), (1 << 20) + 7 + 60 + (1 << 19));
  ReadMeter read(ctx);
  const int patterns = read.patterns();
  EXPECT_EQ(patterns, 12);
  EXPECT_EQ(read.gb_s(), 0);
  for (int i = 0; i < patterns; ++i) EXPECT_GT(read.Pass(spans), 0);
  read.Narrow();
  EXPECT_EQ(read.patterns(), 3);
  EXPECT_GT(read.gb_s(), 0);
  ArithmeticMeter arithmetic(ctx);
  arithmetic.Piece(0.2);
  const Peaks peaks = Summary(read, arithmetic);
  EXPECT_GT(peaks.f32_tflop_s, 0);
  EXPECT_GE(peaks.bf16_tflop_s, peaks.f32_tflop_s);  // falls back to it
  EXPECT_FALSE(peaks.bf16_unit.empty());
  EXPECT_FALSE(peaks.int8_unit.empty());
  read.Forget();
  EXPECT_EQ(read.gb_s(), 0);
  EXPECT_EQ(read.patterns(), 3);
}

}  // namespace
}  // namespace fathom::kernels
