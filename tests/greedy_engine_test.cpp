// An engine with the greedy head and one without give the same answers: alone and together, beside requests that need
// all logits, with and without drafts, in every arithmetic.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/rng.h"
#include "engine/engine.h"
#include "model_names_test.h"

namespace fathom {
namespace {

class GreedyEngine : public testing::TestWithParam<const char*> {
 protected:
  GreedyEngine()
      : checkpoint_(checkpoint::Open(std::string(FATHOM_SOURCE_DIR "/") + GetParam())),
        pool_(2),
        ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}},
        transformer_(checkpoint_.config(), checkpoint_.params(), kPositions) {}

  engine::Request Asked(uint64_t seed) const {
    Rng rng(seed);
    engine::Request r;
    r.max_tokens = 20;
    r.sampling.temperature = 0;
    for (uint64_t i = 0; i < 5 + seed % 7; ++i)
      r.prompt.push_back(static_cast<int32_t>(rng.NextBelow(static_cast<uint32_t>(checkpoint_.config().vocab_size))));
    return r;
  }

  // Plain greedy ones, and greedy and sampled ones that need all logits, in turn.
  std::vector<engine::Request> Mixed() const {
    std::vector<engine::Request> requests;
    for (uint64_t i = 0; i < 16; ++i) {
      engine::Request r = Asked(i);
      if (i % 8 == 1) r.sampling.temperature = 0.8;
      if (i % 8 == 3) r.sampling.repetition_penalty = 1.3;
      if (i % 8 == 4) r.logprobs = 3;
      if (i % 8 == 6) r.sampling.logit_bias = {{7, 100.0f}, {9, -100.0f}};
      if (i % 8 == 7) r.sampling.frequency_penalty = 1.5;
      requests.push_back(std::move(r));
    }
    return requests;
  }

  struct Outcome {
    std::vector<std::vector<int32_t>> ids;
    std::vector<float> logprobs;
    int64_t head_bytes = 0, accepted = 0;
    bool operator==(const Outcome& o) const { return ids == o.ids && logprobs == o.logprobs; }
  };
  Outcome Run(std::span<const engine::Request> requests, engine::EngineOptions options, bool greedy_head) {
    options.greedy_head = greedy_head;
    options.max_context = kPositions;
    options.cache_tokens = kPositions * 16;
    options.max_running = 16;
    engine::Engine engine(ctx_, transformer_, options);
    if (prepare_) engine.PrepareGreedyHead();
    Outcome out;
    for (const engine::Answer& a : engine.Run(requests, [&](size_t, const engine::Token& token) {
           if (!token.top.empty()) out.logprobs.push_back(token.logprob);
           return true;
         })) {
      out.ids.push_back(a.ids);
      out.accepted += a.accepted;
    }
    out.head_bytes = engine.greedy_head_bytes();
    EXPECT_EQ(engine.arena_overflows(), 0);
    return out;
  }

  // Bits of logits do not depend on what else is in a step, so no token may differ.
  engine::EngineOptions Invariant(model::Compute compute) const {
    return {.compute = compute, .cache_dtype = model::CoreType(compute), .batch_invariant = true};
  }

  static constexpr int64_t kPositions = 64;
  bool prepare_ = true;
  checkpoint::Checkpoint checkpoint_;
  ThreadPool pool_;
  Context ctx_;
  model::Transformer transformer_;
};
INSTANTIATE_TEST_SUITE_P(Models, GreedyEngine,
                         testing::Values("models/fathom-16m", "tests/golden/v3-odd", "tests/golden/v3-tiny-fp8"),
                         NameOfModel);

TEST_P(GreedyEngine, GivesTheSameAnswers) {
  for (const model::Compute compute : {model::Compute::kBf16, model::Compute::kF32, model::Compute::kW8A8}) {
    const engine::EngineOptions options = Invariant(compute);
    const Outcome all = Run(Mixed(), options, false), greedy = Run(Mixed(), options, true);
    EXPECT_EQ(greedy, all) << kernels::Name(compute);
    EXPECT_EQ(all.head_bytes, 0);
    EXPECT_EQ(greedy.head_bytes > 0, kernels::FastUpperBounds(ctx_, 1));
    const engine::Request alone = Asked(2);
    EXPECT_EQ(Run(std::span(&alone, 1), options, true).ids[0], all.ids[2]) << kernels::Name(compute);
  }
}

TEST_P(GreedyEngine, GivesTheSameAnswersWithDrafts) {
  if (transformer_.mtp_depth() == 0) GTEST_SKIP() << GetParam() << " has no MTP module";
  engine::EngineOptions options = Invariant(model::Compute::kBf16);
  options.drafts = 2;
  options.always_draft = true;
  const Outcome all = Run(Mixed(), options, false), greedy = Run(Mixed(), options, true);
  EXPECT_EQ(greedy, all);
  EXPECT_EQ(greedy.accepted, all.accepted);
  std::vector<engine::Request> plain;
  for (uint64_t i = 0; i < 5; ++i) plain.push_back(Asked(i));  // drafts by the greedy head too
  EXPECT_EQ(Run(plain, options, true), Run(plain, options, false));
}

TEST_P(GreedyEngine, IsMadeWhenItIsNeeded) {
  if (!kernels::FastUpperBounds(ctx_, 1)) GTEST_SKIP() << "bounds are not faster than logits on this machine";
  prepare_ = false;
  const engine::EngineOptions options = Invariant(model::Compute::kBf16);
  std::vector<engine::Request> requests;
  for (uint64_t i = 0; i < 8; ++i) requests.push_back(Asked(i));
  const Outcome many = Run(requests, options, true);
  EXPECT_GT(many.head_bytes, 0) << "more greedy tokens than are worth the codes";
  EXPECT_EQ(many, Run(requests, options, false));
  EXPECT_EQ(Run(std::span(requests).first(2), options, true).head_bytes, 0) << "few";
  for (engine::Request& r : requests) r.sampling.temperature = 1;
  EXPECT_EQ(Run(requests, options, true).head_bytes, 0) << "none";
}

}  // namespace
}  // namespace fathom
