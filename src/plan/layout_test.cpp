#include "plan/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "plan/test_config.h"

namespace fathom::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using train::ParallelRecipe;
using train::PipelineSchedule;

ParallelRecipe Paper() { return {.pipeline = 16, .expert = 64, .data = 128, .schedule = PipelineSchedule::kDualPipe}; }

// A head is 1.4 layers' work: four layers a stage, and one beside the two heads and the MTP module. (Published traces
// show four layers with experts in a chunk.)
TEST(PlanLayout, DeepSeekV3) {
  const Layout layout = MakeLayout(Config("deepseek-v3"), Paper(), 4096);
  ASSERT_EQ(layout.chunks.size(), 16u);
  for (int64_t i = 0; i < 15; ++i) {
    const Chunk& c = layout.chunks[static_cast<size_t>(i)];
    EXPECT_EQ(c.first, 4 * i);
    EXPECT_EQ(c.last, 4 * i + 4);
    EXPECT_EQ(c.embedding, i == 0);
    EXPECT_FALSE(c.head);
  }
  EXPECT_EQ(layout.chunks[15].first, 60);
  EXPECT_EQ(layout.chunks[15].last, 62);
  EXPECT_TRUE(layout.chunks[15].head);
  EXPECT_THAT(layout.StagesOf(3), ElementsAre(3, 12));
  EXPECT_EQ(layout.Describe(), "PP16 x EP64 x DP128, ZeRO-1, dualpipe: 2048 devices");
}

// Whatever the number of ranks: every layer once, in order, a layer at least in each stage.
TEST(PlanLayout, EveryLayerOnce) {
  for (const char* name : {"deepseek-v3", "tiny-1m", "deepseek-v2-lite"}) {
    const model::ModelConfig c = Config(name);
    for (int64_t ranks = 1; ranks <= c.num_hidden_layers; ++ranks) {
      const Layout layout = MakeLayout(c, {.pipeline = ranks}, 4096);
      ASSERT_EQ(layout.chunks.size(), static_cast<size_t>(ranks));
      int64_t next = 0;
      for (const Chunk& chunk : layout.chunks) {
        EXPECT_EQ(chunk.first, next);
        EXPECT_GT(std::min(chunk.last, c.num_hidden_layers), chunk.first) << name << ", " << ranks << " ranks";
        next = chunk.last;
      }
      EXPECT_EQ(next, c.num_hidden_layers + c.num_nextn_predict_layers);
    }
  }
}

TEST(PlanLayout, WhatDoesNotDivideIsNamed) {
  const auto fault = [](ParallelRecipe p, const char* model = "deepseek-v3") -> std::string {
    try {
      CheckLayout(Config(model), p);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_EQ(fault(Paper()), "none");
  ParallelRecipe p = Paper();
  p.pipeline = 62;
  EXPECT_THAT(fault(p), HasSubstr("parallel.pipeline"));
  p.pipeline = 15;
  EXPECT_THAT(fault(p), HasSubstr("an even number of ranks"));
  p = Paper();
  p.expert = 96;
  EXPECT_THAT(fault(p), HasSubstr("256 experts over 96 devices"));
  p = Paper();
  p.data = 96;
  EXPECT_THAT(fault(p), HasSubstr("expert = 64, data x context = 96 x 1 = 96"));
}

}  // namespace
}  // namespace fathom::plan
