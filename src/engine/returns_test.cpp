#include "engine/returns.h"

#include <gtest/gtest.h>

namespace fathom::engine {
namespace {

constexpr double kStep = 0.04;

// Four clients are answered with each of `steps` steps and come again `after` seconds, or not at all.
Returns After(int64_t steps, double after) {
  Returns returns;
  double now = 0;
  for (int64_t step = 0; step < steps; ++step, now += kStep) {
    for (int i = 0; i < 4; ++i) returns.Ended(step, now);
    for (int i = 0; after > 0 && i < 4; ++i) returns.Came(now + after);
  }
  returns.Ended(steps, now);
  return returns;
}

TEST(Returns, AtFirstItIsTried) {
  Returns returns;
  EXPECT_EQ(returns.Wait(kStep, 3), 0) << "none was answered";
  returns.Ended(0, 1);
  EXPECT_EQ(returns.missing(), 1);
  EXPECT_GT(returns.Wait(kStep, 3), 0);
  returns.Ended(1, 2);
  EXPECT_EQ(returns.Wait(kStep, 3), 0) << "in vain";
}

TEST(Returns, ClientsThatComeAgainSoonAreWaitedFor) {
  Returns returns = After(10, 0.002);
  EXPECT_DOUBLE_EQ(returns.Wait(kStep, 10), 0.5 * kStep / 10) << "half of a step of one beside ten";
  EXPECT_DOUBLE_EQ(returns.Wait(kStep, 0), 0.01) << "none runs: as long as it is soon";
  returns.Came(10 * kStep + 0.001);
  EXPECT_EQ(returns.missing(), 0);
  EXPECT_EQ(returns.Wait(kStep, 10), 0) << "it is there";
}

TEST(Returns, OthersAreNot) {
  EXPECT_EQ(After(10, 0).Wait(kStep, 10), 0) << "none comes again";
  EXPECT_EQ(After(10, 0.02).Wait(kStep, 10), 0) << "not soon";
}

TEST(Returns, FollowsWhatClientsDo) {
  Returns returns = After(10, 0.002);
  double now = 1;
  int64_t step = 100;
  int answers = 0;
  for (; returns.Wait(kStep, 10) > 0; ++step, ++now, ++answers) returns.Ended(step, now);
  EXPECT_LE(answers, 4) << "given up soon";
  for (answers = 0; returns.Wait(kStep, 10) == 0; ++step, ++now, ++answers) {
    returns.Ended(step, now);
    if (returns.Wait(kStep, 10) > 0) break;
    returns.Came(now + 0.001);
  }
  EXPECT_LE(answers, 4) << "and taken up again, without having waited";
}

TEST(Returns, RequestsOfOthersAreNotCountedTwice) {
  Returns returns;
  for (int64_t step = 0; step < 10; ++step) {
    const double now = static_cast<double>(step);
    for (int i = 0; i < 8; ++i) returns.Ended(step, now);
    for (int i = 0; i < 3; ++i) returns.Came(now);
    EXPECT_EQ(returns.missing(), 5);
  }
  returns.Ended(10, 10);
  EXPECT_EQ(returns.Wait(kStep, 1), 0) << "three of eight";
}

}  // namespace
}  // namespace fathom::engine
