// Training against the golden vectors of a reference in float64: losses, the gradient of every parameter, and ten steps
// of AdamW with the router bias.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "io/safetensors.h"
#include "model/objective.h"
#include "train/optimizer.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

// The project's own copy, else that of ../shared.
fs::path Golden(const std::string& name) {
  const fs::path own = fs::path(FATHOM_SOURCE_DIR) / "tests/golden" / name;
  return fs::exists(own) ? own : fs::path(FATHOM_SOURCE_DIR) / "../shared/golden" / name;
}

class Train : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!fs::exists(Golden(GetParam()))) GTEST_SKIP() << "needs ../shared/golden/" << GetParam();
    checkpoint_.emplace(checkpoint::Open(Golden(GetParam()).string()));
    file_.emplace(io::SafetensorsFile::Open((Golden(GetParam()) / "golden.safetensors").string()).Value());
    std::ifstream in(Golden(GetParam()) / "golden.json");
    meta_ = nlohmann::json::parse(in);
    const TensorView ids = file_->Get("train_ids");
    sequences_ = ids.shape[0];
    length_ = ids.shape[1] - 1;
    for (int64_t i = 0; i < ids.size(); ++i) {
      ids_.push_back(ids.dtype == DType::kI64 ? static_cast<int32_t>(static_cast<const int64_t*>(ids.data)[i])
                                              : static_cast<const int32_t*>(ids.data)[i]);
    }
  }

  const model::ModelConfig& config() const { return checkpoint_->config(); }

  // Gradients (added to store) and sums of the first `count` sequences, `together` at a time.
  model::Losses Pass(Context& ctx, train::ParamStore& store, int64_t count, int64_t together, double lambda,
                     double alpha, model::Recompute recompute, model::ObjectiveSums* sums) {
    const model::Transformer transformer(config(), store.params(), length_);
    const std::span<const int32_t> ids(ids_);
    const model::TrainSequences all{.ids = ids, .sequences = count, .length = length_};
    const model::ObjectiveScale scale{.targets = model::CountTargets(all, transformer.mtp_depth()),
                                      .sequences = count,
                                      .mtp_loss_weight = lambda,
                                      .aux_loss_alpha = alpha};
    const model::Compute compute = store.policy().compute;
    const model::ObjectivePlan plan =
        model::PlanObjective(transformer, ctx, store.grads(), together, length_, recompute, compute);
    Arena arena(plan.arena), tape(plan.tape);
    for (int64_t s = 0; s < count; s += together) {
      const model::TrainSequences part{
          .ids = ids.subspan(static_cast<size_t>(s * (length_ + 1)), static_cast<size_t>(together * (length_ + 1))),
          .sequences = together,
          .length = length_};
      sums->Add(model::ForwardBackward(
          transformer, ctx, arena, tape,
          {.batch = &part, .scale = &scale, .grads = &store.grads(), .recompute = recompute, .compute = compute}));
    }
    EXPECT_EQ(arena.Overflows(), 0);
    EXPECT_EQ(tape.Overflows(), 0);
    return model::LossesOf(*sums, scale);
  }

  std::optional<checkpoint::Checkpoint> checkpoint_;
  std::optional<io::SafetensorsFile> file_;
  nlohmann::json meta_;
  std::vector<int32_t> ids_;
  int64_t sequences_ = 0, length_ = 0;
};

TEST_P(Train, LossesAndGradients) {
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = Context::IsaFromEnvironment(), .verbose = {}};
  train::ParamStore store(config(), {.compute = model::Compute::kF32, .optimizer = false});
  store.Assign(ctx, checkpoint_->params());
  model::ObjectiveSums sums;
  const nlohmann::json& golden = meta_["train"];
  const model::Losses losses =
      Pass(ctx, store, 1, 1, golden["lambda"], golden["alpha"], model::Recompute::kPaper, &sums);
  EXPECT_NEAR(losses.main, golden["loss"]["main"], 1e-4);
  EXPECT_NEAR(losses.mtp, golden["loss"]["mtp"], 1e-4);
  EXPECT_NEAR(losses.balance, golden["loss"]["balance"], 1e-4);
  EXPECT_NEAR(losses.total, golden["loss"]["total"], 1e-4);
  for (const train::StoredTensor& t : store.tensors()) {
    if (!t.grad) continue;
    const double norm = meta_["grad_norm"].value(t.name, 0.0);
    double squares = 0, dot = 0;
    for (int64_t i = 0; i < t.n; ++i) {
      squares += static_cast<double>(t.grad[i]) * t.grad[i];
      dot += t.grad[i] * std::cos(static_cast<double>(i));
    }
    const double bound = 1e-4 * norm + 1e-7;
    EXPECT_NEAR(std::sqrt(squares), norm, bound) << t.name;
    EXPECT_NEAR(dot, meta_["grad_dot_cos"].value(t.name, 0.0), bound) << t.name;
    if (norm == 0) continue;
    const TensorView index = file_->Get("grad_index." + t.name), value = file_->Get("grad_value." + t.name);
    for (int64_t i = 0; i < index.size(); ++i) {
      EXPECT_NEAR(t.grad[static_cast<const int32_t*>(index.data)[i]], static_cast<const float*>(value.data)[i], bound)
          << t.name;
    }
  }
}

TEST_P(Train, TenSteps) {
  if (!meta_.contains("steps")) GTEST_SKIP() << GetParam() << " has no golden steps";
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = Context::IsaFromEnvironment(), .verbose = {}};
  train::ParamStore store(config(), {.compute = model::Compute::kF32});
  store.Assign(ctx, checkpoint_->params());
  const nlohmann::json& golden = meta_["steps"];
#ifdef __SANITIZE_ADDRESS__
  const size_t steps = 2;  // the others access memory in the same way
#else
  const size_t steps = golden["rows"].size();
#endif
  for (size_t i = 0; i < steps; ++i) {
    const nlohmann::json& row = golden["rows"][i];
    model::ObjectiveSums sums;
    const model::Losses losses = Pass(ctx, store, sequences_, 2, meta_["train"]["lambda"], meta_["train"]["alpha"],
                                      model::Recompute::kPaper, &sums);
    const double norm = train::GradientNorm(ctx, store);
    // Adam's first steps are lr times the gradient's sign, whatever its size: an element of the size of float32's noise
    // goes another way, and soon a token near a tie takes another expert. The reference itself, run in float32, is off
    // by 5e-5 at step 1, 4e-4 at step 3, and from step 5 on by up to 0.08 (loss) and a third (norm): docs/LOG.md. So
    // the bound grows sixfold a step from float32's 1e-4, up to what separates two such runs.
    const double bound = std::min(1e-4 * std::pow(6.0, static_cast<double>(i)), 0.3);
    EXPECT_NEAR(losses.main, row["main"], bound) << i;
    EXPECT_NEAR(losses.mtp, row["mtp"], bound) << i;
    EXPECT_NEAR(losses.balance, row["balance"], bound) << i;
    EXPECT_NEAR(losses.total, row["total"], bound) << i;
    if (i < 5) {
      EXPECT_NEAR(norm, row["grad_norm"], bound * norm) << i;
    }
    train::AdamwStep(ctx, store,
                     {.lr = golden["lr"],
                      .beta1 = golden["betas"][0],
                      .beta2 = golden["betas"][1],
                      .eps = golden["eps"],
                      .weight_decay = golden["weight_decay_on_matrices"],
                      .clip = golden["clip"],
                      .step = static_cast<int64_t>(i) + 1},
                     norm);
    train::UpdateRouterBias(store, sums.load, golden["gamma"]);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Train,
                         testing::Values("v3-tiny", "v3-odd", "v3-onegroup", "v3-mtp2", "v2-lite-tiny", "v2-tiny"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace fathom
