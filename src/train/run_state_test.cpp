// What is saved comes back to the bit, from the newest checkpoint that is whole.
#include "train/run_state.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "train/run_state_test.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

RunState StateOf(int64_t step) {
  RunState s;
  s.step = step;
  s.tokens = step * 4096;
  s.optimizer_steps = step - 1;
  s.seed = 0xfedcba9876543210u;
  s.data_cursor = "{\"source\": [1, 2], \"text\": \"a \\\"quote\\\" and \xc3\xa9\"}";
  s.recipe_toml = "[train]\nsteps = 10\n";
  s.model_config_json = model::ToJson(checkpoint::TinyConfig());
  s.skipped_steps = {2, 3};
  s.skips_in_a_row = 1;
  s.recent_losses = {0.1, 1.0 / 3, 11.7625, std::numeric_limits<double>::infinity(), -0.0};
  s.recent_norms = {5e-324, 1.7976931348623157e308};
  return s;
}

class RunStateTest : public RunFolderTest {
 protected:
  void Save(int64_t step, int64_t keep = 10, const StorePolicy& policy = {}) {
    ParamStore store(config_, policy);
    FillStep(store, step);
    SaveRunState(Path(), store, StateOf(step), keep, pool_);
  }
  std::optional<LoadedState> Load(ParamStore& store) {
    Context ctx = TestContext(pool_);
    return LoadNewestRunState(Path(), store_config_ ? *store_config_ : config_, store, ctx);
  }
  std::string LoadFault(ParamStore& store) {
    return checkpoint::ErrorOf([&] { Load(store); });
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(Path("checkpoints"))) names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  const model::ModelConfig config_ = checkpoint::TinyConfig();
  const model::ModelConfig* store_config_ = nullptr;  // another model's
  ThreadPool pool_{2};
};

TEST_F(RunStateTest, ComesBackToTheBit) {
  model::ModelConfig large = config_;
  large.vocab_size = 8000;  // embedding and head in more than one piece
  int64_t step = 0;
  for (const model::ModelConfig& config : {config_, large}) {
    for (const DType moments : {DType::kF32, DType::kBF16}) {
      for (const bool ema : {false, true}) {
        const StorePolicy policy = {.moments = moments, .ema = ema};
        ParamStore saved(config, policy), loaded(config, policy);
        FillRandom(saved, static_cast<uint64_t>(++step));
        RunState state = StateOf(step);
        state.model_config_json = model::ToJson(config);
        ThreadPool three(3);
        const SavedState where = SaveRunState(Path(), saved, state, 1, three);
        EXPECT_GE(where.bytes, RunStateBytes(saved));
        store_config_ = &config;
        const std::optional<LoadedState> back = Load(loaded);
        ASSERT_TRUE(back);
        EXPECT_EQ(back->state, state);
        EXPECT_EQ(back->path, where.path);
        EXPECT_THAT(back->warnings, IsEmpty());
        EXPECT_EQ(FirstDifference(saved, loaded), "");
        for (const StoredTensor& t : loaded.tensors()) {
          for (int64_t i = 0; t.bf16 && i < t.n; ++i) ASSERT_EQ(t.bf16[i], F32ToBf16(t.master[i])) << t.name;
        }
      }
    }
  }
  EXPECT_EQ(ReadRunState(Path("checkpoints/step-00000008")).tokens, 8 * 4096);
}

TEST_F(RunStateTest, ThreadsDoNotChangeAByte) {
  ParamStore store(config_, {.ema = true});
  FillRandom(store, 3);
  const auto bytes_with = [&](int threads) {
    ThreadPool pool(threads);
    const std::string path = SaveRunState(Path(), store, StateOf(7), 1, pool).path;
    std::string all;
    for (const char* name : {"masters.safetensors", "m.safetensors", "v.safetensors", "ema.safetensors", "state.json"})
      all += io::ReadFile(path + "/" + name, 1 << 24).Value();
    return all;
  };
  EXPECT_EQ(bytes_with(1), bytes_with(4));
}

TEST_F(RunStateTest, NothingSavedIsNoError) {
  ParamStore store(config_, {});
  FillStep(store, 77);
  EXPECT_FALSE(Load(store));
  fs::create_directories(Path("checkpoints/step-00000003.tmp-99"));
  Write("checkpoints/step-00000003.tmp-99/m.safetensors", "half");
  Write("checkpoints/notes.txt", "the user's");
  EXPECT_FALSE(Load(store));
  EXPECT_THAT(Names(), ElementsAre("notes.txt"));
  ParamStore other(config_, {});
  FillStep(other, 77);
  EXPECT_EQ(FirstDifference(store, other), "");
}

TEST_F(RunStateTest, TheOldestGo) {
  for (int64_t step : {8, 9, 10, 11}) Save(step, 2);
  EXPECT_THAT(Names(), ElementsAre("step-00000010", "step-00000011"));
  EXPECT_THAT(ListRunStates(Path()), ElementsAre(Path("checkpoints/step-00000011"), Path("checkpoints/step-00000010")));
  Save(100'000'000, 3);
  EXPECT_THAT(Names(), ElementsAre("step-00000010", "step-00000011", "step-100000000"));
  Save(100'000'001, 1);
  EXPECT_THAT(Names(), ElementsAre("step-100000001"));
}

// A run that went back because later checkpoints were damaged saves step after step again.
TEST_F(RunStateTest, LaterStepsAreOfAnAbandonedPast) {
  for (int64_t step : {10, 20, 30}) Save(step);
  Save(15, 2);
  EXPECT_THAT(Names(), ElementsAre("step-00000010", "step-00000015"));
  ParamStore before(config_, {}), after(config_, {});
  FillStep(before, 4);
  SaveRunState(Path(), before, StateOf(15), 2, pool_);
  EXPECT_THAT(Names(), ElementsAre("step-00000010", "step-00000015"));
  ASSERT_EQ(Load(after)->state.step, 15);
  EXPECT_EQ(FirstDifference(before, after), "");
}

TEST_F(RunStateTest, ADamagedOneIsPassedOverAndNamed) {
  const StorePolicy policy = {.ema = true};
  Save(1, 10, policy);
  Save(2, 10, policy);
  ParamStore store(config_, policy), first(config_, policy), second(config_, policy);
  FillStep(first, 1);
  FillStep(second, 2);
  const auto takes_the_one_before = [&](const std::string& name, const std::string& how) {
    FillStep(store, 9);
    const std::optional<LoadedState> loaded = Load(store);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->state.step, 1) << name << ", " << how;
    EXPECT_EQ(loaded->state, StateOf(1));
    EXPECT_EQ(FirstDifference(store, first), "") << name << ", " << how;
    ASSERT_THAT(loaded->warnings, SizeIs(1));
    EXPECT_THAT(loaded->warnings[0], AllOf(HasSubstr("step-00000002 was passed over: "), HasSubstr(name))) << how;
  };
  for (const std::string name :
       {"masters.safetensors", "m.safetensors", "v.safetensors", "ema.safetensors", "state.json"}) {
    const std::string path = "checkpoints/step-00000002/" + name, whole = io::ReadFile(Path(path), 1 << 24).Value();
    const auto n = static_cast<int64_t>(whole.size());
    for (const int64_t length : {int64_t{0}, int64_t{7}, n / 2, n - 1}) {
      Write(path, whole.substr(0, static_cast<size_t>(length)));
      takes_the_one_before(name, "cut to " + std::to_string(length));
    }
    Write(path, whole + "x");
    takes_the_one_before(name, "longer");
    // The first bytes, the last, and some between: headers and tensors.
    Rng rng(5, static_cast<uint64_t>(n));
    std::vector<int64_t> places = {0, 1, 8, 9, 13, 30, 31, 32, 33, n - 1};
    for (int i = 0; i < 5; ++i) places.push_back(rng.NextBelow(std::min<int64_t>(n, 6000)));
    for (int i = 0; i < 6; ++i) places.push_back(rng.NextBelow(n));
    for (int64_t at : places) {
      std::string flipped = whole;
      flipped[static_cast<size_t>(at)] ^= static_cast<char>(1 << rng.NextBelow(8));
      Write(path, flipped);
      takes_the_one_before(name, "bit flipped in byte " + std::to_string(at));
    }
    fs::remove(Path(path));
    takes_the_one_before(name, "absent");
    fs::create_directory(Path(path));
    takes_the_one_before(name, "a folder");
    fs::remove(Path(path));
    Write(path, whole);
  }
  const std::optional<LoadedState> loaded = Load(store);
  EXPECT_EQ(loaded->state.step, 2);
  EXPECT_THAT(loaded->warnings, IsEmpty());
  EXPECT_EQ(FirstDifference(store, second), "");
}

TEST_F(RunStateTest, WhereAllAreDamagedItSaysSo) {
  for (int64_t step : {1, 2}) {
    Save(step);
    Write(fmt::format("checkpoints/step-{:08}/v.safetensors", step), "");
  }
  ParamStore store(config_, {});
  EXPECT_THAT(LoadFault(store), AllOf(HasSubstr("none of the checkpoints in "), HasSubstr("step-00000001 was passed"),
                                      HasSubstr("step-00000002 was passed")));
}

TEST_F(RunStateTest, AnotherModelIsRefusedByWhatDiffers) {
  Save(1);
  model::ModelConfig other = config_;
  other.num_experts_per_tok = 1;
  store_config_ = &other;
  ParamStore same_shapes(other, {});
  EXPECT_THAT(LoadFault(same_shapes), AllOf(HasSubstr("is of another model"), HasSubstr("num_experts_per_tok = 2"),
                                            HasSubstr("num_experts_per_tok = 1")));
  other = config_;
  other.torch_dtype = "float32";
  other.initializer_range = 1;
  EXPECT_TRUE(Load(same_shapes));

  // Without the configuration the tensors tell.
  ParamStore store(config_, {});
  RunState bare = StateOf(2);
  bare.model_config_json.clear();
  SaveRunState(Path(), store, bare, 1, pool_);
  other = config_;
  other.vocab_size = 41;
  ParamStore wider(other, {});
  EXPECT_THAT(LoadFault(wider),
              AllOf(HasSubstr("model.embed_tokens.weight"), HasSubstr("F32 (40, 136)"), HasSubstr("F32 (41, 136)")));
  other = config_;
  other.num_nextn_predict_layers = 0;
  ParamStore fewer(other, {});
  EXPECT_THAT(LoadFault(fewer), AllOf(HasSubstr("model.layers.2."), HasSubstr("no such tensor")));
  store_config_ = nullptr;
  other.num_hidden_layers = 3;
  ParamStore more(other, {});
  EXPECT_THAT(LoadFault(more), HasSubstr("is of another model"));
}

TEST_F(RunStateTest, AnotherPolicyIsTakenWhereItCanBe) {
  Save(3);
  ParamStore bf16(config_, {.moments = DType::kBF16});
  EXPECT_THAT(LoadFault(bf16), AllOf(HasSubstr("m.safetensors is in another type"), HasSubstr("optimizer_moments")));

  ParamStore averaged(config_, {.ema = true}), wanted(config_, {.ema = true});
  FillStep(wanted, 3);
  const std::optional<LoadedState> loaded = Load(averaged);
  EXPECT_THAT(loaded->warnings, ElementsAre(HasSubstr("has no averaged weights: they begin at its weights")));
  for (const StoredTensor& t : averaged.tensors()) {
    for (int64_t i = 0; t.ema && i < t.n; ++i) ASSERT_EQ(t.ema[i], wanted.Find(t.name)->master[i]) << t.name;
  }

  Save(4, 1, {.ema = true});
  ParamStore plain(config_, {}), expected(config_, {});
  FillStep(expected, 4);
  EXPECT_THAT(Load(plain)->warnings, ElementsAre(HasSubstr("were left out")));
  EXPECT_EQ(FirstDifference(plain, expected), "");

  ParamStore weights(config_, {.optimizer = false});
  EXPECT_EQ(Load(weights)->state.step, 4);
  Save(5, 1, {.optimizer = false});
  EXPECT_THAT(LoadFault(plain), HasSubstr("has no m.safetensors"));
}

TEST_F(RunStateTest, TextThatIsNotUtf8IsRefused) {
  ParamStore store(config_, {});
  RunState state = StateOf(1);
  state.recipe_toml = "\xff";
  EXPECT_THAT(checkpoint::ErrorOf([&] { SaveRunState(Path(), store, state, 1, pool_); }),
              AllOf(HasSubstr("step 1 was not saved"), HasSubstr("UTF-8"), HasSubstr("no earlier step is saved")));
  EXPECT_THAT(Names(), IsEmpty());
}

}  // namespace
}  // namespace fathom::train
