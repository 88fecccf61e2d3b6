// Whole models against what reference implementations compute from the same checkpoints (tests/golden/README.md):
// hidden states, router choices, logits, MTP, greedy continuations; in every form, chunk size and instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/compare.h"
#include "engine/engine.h"
#include "engine/trace.h"
#include "io/safetensors.h"

namespace fathom {
namespace {

using model::Compute;

// The folder of a golden checkpoint: the project's own copy, else the collection beside the project.
std::optional<std::string> Folder(const std::string& name) {
  for (const std::string base : {FATHOM_SOURCE_DIR "/tests/golden/", FATHOM_SOURCE_DIR "/../shared/golden/"}) {
    if (std::filesystem::exists(base + name + "/golden.safetensors")) return base + name;
  }
  return std::nullopt;
}

std::vector<float> Floats(const io::SafetensorsFile& f, const std::string& name) {
  const TensorView v = f.Get(name);
  std::vector<float> out(static_cast<size_t>(v.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = v.dtype == DType::kI64 ? static_cast<float>(static_cast<const int64_t*>(v.data)[i])
                                    : static_cast<const float*>(v.data)[i];
  }
  return out;
}

std::vector<int32_t> Ids(const io::SafetensorsFile& f, const std::string& name) {
  std::vector<int32_t> ids;
  for (float v : Floats(f, name)) ids.push_back(static_cast<int32_t>(v));
  return ids;
}

class GoldenModel {
 public:
  GoldenModel(const std::string& folder, int threads = 2)
      : checkpoint_(checkpoint::Open(folder, {})),
        golden_(io::SafetensorsFile::Open(folder + "/golden.safetensors").Value()),
        pool_(threads),
        transformer_(checkpoint_.config(), checkpoint_.params(), 1024) {}

  engine::Trace Trace(const std::vector<int32_t>& ids, engine::TraceOptions options, Isa isa = BestIsa()) {
    Context ctx{.pool = pool_, .isa = isa, .verbose = {}};
    return engine::RunTrace(ctx, transformer_, ids, options);
  }
  const io::SafetensorsFile& golden() const { return golden_; }
  const model::Transformer& transformer() const { return transformer_; }
  const model::ModelConfig& config() const { return checkpoint_.config(); }
  ThreadPool& pool() { return pool_; }

 private:
  checkpoint::Checkpoint checkpoint_;
  io::SafetensorsFile golden_;
  ThreadPool pool_;
  model::Transformer transformer_;
};

// `ours` may be a prefix of the truth: attention is causal, so the first rows of a sequence do not depend on the rest.
void ExpectClose(const std::vector<float>& ours, std::vector<float> truth, Compute compute, int64_t layer,
                 const std::string& what) {
  ASSERT_LE(ours.size(), truth.size()) << what;
  ASSERT_FALSE(ours.empty()) << what;
  truth.resize(ours.size());
  const Comparison c = Compare(ours, truth);
  EXPECT_EQ(c.special_mismatch, 0) << what;
  EXPECT_LE(c.rel_l2, engine::TraceTolerance(compute, layer)) << what << ": " << c.ToString();
}

// Experts equal where no other choice is legitimate: the gap between chosen and rejected scores (at most 1.3) exceeds
// what float32 arithmetic of the layers before may move them by.
void ExpectRouting(const engine::Trace& t, const io::SafetensorsFile& g, int64_t layer) {
  const std::string l = std::to_string(layer);
  const std::vector<float> gap = Floats(g, "router_gap." + l), ids = Floats(g, "router_ids." + l),
                           weights = Floats(g, "router_weights." + l);
  const engine::TracedTensor& ours = t.at("router_ids." + l);
  const size_t k = static_cast<size_t>(ours.cols);
  ASSERT_LE(ours.i32.size(), ids.size());
  const size_t rows = static_cast<size_t>(ours.rows());
  const double tolerance = 4 * engine::TraceTolerance(Compute::kF32, layer);
  size_t compared = 0;
  for (size_t row = 0; row < rows; ++row) {
    if (gap[row] <= tolerance) continue;
    ++compared;
    std::vector<int32_t> a(ours.i32.begin() + static_cast<std::ptrdiff_t>(row * k),
                           ours.i32.begin() + static_cast<std::ptrdiff_t>((row + 1) * k)),
        b;
    for (size_t i = 0; i < k; ++i) b.push_back(static_cast<int32_t>(ids[row * k + i]));
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    EXPECT_EQ(a, b) << "layer " << layer << " row " << row;
  }
  EXPECT_GT(compared, rows / 2);
  ExpectClose(t.at("router_weights." + l).f32, weights, Compute::kF32, layer, "router_weights." + l);
}

// Every tensor of an FP32 trace that the golden file has.
void ExpectFp32(const engine::Trace& t, const GoldenModel& m, const std::string& what) {
  const io::SafetensorsFile& g = m.golden();
  const int64_t layers = m.config().num_hidden_layers;
  const bool fp8 = g.Find("logits_weight_only") != nullptr;
  for (int64_t l = 0; l < layers; ++l) {
    const std::string name = std::to_string(l);
    ExpectClose(t.at("hidden." + name).f32, Floats(g, (fp8 ? "hidden_weight_only." : "hidden.") + name), Compute::kF32,
                l, what + " hidden." + name);
    if (g.Find("router_ids." + name)) ExpectRouting(t, g, l);
  }
  ExpectClose(t.at("logits").f32, Floats(g, fp8 ? "logits_weight_only" : "logits"), Compute::kF32, layers,
              what + " logits");
  if (fp8) return;
  ExpectClose(t.at("final_hidden").f32, Floats(g, "final_hidden"), Compute::kF32, layers, what + " final_hidden");
  for (int64_t k = 1; k <= m.transformer().mtp_depth(); ++k) {
    const std::string name = std::to_string(k);
    ExpectClose(t.at("mtp_hidden." + name).f32, Floats(g, "mtp_hidden." + name), Compute::kF32, layers + k,
                what + " mtp_hidden." + name);
    ExpectClose(t.at("mtp_logits." + name).f32, Floats(g, "mtp_logits." + name), Compute::kF32, layers + k,
                what + " mtp_logits." + name);
  }
}

class GoldenBase : public testing::Test {
 protected:
  // Skips where the checkpoint is not there.
  void Load(const std::string& name) {
    const auto folder = Folder(name);
    if (!folder) GTEST_SKIP() << "golden checkpoint " << name << " is not here";
    folder_ = *folder;
    model_.emplace(*folder);
    ids_ = Ids(model_->golden(), "input_ids");
  }
  std::string folder_;
  std::optional<GoldenModel> model_;
  std::vector<int32_t> ids_;
};

class Golden : public GoldenBase, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { Load(GetParam()); }
};

// A model on one instruction set. The reference is slow: it takes the first tokens only.
class GoldenIsa : public GoldenBase, public testing::WithParamInterface<std::tuple<const char*, Isa>> {
 protected:
  void SetUp() override {
    isa_ = std::get<1>(GetParam());
    if (!MachineHas(isa_)) GTEST_SKIP() << "this machine has no " << Name(isa_);
    Load(std::get<0>(GetParam()));
    if (isa_ == Isa::kReference && !ids_.empty()) ids_.resize(20);
  }
  Isa isa_ = Isa::kReference;
};
class GoldenFp8 : public GoldenIsa {};
class GoldenYarn : public Golden {};

TEST_P(GoldenIsa, Fp32) { ExpectFp32(model_->Trace(ids_, {}, isa_), *model_, ""); }

TEST_P(Golden, Fp32InChunksAndAbsorbed) {
  for (int64_t chunk : {1, 7, 64}) {
    for (model::AttentionForm form : {model::AttentionForm::kFull, model::AttentionForm::kAbsorbed}) {
      engine::TraceOptions o;
      o.chunk = chunk;
      o.form = form;
      ExpectFp32(model_->Trace(ids_, o), *model_,
                 "chunk " + std::to_string(chunk) + (form == model::AttentionForm::kFull ? " full" : " absorbed"));
    }
  }
}

// Inputs of every block but the first, exact, as many rows as the trace has.
std::map<int64_t, std::vector<float>> ExactInputs(const GoldenModel& m, const std::string& prefix) {
  std::map<int64_t, std::vector<float>> inputs;
  for (int64_t l = 1; l < m.config().num_hidden_layers; ++l)
    inputs[l] = Floats(m.golden(), prefix + std::to_string(l - 1));
  return inputs;
}

// The experts of a row, sorted.
std::vector<int32_t> Experts(const engine::TracedTensor& t, int64_t row) {
  std::vector<int32_t> ids(t.i32.begin() + row * t.cols, t.i32.begin() + (row + 1) * t.cols);
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Per block, from the exact input of each: end to end BF16 is chaotic on random weights, since one expert that flips
// changes all. Rows where bf16 scores chose other experts than exact arithmetic are another sum; the rest must be
// close.
TEST_P(GoldenIsa, Bf16PerBlock) {
  const std::string prefix = model_->golden().Find("logits_weight_only") ? "hidden_weight_only." : "hidden.";
  engine::TraceOptions o;
  o.inputs = ExactInputs(*model_, prefix);
  const engine::Trace exact = model_->Trace(ids_, o);
  o.compute = Compute::kBf16;
  o.cache_dtype = DType::kBF16;
  const engine::Trace t = model_->Trace(ids_, o, isa_);
  const int64_t n = static_cast<int64_t>(ids_.size()), d = model_->config().hidden_size;
  for (int64_t l = 0; l < model_->config().num_hidden_layers; ++l) {
    const std::string name = "hidden." + std::to_string(l), router = "router_ids." + std::to_string(l);
    const std::vector<float> truth = Floats(model_->golden(), prefix + std::to_string(l));
    std::vector<float> a, b;
    for (int64_t row = 0; row < n; ++row) {
      if (t.contains(router) && Experts(t.at(router), row) != Experts(exact.at(router), row)) continue;
      a.insert(a.end(), t.at(name).f32.begin() + row * d, t.at(name).f32.begin() + (row + 1) * d);
      b.insert(b.end(), truth.begin() + row * d, truth.begin() + (row + 1) * d);
    }
    EXPECT_GE(static_cast<int64_t>(a.size()), n * d * 3 / 4) << "too many other experts in layer " << l;
    ExpectClose(a, b, Compute::kBf16, 0, name);
  }
}

TEST_P(Golden, GreedyContinuation) {
  const io::SafetensorsFile& g = model_->golden();
  const bool fp8 = g.Find("logits_weight_only") != nullptr;
  const std::string suffix = fp8 ? "_weight_only" : "";
  const std::vector<int32_t> expected = Ids(g, "greedy_ids" + suffix);
  const std::vector<float> gap = Floats(g, "greedy_gap" + suffix);
  // Logits of these models are of size 10; a gap below the bound of an FP32 engine allows another token, and all after
  // it.
  const double bound = 10 * 4 * engine::TraceTolerance(Compute::kF32, model_->config().num_hidden_layers);
  size_t sure = 0;
  while (sure < gap.size() && gap[sure] > bound) ++sure;
  ASSERT_GT(sure, 0u);
  engine::Request r;
  r.prompt = Ids(g, "prompt_ids");
  r.max_tokens = 48;
  r.sampling.temperature = 0;
  Context ctx{.pool = model_->pool(), .isa = BestIsa(), .verbose = {}};
  engine::Engine engine(ctx, model_->transformer(), {.max_context = 128, .cache_tokens = 256, .max_running = 2});
  const std::vector<engine::Answer> answers = engine.Run(std::vector<engine::Request>{r, r, r});
  for (const engine::Answer& a : answers) {
    ASSERT_EQ(a.ids.size(), 48u);
    EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(sure), a.ids.begin()))
        << "of " << sure << " certain tokens";
  }
  EXPECT_EQ(engine.arena_overflows(), 0);
}

TEST_P(GoldenYarn, LongContext) {
  const io::SafetensorsFile& g = model_->golden();
  engine::TraceOptions o;
  o.chunk = 256;
  const engine::Trace t = model_->Trace(Ids(g, "long_ids"), o);
  const std::vector<float>& logits = t.at("logits").f32;
  const std::vector<float> last(logits.end() - model_->config().vocab_size, logits.end());
  ExpectClose(last, Floats(g, "long_logits_last"), Compute::kF32, model_->config().num_hidden_layers,
              "long_logits_last");
}

TEST_P(GoldenFp8, W8A8PerBlock) {
  engine::TraceOptions o;
  o.compute = Compute::kW8A8;
  o.inputs = ExactInputs(*model_, "hidden_weight_only.");
  const engine::Trace t = model_->Trace(ids_, o, isa_);
  for (int64_t l = 0; l < model_->config().num_hidden_layers; ++l) {
    const std::string name = std::to_string(l);
    ExpectClose(t.at("hidden." + name).f32, Floats(model_->golden(), "block_w8a8." + name), Compute::kW8A8, 0,
                "block " + name);
  }
}

// To the bit: the number of threads, and running again.
TEST_P(Golden, SameBitsForAnyThreads) {
  const engine::Trace once = model_->Trace(ids_, {});
  GoldenModel three(folder_, 3), one(folder_, 1);
  const engine::Trace again = model_->Trace(ids_, {}), t3 = three.Trace(ids_, {}), t1 = one.Trace(ids_, {});
  for (const engine::Trace* t : {&again, &t3, &t1}) {
    for (const auto& [name, tensor] : once) {
      EXPECT_TRUE(tensor.f32 == t->at(name).f32 && tensor.i32 == t->at(name).i32) << name;
    }
  }
}

std::string Plain(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
const auto kModels = testing::Values("v3-tiny", "v3-tiny-fp8", "v3-tiny-fp8-ue8m0", "v3-odd", "v3-odd-fp8",
                                     "v3-odd-fp8-ue8m0", "v3-onegroup", "v3-mtp2", "v2-lite-tiny", "v2-tiny");
const auto kIsas =
    testing::Values(Isa::kReference, Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx, Isa::kNeon);
const auto kName = [](const auto& p) { return Plain(p.param); };
const auto kIsaName = [](const auto& p) {
  return Plain(std::get<0>(p.param)) + "_" + std::string(Name(std::get<1>(p.param)));
};

INSTANTIATE_TEST_SUITE_P(Models, Golden, kModels, kName);
INSTANTIATE_TEST_SUITE_P(Models, GoldenYarn, testing::Values("v3-tiny", "v3-mtp2", "v2-lite-tiny"), kName);
INSTANTIATE_TEST_SUITE_P(Models, GoldenIsa, testing::Combine(kModels, kIsas), kIsaName);
INSTANTIATE_TEST_SUITE_P(
    Models, GoldenFp8,
    testing::Combine(testing::Values("v3-tiny-fp8", "v3-tiny-fp8-ue8m0", "v3-odd-fp8", "v3-odd-fp8-ue8m0"), kIsas),
    kIsaName);

}  // namespace
}  // namespace fathom
