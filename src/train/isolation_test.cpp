// Documents that are isolated within a packed sequence know nothing of each other: forward and backward to the bit, on
// every instruction set, MTP included.
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/test_folder.h"
#include "core/rng.h"
#include "model/objective.h"
#include "train/param_store.h"

namespace fathom::train {
namespace {

using model::Compute;

constexpr int32_t kSplit = 20;  // tokens of the first document are below it, those of the second are not

std::vector<int32_t> Tokens(int64_t n, int32_t low, int32_t high, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(low + static_cast<int32_t>(rng.NextBelow(high - low)));
  return ids;
}

std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Pass {
  model::ObjectiveSums sums;
  std::vector<float> embedding;  // its gradient, (V, d)
  std::vector<float> kv_b;       // that of a matrix that all tokens share
};

class Isolation : public testing::TestWithParam<std::tuple<Isa, Compute>> {
 protected:
  Isolation() {
    config_.num_nextn_predict_layers = 2;
    if (!Supported(isa())) return;
    store_ = std::make_unique<ParamStore>(config_, StorePolicy{.compute = std::get<1>(GetParam()), .optimizer = false});
    store_->Init(ctx_, 3, 0.15);
  }
  static bool Supported(Isa isa) { return MachineHas(isa); }
  static Isa isa() { return std::get<0>(GetParam()); }

  // One sequence; its share of a batch of 40 targets at every depth. Starts: of documents, if they are isolated.
  Pass Run(const std::vector<int32_t>& ids, std::vector<int32_t> starts, bool isolate) {
    const int64_t length = static_cast<int64_t>(ids.size()) - 1;
    for (StoredTensor& t : store_->tensors()) {
      if (t.grad) std::fill_n(t.grad, t.n, 0.0f);
    }
    const model::Transformer transformer(config_, store_->params(), length);
    const std::vector<std::vector<int32_t>> all_starts = {std::move(starts)};
    const model::TrainSequences batch{
        .ids = ids, .sequences = 1, .length = length, .isolate = isolate, .starts = all_starts, .learned = learned_};
    const model::ObjectiveScale scale{.targets = {.main = 40, .mtp = {40, 40}},
                                      .sequences = 1,
                                      .mtp_loss_weight = 0.3,
                                      .aux_loss_alpha = 0};  // the balance loss is one of sequences
    const Compute compute = std::get<1>(GetParam());
    const model::ObjectivePlan plan =
        model::PlanObjective(transformer, ctx_, store_->grads(), 1, length, model::Recompute::kPaper, compute);
    Arena arena(plan.arena), tape(plan.tape);
    Pass pass;
    pass.sums =
        model::ForwardBackward(transformer, ctx_, arena, tape,
                               {.batch = &batch, .scale = &scale, .grads = &store_->grads(), .compute = compute});
    EXPECT_EQ(arena.Overflows(), 0);
    EXPECT_EQ(tape.Overflows(), 0);
    const auto gradient = [&](const char* name) {
      const StoredTensor* t = store_->Find(name);
      return std::vector<float>(t->grad, t->grad + t->n);
    };
    pass.embedding = gradient("model.embed_tokens.weight");
    pass.kv_b = gradient("model.layers.1.self_attn.kv_b_proj.weight");
    return pass;
  }
  // Rows [low, high) of an embedding's gradient.
  std::vector<float> Rows(const Pass& pass, int64_t low, int64_t high) const {
    return {pass.embedding.begin() + low * config_.hidden_size, pass.embedding.begin() + high * config_.hidden_size};
  }

  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .isa = isa(), .verbose = {}};
  model::ModelConfig config_ = checkpoint::TinyConfig();
  std::vector<uint8_t> learned_;
  std::unique_ptr<ParamStore> store_;
};

// Sums of the losses are exact: floats of like size, some dozens, in doubles.
TEST_P(Isolation, TwoDocumentsAreAsEachAlone) {
  if (!Supported(isa())) GTEST_SKIP() << "not on this machine: " << Name(isa());
  for (const auto& [a_length, b_length] : {std::pair(19, 22), std::pair(1, 40), std::pair(2, 3), std::pair(33, 2)}) {
    const std::vector<int32_t> a = Tokens(a_length, 0, kSplit, 1), b = Tokens(b_length, kSplit, 40, 2);
    const Pass both = Run(Joined(a, b), {0, a_length}, true);
    const Pass second = Run(b, {0}, true);
    model::ObjectiveSums first;
    first.mtp = {0, 0};
    std::vector<float> first_rows(static_cast<size_t>(kSplit * config_.hidden_size)), first_kv_b(second.kv_b.size());
    if (a_length > 1) {
      const Pass alone = Run(a, {0}, true);
      first = alone.sums;
      first_rows = Rows(alone, 0, kSplit);
      first_kv_b = alone.kv_b;
    }
    EXPECT_EQ(both.sums.main, first.main + second.sums.main) << a_length;
    for (size_t k = 0; k < 2; ++k)
      EXPECT_EQ(both.sums.mtp[k], first.mtp[k] + second.sums.mtp[k]) << a_length << " " << k;
    EXPECT_TRUE(Rows(both, 0, kSplit) == first_rows) << a_length;
    EXPECT_TRUE(Rows(both, kSplit, 40) == Rows(second, kSplit, 40)) << a_length;
    // Sums over all tokens: other orders of the same terms. FP8 quantises in tiles of 128 tokens, of both documents
    // here: other codes of each factor, at most 2^-4 away.
    const double bound = std::get<1>(GetParam()) == Compute::kFp8 ? 2 * 0x1p-4 : 64 * 0x1p-24;
    double largest = 0;
    for (float v : both.kv_b) largest = std::max(largest, std::fabs(static_cast<double>(v)));
    for (size_t i = 0; i < both.kv_b.size(); ++i)
      ASSERT_NEAR(both.kv_b[i], first_kv_b[i] + second.kv_b[i], bound * largest) << a_length << " " << i;
  }
}

// Losses and gradients of the targets that are learned and of the others add up to those of all.
TEST_P(Isolation, OnlyLearnedIdsAreTargets) {
  if (!Supported(isa())) GTEST_SKIP() << "not on this machine: " << Name(isa());
  const std::vector<int32_t> ids = Tokens(41, 0, 40, 4);
  const Pass all = Run(ids, {0}, false);
  std::vector<uint8_t> learned, others;
  for (size_t i = 0; i < ids.size(); ++i) {
    learned.push_back(i % 5 < 2);
    others.push_back(i % 5 >= 2);
  }
  learned_ = learned;
  const Pass first = Run(ids, {0}, false);
  learned_ = others;
  const Pass second = Run(ids, {0}, false);
  EXPECT_EQ(first.sums.main + second.sums.main, all.sums.main);
  EXPECT_GT(first.sums.main, 0);
  EXPECT_GT(second.sums.main, first.sums.main);
  for (size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(first.sums.mtp[k] + second.sums.mtp[k], all.sums.mtp[k]) << k;
    EXPECT_EQ(first.sums.compared[k] + second.sums.compared[k], all.sums.compared[k]) << k;
  }
  // bf16 rounds two gradients otherwise than their sum: 2^-8 of the largest value, as often as there are products. FP8:
  // 2^-4.
  const Compute compute = std::get<1>(GetParam());
  const double unit = compute == Compute::kF32 ? 0x1p-24 * 256 : (compute == Compute::kFp8 ? 0x1p-4 : 0x1p-8) * 4;
  double largest = 0;
  for (float v : all.kv_b) largest = std::max(largest, std::fabs(static_cast<double>(v)));
  ASSERT_GT(largest, 0);
  for (size_t i = 0; i < all.kv_b.size(); ++i)
    ASSERT_NEAR(all.kv_b[i], first.kv_b[i] + second.kv_b[i], unit * largest) << i;
}

TEST_P(Isolation, AnotherNeighbourChangesNothing) {
  if (!Supported(isa())) GTEST_SKIP() << "not on this machine: " << Name(isa());
  const std::vector<int32_t> b = Tokens(20, kSplit, 40, 2);
  const Pass before = Run(Joined(Tokens(21, 0, kSplit, 1), b), {0, 21}, true);
  for (uint64_t seed = 3; seed < 6; ++seed) {
    const Pass after = Run(Joined(Tokens(21, 0, kSplit, seed), b), {0, 21}, true);
    EXPECT_NE(after.sums.main, before.sums.main);
    EXPECT_TRUE(Rows(after, kSplit, 40) == Rows(before, kSplit, 40));
    EXPECT_FALSE(Rows(after, 0, kSplit) == Rows(before, 0, kSplit));
  }
  // Without isolation it shows.
  const Pass open = Run(Joined(Tokens(21, 0, kSplit, 1), b), {0, 21}, false);
  const Pass other = Run(Joined(Tokens(21, 0, kSplit, 3), b), {0, 21}, false);
  EXPECT_FALSE(Rows(open, kSplit, 40) == Rows(other, kSplit, 40));
  EXPECT_FALSE(Rows(open, kSplit, 40) == Rows(before, kSplit, 40));
}

// Documents of one token, and a boundary before the last target: nothing to predict there, and memory as planned.
TEST_P(Isolation, ShortDocuments) {
  if (!Supported(isa())) GTEST_SKIP() << "not on this machine: " << Name(isa());
  const std::vector<int32_t> ids = Tokens(13, 0, 40, 7);
  const Pass pass = Run(ids, {0, 1, 2, 3, 4, 5, 6, 9, 12}, true);
  EXPECT_EQ(pass.sums.compared, (std::vector<int64_t>{2, 0}));  // in the two documents of three
  const Pass one = Run({ids.begin() + 6, ids.begin() + 9}, {0}, true),
             two = Run({ids.begin() + 9, ids.begin() + 12}, {0}, true);
  EXPECT_EQ(pass.sums.main, one.sums.main + two.sums.main);
  EXPECT_EQ(pass.sums.mtp[0], one.sums.mtp[0] + two.sums.mtp[0]);
  EXPECT_EQ(pass.sums.mtp[1], 0);
}

#if defined(__x86_64__)
constexpr Isa kIsas[] = {Isa::kReference, Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx};
#else
constexpr Isa kIsas[] = {Isa::kReference, Isa::kNeon};
#endif
INSTANTIATE_TEST_SUITE_P(All, Isolation,
                         testing::Combine(testing::ValuesIn(kIsas),
                                          testing::Values(Compute::kF32, Compute::kBf16, Compute::kFp8)),
                         [](const auto& tested) {
                           return std::string(Name(std::get<0>(tested.param))) + "_" +
                                  std::string(kernels::Name(std::get<1>(tested.param)));
                         });

}  // namespace
}  // namespace fathom::train
