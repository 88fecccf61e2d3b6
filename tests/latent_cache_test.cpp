// Whole models over a latent cache of F8_E4M3 beside one that is exact, block by block.
//
// A latent's code is off by up to 2^-4 of its value, evenly spread, so by less than 2^-5 of a row in the mean square:
// once in the values that attention sums, and once, through the scores (of size 1), in its weights. Together that is
// 2^-4 at most of what attention adds, and what it adds is no more than a block's output.
//
// Every block begins with the exact run's input, so the two forms of attention see the same codes: only float32's
// roundings are between them.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/compare.h"
#include "core/rng.h"
#include "engine/trace.h"
#include "model_names_test.h"

namespace fathom {
namespace {

class LatentCacheModel : public testing::TestWithParam<const char*> {
 protected:
  LatentCacheModel()
      : checkpoint_(checkpoint::Open(std::string(FATHOM_SOURCE_DIR "/") + GetParam())),
        pool_(2),
        ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}},
        transformer_(checkpoint_.config(), checkpoint_.params(), kTokens) {
    Rng rng(3);
    for (int64_t i = 0; i < kTokens; ++i) {
      ids_.push_back(static_cast<int32_t>(rng.NextBelow(static_cast<uint32_t>(checkpoint_.config().vocab_size))));
    }
  }
  engine::Trace Run(const engine::TraceOptions& options) { return engine::RunTrace(ctx_, transformer_, ids_, options); }
  // The experts of a row, sorted; none in a dense block.
  static std::vector<int32_t> Experts(const engine::Trace& t, int64_t layer, int64_t row) {
    const auto it = t.find("router_ids." + std::to_string(layer));
    if (it == t.end()) return {};
    const int64_t k = it->second.cols;
    std::vector<int32_t> ids(it->second.i32.begin() + row * k, it->second.i32.begin() + (row + 1) * k);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  // rel_l2 of a block's output over the rows whose experts are the same in both: the others are another sum.
  Comparison CompareBlock(const engine::Trace& ours, const engine::Trace& truth, int64_t layer) {
    const std::string name = "hidden." + std::to_string(layer);
    const int64_t d = checkpoint_.config().hidden_size;
    std::vector<float> a, b;
    for (int64_t row = 0; row < kTokens; ++row) {
      if (Experts(ours, layer, row) != Experts(truth, layer, row)) continue;
      a.insert(a.end(), ours.at(name).f32.begin() + row * d, ours.at(name).f32.begin() + (row + 1) * d);
      b.insert(b.end(), truth.at(name).f32.begin() + row * d, truth.at(name).f32.begin() + (row + 1) * d);
    }
    EXPECT_GE(static_cast<int64_t>(a.size()), kTokens * d * 3 / 4) << "too many other experts in block " << layer;
    return Compare(a, b);
  }

  static constexpr int64_t kTokens = 96;
  checkpoint::Checkpoint checkpoint_;
  ThreadPool pool_;
  Context ctx_;
  model::Transformer transformer_;
  std::vector<int32_t> ids_;
};

TEST_P(LatentCacheModel, Fp8IsNearExactInBothForms) {
  const engine::Trace whole = Run({});
  const int64_t layers = checkpoint_.config().num_hidden_layers;
  engine::TraceOptions o;
  for (int64_t l = 1; l < layers; ++l) o.inputs[l] = whole.at("hidden." + std::to_string(l - 1)).f32;
  for (const auto& [compute, exact_cache] :
       {std::pair{model::Compute::kF32, DType::kF32}, {model::Compute::kBf16, DType::kBF16}}) {
    o.compute = compute;
    o.cache_dtype = exact_cache;
    o.form = model::AttentionForm::kFull;
    o.chunk = 0;
    const engine::Trace exact = Run(o);
    o.cache_dtype = DType::kF8E4M3;
    const engine::Trace full = Run(o);
    o.form = model::AttentionForm::kAbsorbed;
    o.chunk = 7;
    const engine::Trace absorbed = Run(o);
    for (int64_t l = 0; l < layers; ++l) {
      const Comparison c = CompareBlock(full, exact, l), d = CompareBlock(absorbed, full, l);
      EXPECT_GT(c.rel_l2, 0) << "block " << l << ": codes that change nothing";
      EXPECT_LE(c.rel_l2, 0x1p-4) << "block " << l << ": " << c.ToString();
      EXPECT_LE(d.rel_l2, engine::TraceTolerance(compute, 0)) << "block " << l << ", absorbed: " << d.ToString();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, LatentCacheModel,
                         testing::Values("models/fathom-16m", "tests/golden/v3-odd", "tests/golden/v3-tiny-fp8"),
                         NameOfModel);

}  // namespace
}  // namespace fathom
