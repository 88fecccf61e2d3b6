#include "plan/flops.h"

#include <gtest/gtest.h>

#include "model/params.h"
#include "plan/test_config.h"
#include "train/flops.h"

namespace fathom::plan {
namespace {

using model::Recompute;

// V3 report's model at 4K: 73.25 G of products and 10.23 G of causal attention forward, three times that in training,
// 260.6 G with the MTP module.
TEST(PlanFlops, DeepSeekV3) {
  const model::ModelConfig c = Config("deepseek-v3");
  const Work main = WorkOfModel(c, 4096, Recompute::kPaper, false);
  EXPECT_NEAR(main.linear, 73.25e9, 0.005e9);
  EXPECT_NEAR(main.attention, 10.23e9, 0.01e9);  // a token sees itself too: 2048.5, not 2048 others
  EXPECT_NEAR(main.Train(), 250.5e9, 0.05e9);
  const Work all = WorkOfModel(c, 4096, Recompute::kPaper);
  EXPECT_NEAR(all.Train(), 260.6e9, 0.05e9);
  EXPECT_EQ(all.Forward() + all.BackwardInput() + all.BackwardWeight(), all.Train());
  EXPECT_EQ(SizeOfLayer(c, 0).attention + 1536 + 512, 187'107'328);  // its norms included
}

// The counts of the planner's formulas and of the list of parameters.
TEST(PlanFlops, EveryParameterIsCounted) {
  for (const char* name : {"deepseek-v3", "deepseek-v2-lite", "tiny-1m", "fathom-16m"}) {
    const model::ModelConfig c = Config(name);
    const model::ParamCount count = model::CountParams(c);
    int64_t main = 2 * c.vocab_size * c.hidden_size + c.hidden_size, mtp = 0;
    for (int64_t layer = 0; layer < Layers(c); ++layer)
      (layer < c.num_hidden_layers ? main : mtp) += SizeOfLayer(c, layer).Total();
    EXPECT_EQ(main, count.main) << name;
    EXPECT_EQ(main + mtp + c.num_nextn_predict_layers * 2 * c.vocab_size * c.hidden_size, count.with_mtp_copies)
        << name;
    for (const int64_t length : {128, 4096}) {
      const double expected = train::TrainFlopsPerToken(c, length);
      EXPECT_NEAR(WorkOfModel(c, length, Recompute::kPaper).Train() / expected, 1, 1e-12) << name;
    }
  }
}

TEST(PlanFlops, WhatIsMadeAgain) {
  const model::ModelConfig c = Config("deepseek-v3");
  const Work paper = WorkOfLayer(c, 5, 4096, Recompute::kPaper), full = WorkOfLayer(c, 5, 4096, Recompute::kFull);
  // q_b_proj (1536 to 128 heads of 192) and kv_b_proj (512 to 128 heads of 256).
  EXPECT_EQ(paper.again, 2.0 * (1536 * 128 * 192 + 512 * 128 * 256));
  EXPECT_EQ(paper.scores, 2.0 * 128 * 192 * 4097 / 2);
  EXPECT_EQ(full.again, full.Forward());
  EXPECT_EQ(paper.Train(), full.Train());  // MFU counts nothing twice
}

}  // namespace
}  // namespace fathom::plan
