// Under Env::fixed_form the hidden states and logits of a token have the same bits whatever else a step holds: the same
// tokens alone (one a step), in chunks, all at once, and beside 63 or 140 other sequences; the form of attention
// given. On every instruction set of the machine, with weights in F32, BF16 and F8_E4M3.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/rng.h"
#include "engine/latent_pool.h"
#include "model/transformer.h"

namespace fathom {
namespace {

using model::AttentionForm;
using model::Compute;

constexpr int64_t kTokens = 10, kOthers = 63;
constexpr int64_t kMany = 140;  // so that products of many rows take their own form

class Invariance : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!MachineHas(GetParam())) GTEST_SKIP() << "this machine has no " << Name(GetParam());
  }
};

// One model and the sequences that go through it.
class Subject {
 public:
  Subject(const std::string& folder, Isa isa, Compute compute, DType cache, bool f32_weights)
      : checkpoint_(checkpoint::Open(FATHOM_SOURCE_DIR "/" + folder, {})),
        pool_(2),
        ctx_{.pool = pool_, .isa = isa, .verbose = {}},
        compute_(compute),
        cache_(cache),
        params_(checkpoint_.params()) {
    if (f32_weights) WidenWeights();
    transformer_.emplace(checkpoint_.config(), params_, kTokens);
    Rng rng(9);
    const auto vocabulary = static_cast<uint32_t>(checkpoint_.config().vocab_size);
    for (int64_t s = 0; s <= kMany; ++s) {
      auto& ids = ids_.emplace_back();
      for (int64_t i = 0; i < kTokens; ++i) ids.push_back(static_cast<int32_t>(rng.NextBelow(vocabulary)));
    }
  }

  // Hidden states and logits of sequence 0, `chunk` tokens a step beside the next token of `others` other sequences.
  std::vector<float> Run(int64_t chunk, int64_t others, AttentionForm form) {
    const model::ModelConfig& c = checkpoint_.config();
    const int64_t d = c.hidden_size, v = c.vocab_size, rows = chunk + others;
    const engine::LatentLayout layout = engine::LatentLayout::Of(c, transformer_->cache_layers(), cache_);
    std::vector<std::unique_ptr<engine::LatentStore>> stores;
    for (int64_t s = 0; s <= others; ++s) stores.push_back(std::make_unique<engine::LatentStore>(layout, kTokens));
    // Planned for the free choice of forms: some more for the fixed ones.
    Arena arena(2 *
                model::PlanArena(*transformer_, ctx_, compute_,
                                 {.tokens = rows, .sequences = others + 1, .positions = kTokens, .head_rows = rows}));
    const model::Env env{.ctx = ctx_, .arena = arena, .compute = compute_, .fixed_form = true};
    std::vector<float> out, hidden(static_cast<size_t>(rows * d)), logits(static_cast<size_t>(rows * v));
    int64_t step = 0;
    for (int64_t begin = 0; begin < kTokens; begin += chunk, ++step) {
      const int64_t n = std::min(chunk, kTokens - begin);
      // The others stand before and after, so that our rows are not the first.
      std::vector<int32_t> ids;
      std::vector<model::SequenceSlice> slices;
      const auto add = [&](int64_t s, int64_t position, int64_t tokens) {
        slices.push_back({.row = static_cast<int64_t>(ids.size()),
                          .tokens = tokens,
                          .position = position,
                          .sequence = 0,
                          .form = form,
                          .caches = stores[static_cast<size_t>(s)]->caches()});
        const auto& from = ids_[static_cast<size_t>(s)];
        ids.insert(ids.end(), from.begin() + position, from.begin() + position + tokens);
      };
      for (int64_t s = 1; s <= others / 2; ++s) add(s, step, 1);
      const int64_t ours = static_cast<int64_t>(ids.size());
      add(0, begin, n);
      for (int64_t s = others / 2 + 1; s <= others; ++s) add(s, step, 1);
      const auto all = static_cast<int64_t>(ids.size());
      transformer_->Forward(env, {.ids = ids, .sequences = slices}, hidden.data());
      out.insert(out.end(), hidden.begin() + ours * d, hidden.begin() + (ours + n) * d);
      transformer_->FinalNorm(env, hidden.data(), all, hidden.data());
      transformer_->Head(env, hidden.data(), all, logits.data());
      out.insert(out.end(), logits.begin() + ours * v, logits.begin() + (ours + n) * v);
    }
    return Sorted(out, chunk);
  }

 private:
  // All hidden states, then all logits, whatever the chunks were.
  std::vector<float> Sorted(const std::vector<float>& out, int64_t chunk) const {
    const model::ModelConfig& c = checkpoint_.config();
    std::vector<float> hidden, logits;
    size_t at = 0;
    for (int64_t begin = 0; begin < kTokens; begin += chunk) {
      const auto n = static_cast<size_t>(std::min(chunk, kTokens - begin));
      const size_t h = n * static_cast<size_t>(c.hidden_size), l = n * static_cast<size_t>(c.vocab_size);
      hidden.insert(hidden.end(), out.begin() + static_cast<std::ptrdiff_t>(at),
                    out.begin() + static_cast<std::ptrdiff_t>(at + h));
      logits.insert(logits.end(), out.begin() + static_cast<std::ptrdiff_t>(at + h),
                    out.begin() + static_cast<std::ptrdiff_t>(at + h + l));
      at += h + l;
    }
    hidden.insert(hidden.end(), logits.begin(), logits.end());
    return hidden;
  }
  void WidenWeights() {
    model::ForEachParam(checkpoint_.config(), params_, [&](const model::ParamInfo&, model::Weight& w) {
      if (w.dtype != DType::kBF16) return;
      std::vector<float>& values = widened_.emplace_back(static_cast<size_t>(w.rows * w.cols));
      for (size_t i = 0; i < values.size(); ++i) {
        uint16_t bits;
        std::memcpy(&bits, static_cast<const std::byte*>(w.data) + 2 * i, sizeof bits);
        values[i] = Bf16ToF32(bits);
      }
      w.data = values.data();
      w.dtype = DType::kF32;
    });
  }

  checkpoint::Checkpoint checkpoint_;
  ThreadPool pool_;
  Context ctx_;
  Compute compute_;
  DType cache_;
  model::ModelParams params_;
  std::vector<std::vector<float>> widened_;
  std::optional<model::Transformer> transformer_;
  std::vector<std::vector<int32_t>> ids_;
};

TEST_P(Invariance, ATokenDoesNotKnowItsStep) {
  struct Kind {
    const char* folder;
    Compute compute;
    DType cache;
    bool f32_weights;
  };
  for (const Kind& kind : {Kind{"tests/golden/v3-odd", Compute::kF32, DType::kF32, true},
                           Kind{"tests/golden/v3-odd", Compute::kF32, DType::kF32, false},
                           Kind{"tests/golden/v3-odd", Compute::kBf16, DType::kBF16, false},
                           Kind{"tests/golden/v3-odd", Compute::kBf16, DType::kF8E4M3, false},
                           Kind{"tests/golden/v3-tiny-fp8", Compute::kBf16, DType::kBF16, false},
                           Kind{"tests/golden/v3-tiny-fp8", Compute::kW8A8, DType::kF32, false}}) {
    Subject subject(kind.folder, GetParam(), kind.compute, kind.cache, kind.f32_weights);
    for (AttentionForm form : {AttentionForm::kFull, AttentionForm::kAbsorbed}) {
      const std::vector<float> alone = subject.Run(1, 0, form);
      const auto expect = [&](int64_t chunk, int64_t others) {
        const std::vector<float> got = subject.Run(chunk, others, form);
        EXPECT_EQ(std::memcmp(got.data(), alone.data(), alone.size() * sizeof(float)), 0)
            << kind.folder << " " << kernels::Name(kind.compute) << " " << Name(kind.cache)
            << (form == AttentionForm::kFull ? " full" : " absorbed") << ": " << chunk << " tokens a step beside "
            << others;
      };
      for (int64_t chunk : {int64_t{7}, kTokens}) expect(chunk, 0);
      expect(1, kOthers);
      expect(7, kOthers);
      if (kind.compute != Compute::kW8A8 && kind.cache == DType::kBF16) expect(1, kMany);
    }
  }
}

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (int i = 1; i < kIsaCount; ++i) isas.push_back(static_cast<Isa>(i));
  return isas;
}

INSTANTIATE_TEST_SUITE_P(, Invariance, testing::ValuesIn(Isas()),
                         [](const auto& test) { return std::string(Name(test.param)); });

}  // namespace
}  // namespace fathom
