#include "plan/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace fathom::plan {
namespace {

using S = PipelineSchedule;

std::string Repeat(int times, const std::string& steps) {
  std::string out;
  for (int i = 0; i < times; ++i) out += (i > 0 ? " " : "") + steps;
  return out;
}

std::string Join(std::initializer_list<std::string> parts) {
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : " ") + p;
  return out;
}

// 8 ranks, 20 micro-batches: the outermost rank and a middle one, written out from the published list of steps.
TEST(Pipeline, DualPipesSteps) {
  EXPECT_EQ(ToString(Steps(S::kDualPipe, 8, 20, 0)),
            Join({Repeat(6, "F0"), "F0 F1", Repeat(3, "Bi1 W F1"), Repeat(3, "FB01 FB10"), Repeat(3, "B1 FB10"),
                  "B1 Bi0", Repeat(3, "W Bi0"), "W"}));
  EXPECT_EQ(ToString(Steps(S::kDualPipe, 8, 20, 3)), Join({Repeat(4, "F0 F1"), "F0 B1 FB10", Repeat(5, "FB01 FB10"),
                                                           "B1 B0 B1 B0 Bi1 Bi0 Bi1 Bi0", Repeat(4, "W")}));
}

// Every pass of every micro-batch once on each rank, each direction half of them, and W after its Bi.
TEST(Pipeline, EveryPassOnce) {
  for (const S schedule : {S::k1F1B, S::kZB1P, S::kDualPipe}) {
    for (const int64_t ranks : {1, 2, 4, 8, 16}) {
      for (const int64_t n : {2 * ranks, 2 * ranks + 6}) {
        for (int64_t rank = 0; rank < ranks; ++rank) {
          std::set<std::pair<int64_t, int64_t>> forward, input, weight;
          for (const Op& op : Steps(schedule, ranks, n, rank)) {
            const bool f = op.kind == OpKind::kForward || op.kind == OpKind::kOverlapped;
            const std::pair<int64_t, int64_t> there{op.forward.direction, op.forward.micro_batch};
            const std::pair<int64_t, int64_t> back{op.backward.direction, op.backward.micro_batch};
            if (f) {
              EXPECT_TRUE(forward.insert(there).second);
            }
            if (op.kind == OpKind::kForward) continue;
            if (op.kind == OpKind::kBackwardWeight) {
              EXPECT_TRUE(input.count(back));
            } else {
              EXPECT_TRUE(forward.count(back));
              EXPECT_TRUE(input.insert(back).second);
            }
            if (op.kind != OpKind::kBackwardInput) {
              EXPECT_TRUE(weight.insert(back).second);
            }
          }
          EXPECT_EQ(forward.size(), static_cast<size_t>(n));
          EXPECT_EQ(input, forward);
          EXPECT_EQ(weight, forward);
        }
      }
    }
  }
}

// F = 1, B = 2, W = 1, F&B = 3 and no time for messages: every rank waits as long as the formula says.
TEST(Pipeline, DualPipesBubbleAndMemory) {
  const PassTimes times;
  for (const int64_t ranks : {2, 4, 8, 16}) {
    EXPECT_EQ(Bubble(S::kDualPipe, ranks, times), static_cast<double>(ranks - 2));
    for (const int64_t n : {2 * ranks, 2 * ranks + 4, 120 + ranks}) {
      const Timeline line = Simulate(S::kDualPipe, ranks, n, times);
      EXPECT_EQ(line.end, static_cast<double>(3 * n + ranks - 2)) << ranks << " ranks, " << n;
      for (size_t r = 0; r < line.idle.size(); ++r) {
        EXPECT_EQ(line.idle[r], static_cast<double>(ranks - 2)) << ranks << " ranks, rank " << r;
        EXPECT_EQ(line.alive[r][0] + line.alive[r][1], ranks + 1) << ranks << " ranks, rank " << r;
      }
    }
  }
  EXPECT_EQ(Simulate(S::kDualPipe, 8, 20, times).end, 66);
  EXPECT_EQ(Simulate(S::kDualPipe, 16, 120, times).end, 374);
}

TEST(Pipeline, OneDirectionsBubbleAndMemory) {
  const PassTimes times;
  for (const int64_t ranks : {1, 2, 4, 8, 16}) {
    for (const S schedule : {S::k1F1B, S::kZB1P}) {
      const double bubble = static_cast<double>(ranks - 1) * (schedule == S::k1F1B ? 3 : 1);
      EXPECT_EQ(Bubble(schedule, ranks, times), bubble);
      const int64_t n = 3 * ranks;
      const Timeline line = Simulate(schedule, ranks, n, times);
      EXPECT_EQ(line.end, static_cast<double>(3 * n) + bubble) << ranks << " ranks";
      for (size_t r = 0; r < line.idle.size(); ++r) {
        EXPECT_EQ(line.idle[r], bubble);
        EXPECT_EQ(line.alive[r][0], schedule == S::k1F1B ? ranks - static_cast<int64_t>(r) : ranks);
      }
    }
  }
}

// What counts is bytes: where those of one direction are nothing, the peak is the other's.
TEST(Pipeline, TheHeaviestMoment) {
  const std::vector<std::array<double, 2>> first(8, {1, 0}), second(8, {0, 1});
  const Timeline a = Simulate(S::kDualPipe, 8, 20, {}, first), b = Simulate(S::kDualPipe, 8, 20, {}, second);
  EXPECT_EQ(a.alive[0][0], 8);
  for (size_t r = 0; r < 8; ++r) EXPECT_EQ(a.alive[r][0], b.alive[7 - r][1]);
}

}  // namespace
}  // namespace fathom::plan
