// The stages of a recipe: what a table overrides, what a stage takes over, and what is refused.
#include "train/stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/fault_test.h"

namespace fathom::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kTwo[] = R"(
name = "short"
[model]
config = "a.json"
tokenizer = "/abs/tokenizer.json"
[data]
sources = "text"
sequence_length = 128
[train]
tokens = 1e6
micro_batch = 4
[optimizer]
clip = 0.5
[schedule]
lr = 1e-3
batch_size = [{kind = "linear", from = 8, to = 16, tokens = 1e5}]
bias_update_speed = [{kind = "constant", to = 0.001, tokens = 5e5}, {kind = "constant", to = 0}]
[on_bad_step]
skip_steps = [3]
[[stages]]
name = "long"
data.sequence_length = 512
model.rope_scaling = {type = "yarn", factor = 4, original_max_position_embeddings = 128}
train.steps = 20
schedule.lr = [{kind = "linear", from = 1e-4, to = 1e-5, steps = 20}]
[[stages]]
name = "last"
[stages.data]
sources = [{path = "more", weight = 2}]
[stages.train]
steps = 5
[stages.schedule]
lr = 1e-5
batch_size = 4
)";

Recipe Two() { return ParseRecipe(kTwo, "two.toml", "/recipes"); }

std::string StagesFault(const std::string& more) {
  return Fault([&] { Validate(ParseRecipe(kTwo + more, "two.toml", "/recipes")); });
}
std::string SetStagesFault(const std::string& assignment) {
  return Fault([&] {
    Recipe r = Two();
    SetField(r, assignment);
    Validate(r);
  });
}

model::ModelConfig ConfigOf(int64_t positions) {
  model::ModelConfig config;
  config.max_position_embeddings = positions;
  return config;
}

std::string LengthFault(const std::vector<std::string>& assignments, bool trained = false) {
  return Fault([&] {
    Recipe r = Two();
    for (const std::string& a : assignments) SetField(r, a);
    StageConfigs(Stages(r), ConfigOf(128), trained);
  });
}

TEST(Stages, ATableOverridesAndTheRestIsTakenOver) {
  const Recipe recipe = Two();
  Validate(recipe);
  const std::vector<StageRecipe> stages = Stages(recipe);
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0].name, "short");
  EXPECT_EQ(stages[0].recipe.data.sequence_length, 128);
  EXPECT_EQ(stages[0].recipe.train.tokens, 1'000'000);
  EXPECT_EQ(stages[0].recipe.schedule.batch_size.At(0), 8);

  const Recipe& longer = stages[1].recipe;
  EXPECT_EQ(stages[1].name, "long");
  EXPECT_EQ(longer.data.sequence_length, 512);
  EXPECT_EQ(longer.model.config, "/recipes/a.json");
  EXPECT_EQ(longer.optimizer.clip, 0.5);
  EXPECT_EQ(longer.train.steps, 20);
  EXPECT_EQ(longer.train.tokens, 0);  // an end of its own
  ASSERT_TRUE(longer.model.rope_scaling);
  EXPECT_EQ(longer.model.rope_scaling->factor, 4);
  EXPECT_EQ(longer.model.rope_scaling->mscale_all_dim, 1);
  EXPECT_EQ(longer.schedule.batch_size.At(0), 16);  // where the recipe's schedules ended
  EXPECT_EQ(longer.schedule.bias_update_speed.At(0), 0);
  EXPECT_TRUE(longer.on_bad_step.skip_steps.empty());
  EXPECT_EQ(StepSchedule(longer).At(0).lr, 1e-4 - 9e-5 / 40);  // from its own first step

  const Recipe& last = stages[2].recipe;
  EXPECT_EQ(last.data.sources.at(0).path, "/recipes/more");
  EXPECT_EQ(last.data.sequence_length, 128);  // from the recipe, not from the stage before
  EXPECT_FALSE(last.model.rope_scaling);
  EXPECT_EQ(last.schedule.batch_size.At(0), 4);
  for (const StageRecipe& s : stages) EXPECT_TRUE(s.recipe.stages.empty());

  Recipe alone = recipe;
  alone.stages.clear();
  ASSERT_EQ(Stages(alone).size(), 1u);
  EXPECT_TRUE(Compare(Stages(alone)[0].recipe, alone).empty());
}

TEST(Stages, SetReachesAStageOrAll) {
  Recipe r = Two();
  SetField(r, "stages.long.train.steps=7");
  SetField(r, "stages.long.schedule.batch_size=8");
  SetField(r, "stages.last.model.rope_scaling={rope_type=\"default\"}");
  SetField(r, "train.micro_batch=2");
  SetField(r, "name=first");
  const std::vector<StageRecipe> stages = Stages(r);
  EXPECT_EQ(stages[0].name, "first");
  EXPECT_EQ(stages[1].recipe.train.steps, 7);
  EXPECT_EQ(stages[1].recipe.schedule.batch_size.At(0), 8);
  EXPECT_EQ(stages[2].recipe.model.rope_scaling->factor, 1);
  for (const StageRecipe& s : stages) EXPECT_EQ(s.recipe.train.micro_batch, 2);
  EXPECT_THAT(SetStagesFault("stages.lang.train.steps=7"), AllOf(HasSubstr("stages.lang"), HasSubstr("long, last")));
  EXPECT_THAT(SetStagesFault("stages.long.train.step=7"), HasSubstr("did you mean train.steps?"));
  EXPECT_THAT(SetStagesFault("stages.long=7"), HasSubstr("does not have"));
}

TEST(Stages, WhatIsPrintedIsRead) {
  Recipe r = Two();
  SetField(r, "stages.last.data.exclude=/quote\" and\nline");
  const std::string text = ToToml(r);
  const Recipe again = ParseRecipe(text, "printed", "/elsewhere");
  EXPECT_EQ(ToToml(again), text);
  const std::vector<StageRecipe> before = Stages(r), after = Stages(again);
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].name, after[i].name);
    EXPECT_TRUE(Compare(before[i].recipe, after[i].recipe).empty()) << text;
  }
  EXPECT_EQ(after[2].recipe.data.exclude, "/quote\" and\nline");
}

TEST(Stages, WhatIsRefusedIsNamed) {
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\ntrain.steps = 1\n"), HasSubstr("stage x has no schedule.lr"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\nschedule.lr = 1\n"),
              AllOf(HasSubstr("stage x: "), HasSubstr("when the run ends")));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\nschedule.lr = 1\ntrain.seed = 4\n"),
              HasSubstr("stage x: train.seed cannot change between stages"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\nschedule.lr = 1\ntrain.steps = 4\ntrain.micro_batch = 3\n"),
              AllOf(HasSubstr("stage x: "), HasSubstr("micro_batch 3")));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"long\"\nschedule.lr = 1\n"), HasSubstr("two stages have one name"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"final\"\n"), HasSubstr("name of its folder"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"a/b\"\n"), HasSubstr("name of its folder"));
  EXPECT_THAT(StagesFault("[[stages]]\ntrain.steps = 1\n"), HasSubstr("a stage without a name"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\ntrain.stepz = 1\n"), HasSubstr("did you mean train.steps?"));
  EXPECT_THAT(StagesFault("[[stages]]\nname = \"x\"\ntrain.steps = \"a\"\n"), HasSubstr("a whole number"));
  EXPECT_THAT(Fault([] { ParseRecipe("stages = 3", "r", ""); }), HasSubstr("tables [[stages]]"));
  EXPECT_THAT(SetStagesFault("model.rope_scaling={type=\"linear\", factor=2}"), HasSubstr("\"yarn\""));
  EXPECT_THAT(SetStagesFault("model.rope_scaling={type=\"yarn\", factor=2}"),
              HasSubstr("original_max_position_embeddings"));
  EXPECT_THAT(SetStagesFault("model.rope_scaling={type=\"yarn\", factr=2}"), HasSubstr("did you mean"));
  EXPECT_THAT(SetStagesFault("model.rope_scaling={type=\"yarn\", factor=0.5, original_max_position_embeddings=128}"),
              HasSubstr("out of range"));
}

TEST(Stages, LengthsFollowTheModel) {
  const std::vector<model::ModelConfig> configs = StageConfigs(Stages(Two()), ConfigOf(128), false);
  ASSERT_EQ(configs.size(), 3u);
  EXPECT_FALSE(configs[0].rope_scaling);
  EXPECT_EQ(configs[0].max_position_embeddings, 128);
  EXPECT_EQ(configs[1].rope_scaling->original_max_position_embeddings, 128);
  EXPECT_EQ(configs[1].max_position_embeddings, 512);

  const std::string yarn = "stages.long.model.rope_scaling={type=\"yarn\", ";
  EXPECT_EQ(LengthFault({}), "none");
  EXPECT_THAT(LengthFault({"data.sequence_length=256"}), AllOf(HasSubstr("stage short: "), HasSubstr("at most 128")));
  EXPECT_THAT(LengthFault({"stages.long.data.sequence_length=513"}), HasSubstr("stage long: data.sequence_length"));
  EXPECT_THAT(LengthFault({"stages.long.data.sequence_length=1024", "stages.long.model.max_position_embeddings=2048"}),
              AllOf(HasSubstr("stage long: "), HasSubstr("does not reach"), HasSubstr("factor = 8")));
  EXPECT_THAT(LengthFault({yarn + "factor=8, original_max_position_embeddings=64}"}),
              AllOf(HasSubstr("stage long: "), HasSubstr("got:      64"), HasSubstr("expected: 128")));
  // What was seen is what the stage before was trained at, in a new model; in a checkpoint, what its config says.
  EXPECT_THAT(LengthFault({"data.sequence_length=64", "stages.last.data.sequence_length=64"}),
              HasSubstr("expected: 64"));
  EXPECT_EQ(LengthFault({"data.sequence_length=64", "stages.last.data.sequence_length=64"}, true), "none");
  // A second extension keeps the original length.
  const std::string again =
      "stages.last.model.rope_scaling={type=\"yarn\", factor=16, original_max_position_embeddings=";
  EXPECT_EQ(LengthFault({again + "128}", "stages.last.data.sequence_length=2048"}), "none");
  EXPECT_THAT(LengthFault({again + "512}"}), HasSubstr("stage last: "));
}

// The recipes of the repository that have stages: each of them resolves, and its lengths fit each other.
TEST(Stages, TheNeedleRunIsValid) {
  const Recipe r = ReadRecipe(FATHOM_SOURCE_DIR "/configs/runs/needle.toml");
  Validate(r);
  const std::vector<StageRecipe> stages = Stages(r);
  const std::vector<model::ModelConfig> configs =
      StageConfigs(stages, model::ReadConfigFile(r.model.config).config, false);
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[2].recipe.data.sequence_length, 4 * stages[1].recipe.data.sequence_length);
  EXPECT_EQ(configs[1].max_position_embeddings, stages[1].recipe.data.sequence_length);
  EXPECT_EQ(configs[2].max_position_embeddings, stages[2].recipe.data.sequence_length);
}

}  // namespace
}  // namespace fathom::train
