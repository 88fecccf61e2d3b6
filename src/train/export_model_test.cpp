#include "train/export_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "train/run_state_test.h"

namespace fathom::train {
namespace {

class ExportModelTest : public RunFolderTest {
 protected:
  ExportModelTest() : store_(config_, {.ema = true}) {
    for (StoredTensor& t : store_.tensors()) {
      Rng rng(1, static_cast<uint64_t>(t.n));
      for (int64_t i = 0; i < t.n; ++i) {
        t.master[i] = static_cast<float>(rng.NextNormal());
        if (t.ema) t.ema[i] = static_cast<float>(rng.NextNormal());
      }
    }
  }
  const model::ModelConfig config_ = checkpoint::TinyConfig();
  ParamStore store_;
  ThreadPool pool_{2};
};

TEST_F(ExportModelTest, HoldsTheMastersOrTheAverages) {
  for (const bool ema : {false, true}) {
    for (const checkpoint::Precision precision : {checkpoint::Precision::kF32, checkpoint::Precision::kBf16}) {
      ExportModel(
          store_, config_, Path("out"),
          {.precision = precision, .max_shard_bytes = 30'000, .force = true, .files = {{"tokenizer.json", "{}"}}}, ema,
          pool_);
      const checkpoint::Checkpoint made = checkpoint::Open(Path("out"));
      int copies = 0;
      made.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
        copies += info.copy;
        const StoredTensor* t = store_.Find(!info.copy                                   ? info.name
                                            : info.name.ends_with("embed_tokens.weight") ? "model.embed_tokens.weight"
                                                                                         : "lm_head.weight");
        ASSERT_NE(t, nullptr) << info.name;
        const float* from = ema && t->ema ? t->ema : t->master;
        for (int64_t i = 0; i < t->n; ++i) {
          if (w.dtype == DType::kF32) {
            ASSERT_EQ(static_cast<const float*>(w.data)[i], from[i]) << info.name;
          } else {
            ASSERT_EQ(static_cast<const uint16_t*>(w.data)[i], F32ToBf16(from[i])) << info.name;
          }
        }
      });
      EXPECT_EQ(copies, 2);
      EXPECT_GT(made.audit().files.size(), 1u);
      EXPECT_EQ(io::ReadFile(Path("out/tokenizer.json"), 10).Value(), "{}");
    }
  }
}

TEST_F(ExportModelTest, ContinuesAsItWas) {
  ExportModel(store_, config_, Path("out"), {.precision = checkpoint::Precision::kF32}, false, pool_);
  ParamStore back(config_, {});
  Context ctx = TestContext(pool_);
  back.Assign(ctx, checkpoint::Open(Path("out")).params());
  for (const StoredTensor& t : store_.tensors())
    EXPECT_EQ(std::memcmp(t.master, back.Find(t.name)->master, static_cast<size_t>(t.n * 4)), 0) << t.name;
}

}  // namespace
}  // namespace fathom::train
