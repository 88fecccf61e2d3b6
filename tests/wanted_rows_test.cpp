// Steps of which only some tokens' states are wanted: these, and the latent rows of all tokens, have the bits that they
// have where all are, and the memory planned is enough.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/rng.h"
#include "engine/latent_pool.h"
#include "model/transformer.h"
#include "model_names_test.h"

namespace fathom {
namespace {

struct Part {
  int64_t tokens, wanted;
};

struct Outcome {
  std::vector<float> hidden;
  std::vector<std::vector<std::byte>> rows;  // of each part's caches, one layer after the other
};

class WantedRows : public testing::TestWithParam<const char*> {
 protected:
  WantedRows()
      : checkpoint_(checkpoint::Open(std::string(FATHOM_SOURCE_DIR "/") + GetParam())),
        pool_(2),
        ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}},
        transformer_(checkpoint_.config(), checkpoint_.params(), kPositions) {}

  // Every part is a sequence of its own, from position 0 on, in two steps: first kBefore tokens of each.
  Outcome Run(std::span<const Part> parts, model::Compute compute, bool all) {
    constexpr int64_t kBefore = 5;
    const int64_t d = checkpoint_.config().hidden_size;
    std::vector<std::unique_ptr<engine::LatentStore>> stores;
    const auto layout =
        engine::LatentLayout::Of(checkpoint_.config(), transformer_.cache_layers(), model::CoreType(compute));
    int64_t most = 0;
    for (const Part& part : parts) {
      stores.push_back(std::make_unique<engine::LatentStore>(layout, kPositions));
      most += std::max(part.tokens, kBefore);
    }
    Arena arena(model::PlanArena(transformer_, ctx_, compute,
                                 {.tokens = most,
                                  .sequences = static_cast<int64_t>(parts.size()),
                                  .positions = kPositions,
                                  .form = model::AttentionForm::kFull,
                                  .fixed_form = true}));
    const model::Env env{.ctx = ctx_,
                         .arena = arena,
                         .compute = compute,
                         .attention_form = model::AttentionForm::kFull,
                         .fixed_form = true};
    Outcome out;
    Rng rng(11);
    for (const bool first : {true, false}) {
      std::vector<model::SequenceSlice> slices;
      std::vector<int32_t> ids;
      for (size_t i = 0; i < parts.size(); ++i) {
        const int64_t tokens = first ? kBefore : parts[i].tokens;
        slices.push_back({.row = static_cast<int64_t>(ids.size()),
                          .tokens = tokens,
                          .position = first ? 0 : kBefore,
                          .wanted = all     ? model::SequenceSlice::kAll
                                    : first ? 0
                                            : parts[i].wanted,
                          .caches = stores[i]->caches()});
        for (int64_t t = 0; t < tokens; ++t)
          ids.push_back(static_cast<int32_t>(rng.NextBelow(static_cast<uint32_t>(checkpoint_.config().vocab_size))));
      }
      out.hidden.resize(ids.size() * static_cast<size_t>(d));
      transformer_.Forward(env, {ids, slices}, out.hidden.data());
    }
    EXPECT_EQ(arena.Overflows(), 0);
    for (size_t i = 0; i < parts.size(); ++i) {
      std::vector<std::byte>& rows = out.rows.emplace_back();
      for (int64_t l = 0; l < checkpoint_.config().num_hidden_layers; ++l) {
        const kernels::LatentCache& cache = stores[i]->caches()[static_cast<size_t>(l)];
        for (int64_t t = 0; t < kBefore + parts[i].tokens; ++t)
          rows.insert(rows.end(), cache.Row(t), cache.Row(t) + cache.row_bytes());
      }
    }
    return out;
  }

  static constexpr int64_t kPositions = 64;
  checkpoint::Checkpoint checkpoint_;
  ThreadPool pool_;
  Context ctx_;
  model::Transformer transformer_;
};

TEST_P(WantedRows, HaveTheSameBits) {
  const std::vector<std::vector<Part>> cases = {
      {{20, 0}, {13, 1}, {1, 1}, {7, 3}, {2, model::SequenceSlice::kAll}},
      {{1, 1}, {30, 1}},
      {{3, 3}, {40, 0}},
      {{40, 39}, {2, 9}},
      {{9, 0}, {5, 0}},
  };
  const size_t d = static_cast<size_t>(checkpoint_.config().hidden_size);
  for (const model::Compute compute : {model::Compute::kF32, model::Compute::kBf16}) {
    for (size_t c = 0; c < cases.size(); ++c) {
      const Outcome all = Run(cases[c], compute, true), some = Run(cases[c], compute, false);
      EXPECT_EQ(all.rows, some.rows) << "case " << c;
      size_t row = 0;
      for (const Part& part : cases[c]) {
        const int64_t unwanted =
            part.wanted == model::SequenceSlice::kAll ? 0 : std::max<int64_t>(part.tokens - part.wanted, 0);
        for (int64_t t = 0; t < part.tokens; ++t, ++row) {
          if (t < unwanted) continue;
          EXPECT_EQ(std::memcmp(&all.hidden[row * d], &some.hidden[row * d], d * sizeof(float)), 0)
              << "case " << c << ", row " << row;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, WantedRows,
                         testing::Values("models/fathom-16m", "tests/golden/v3-odd", "tests/golden/v3-tiny-fp8"),
                         NameOfModel);

}  // namespace
}  // namespace fathom
