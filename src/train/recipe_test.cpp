#include "train/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "train/fault_test.h"

namespace fathom::train {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSmall[] = R"(
[model]
config = "models/a.json"
tokenizer = "/abs/tokenizer.json"
[data]
sources = ["text", {path = "b.jsonl", weight = 2.5, text_key = "body"}]
sequence_length = 128
[train]
steps = 10
micro_batch = 4
[schedule]
lr = 1e-3
batch_size = 8
)";

Recipe Small() { return ParseRecipe(kSmall, "small.toml", "/recipes"); }

std::string ParseFault(const std::string& more) {
  return Fault([&] { ParseRecipe(kSmall + more, "small.toml", "/recipes"); });
}
std::string SetFault(const std::string& assignment) {
  return Fault([&] {
    Recipe r = Small();
    SetField(r, assignment);
    Validate(r);
  });
}

TEST(Recipe, ReadsValuesAndResolvesPaths) {
  const Recipe r = Small();
  Validate(r);
  EXPECT_EQ(r.model.config, "/recipes/models/a.json");
  EXPECT_EQ(r.model.tokenizer, "/abs/tokenizer.json");
  ASSERT_EQ(r.data.sources.size(), 2u);
  EXPECT_EQ(r.data.sources[0].path, "/recipes/text");
  EXPECT_EQ(r.data.sources[0].weight, 1);
  EXPECT_EQ(r.data.sources[1].path, "/recipes/b.jsonl");
  EXPECT_EQ(r.data.sources[1].weight, 2.5);
  EXPECT_EQ(r.data.sources[1].text_key, "body");
  EXPECT_EQ(r.train.steps, 10);
  EXPECT_EQ(r.optimizer.beta2, 0.95);
  EXPECT_EQ(r.schedule.lr.At(5), 1e-3);
  EXPECT_FALSE(r.model.init_std);
}

TEST(Recipe, MisspeltKeysNameTheNearest) {
  EXPECT_THAT(ParseFault("[optimizer]\nweigth_decay = 0.1\n"),
              AllOf(HasSubstr("small.toml"), HasSubstr("optimizer.weigth_decay (line 15)"),
                    HasSubstr("did you mean optimizer.weight_decay?")));
  EXPECT_THAT(ParseFault("[optimiser]\nbeta1 = 0.9\n"), HasSubstr("did you mean optimizer.beta1?"));
  EXPECT_THAT(ParseFault("[log]\nmicro_batch = 1\n"), HasSubstr("did you mean train.micro_batch?"));
  EXPECT_THAT(ParseFault("[checkpoint]\nfrequency = 1\n"),
              HasSubstr("checkpoint.every, checkpoint.keep"));  // none near: the section's
  EXPECT_THAT(ParseFault("[nonsense]\n"), HasSubstr("nonsense"));
  EXPECT_THAT(ParseFault("[validation]\nevery = {steps = 3}\n"), HasSubstr("validation.every"));
  EXPECT_THAT(SetFault("train.step=3"), HasSubstr("did you mean train.steps?"));
  EXPECT_THAT(SetFault("data.sources=[{pathh = \"x\"}]"), HasSubstr("did you mean data.sources.path?"));
  EXPECT_THAT(SetFault("schedule.lr=[{kind=\"linear\", too=1, tokens=5}]"), HasSubstr("did you mean schedule.lr.to"));
}

TEST(Recipe, WrongTypesAndRangesAreRefused) {
  EXPECT_THAT(ParseFault("[optimizer]\nbeta1 = \"a\"\n"), AllOf(HasSubstr("optimizer.beta1"), HasSubstr("a number")));
  EXPECT_THAT(ParseFault("[optimizer]\nbeta1 = true\n"), HasSubstr("a number"));
  EXPECT_THAT(ParseFault("[optimizer]\nbeta1 = 1.5\n"), AllOf(HasSubstr("out of range"), HasSubstr("line 15")));
  EXPECT_THAT(ParseFault("[optimizer]\nbeta1 = nan\n"), HasSubstr("out of range"));
  EXPECT_THAT(ParseFault("[checkpoint]\nevery = 1.5\n"), HasSubstr("a whole number"));
  EXPECT_THAT(ParseFault("[checkpoint]\nevery = 1e300\n"), HasSubstr("a whole number"));
  EXPECT_THAT(ParseFault("[checkpoint]\nevery = -1\n"), HasSubstr("out of range"));
  EXPECT_THAT(ParseFault("[log]\ntensorboard = 1\n"), HasSubstr("true or false"));
  EXPECT_THAT(ParseFault("[on_bad_step]\nnonfinite = \"ignore\"\n"), HasSubstr("\"skip\", \"stop\""));
  EXPECT_THAT(ParseFault("[on_bad_step]\nskip_steps = [1, \"b\"]\n"), HasSubstr("a whole number"));
  EXPECT_THAT(ParseFault("[schedule]\n"), HasSubstr("is no TOML"));  // given twice
  EXPECT_THAT(ParseFault("= 3"), AllOf(HasSubstr("is no TOML"), HasSubstr("line 14")));
  EXPECT_THAT(SetFault("schedule.lr=[{to=1}]"), HasSubstr("no kind"));
  EXPECT_THAT(SetFault("schedule.lr=fast"), HasSubstr("a number, or a list of segments"));
  EXPECT_THAT(SetFault("train.seed=-1"), HasSubstr("out of range"));
  EXPECT_THAT(SetFault("train.steps"), HasSubstr("key=value"));
  EXPECT_THAT(Fault([] { ReadRecipe("/no/such/recipe.toml"); }), HasSubstr("/no/such/recipe.toml"));
}

TEST(Recipe, ContradictionsAreRefused) {
  EXPECT_EQ(SetFault("train.steps=5"), "none");
  EXPECT_THAT(SetFault("train.steps=0"), HasSubstr("when the run ends"));
  EXPECT_THAT(SetFault("train.micro_batch=3"), AllOf(HasSubstr("micro_batch 3"), HasSubstr("multiples")));
  EXPECT_THAT(SetFault("model.from=/x"), HasSubstr("either model.config or model.from"));
  EXPECT_THAT(SetFault("model.config="), HasSubstr("neither"));
  EXPECT_THAT(SetFault("model.tokenizer="), HasSubstr("model.tokenizer is missing"));
  EXPECT_THAT(SetFault("data.sequence_length=0"), HasSubstr("sequence_length"));
  EXPECT_THAT(SetFault("schedule.lr=11"), HasSubstr("schedule.lr is out of range"));
  EXPECT_THAT(SetFault("schedule.batch_size=[{kind=\"constant\",to=8,steps=2},{kind=\"constant\",to=16}]"),
              HasSubstr("length in steps"));
  EXPECT_THAT(SetFault("validation.every=5"), HasSubstr("nothing to measure"));
}

TEST(Recipe, SetReadsTomlAndBareText) {
  Recipe r = Small();
  SetField(r, "train.tokens=14.8e12");
  EXPECT_EQ(r.train.tokens, 14'800'000'000'000);
  SetField(r, "train.precision=fp32");
  EXPECT_EQ(r.train.precision, Precision::kFp32);
  SetField(r, " train.recompute = \"full\" ");
  EXPECT_EQ(r.train.recompute, model::Recompute::kFull);
  SetField(r, "model.config=/with = sign/2024.json");
  EXPECT_EQ(r.model.config, "/with = sign/2024.json");
  SetField(r, "model.config=/a b");
  EXPECT_EQ(r.model.config, "/a b");
  SetField(r, "model.init_std=0.006");
  EXPECT_EQ(r.model.init_std, 0.006);
  SetField(r, "data.sources=/just/one");
  ASSERT_EQ(r.data.sources.size(), 1u);
  EXPECT_EQ(r.data.sources[0].path, "/just/one");
  SetField(r, "on_bad_step.skip_steps=[3, 9]");
  EXPECT_THAT(r.on_bad_step.skip_steps, ElementsAre(3, 9));
  SetField(r, "data.validation_sources=[]");
  EXPECT_TRUE(r.data.validation_sources.empty());
}

// Every field changed from its default, so that none can be forgotten in one of the directions.
Recipe Unusual() {
  Recipe r = Small();
  for (const char* assignment :
       {"model.init_std=0.006",
        "train.tokens=1e9",
        "train.seed=7",
        "train.precision=fp32",
        "train.recompute=full",
        "train.optimizer_moments=bf16",
        "optimizer.beta1=0.8",
        "optimizer.beta2=0.99",
        "optimizer.eps=1e-9",
        "optimizer.weight_decay=0.01",
        "optimizer.clip=0.5",
        "optimizer.ema_decay=0.999",
        "schedule.aux_loss_alpha=0.1",
        "schedule.mtp_loss_weight=0.123456789012345678",
        "checkpoint.every=3",
        "checkpoint.keep=5",
        "log.every=2",
        "log.load_every=3",
        "log.tensorboard=false",
        "validation.every=9",
        "validation.sequences=3",
        "on_bad_step.nonfinite=stop",
        "on_bad_step.spike_factor=8",
        "on_bad_step.max_skips=2",
        "on_bad_step.skip_steps=[4]",
        "data.fim_rate=0.25",
        "data.validation_fraction=0.01",
        "data.exclude=/tmp/out.jsonl",
        "schedule.bias_update_speed=[{kind=\"constant\",to=0.001,tokens=5},{kind=\"linear\",to=0,steps=6},{kind="
        "\"constant\",to=1}]",
        "schedule.lr=[{kind=\"linear\",from=0.1,to=1e-3,steps=3},{kind=\"cosine\",to=1e-4,tokens=9}]"}) {
    SetField(r, assignment);
  }
  r.model.tokenizer = "/quote\" back\\slash\nline\ttab \x01 \xC3\xA9";
  r.data.sources[1].separator = "\n\n\n";
  return r;
}

TEST(Recipe, WhatIsPrintedIsRead) {
  for (const Recipe& r : {Small(), Unusual()}) {
    const std::string text = ToToml(r);
    const Recipe again = ParseRecipe(text, "printed", "/elsewhere");
    EXPECT_EQ(ToToml(again), text);
    EXPECT_TRUE(Compare(r, again).empty()) << text;
    EXPECT_EQ(again.model.tokenizer, r.model.tokenizer);
    EXPECT_EQ(again.data.sources[1].separator, r.data.sources[1].separator);
    EXPECT_EQ(again.schedule.mtp_loss_weight.At(0), r.schedule.mtp_loss_weight.At(0));
    EXPECT_EQ(again.schedule.lr.segments.size(), r.schedule.lr.segments.size());
  }
  EXPECT_THAT(ToToml(Small()), HasSubstr("# init_std is not set"));
}

TEST(Recipe, DifferencesAreNamed) {
  Recipe a = Small(), b = Small();
  EXPECT_TRUE(Compare(a, b).empty());
  SetField(b, "train.steps=20");
  SetField(b, "data.sequence_length=64");
  SetField(b, "model.init_std=0.1");
  const std::vector<Difference> d = Compare(a, b);
  ASSERT_EQ(d.size(), 3u);
  EXPECT_EQ(d[0].key, "model.init_std");
  EXPECT_EQ(d[0].before, "");
  EXPECT_EQ(d[0].after, "0.1");
  EXPECT_EQ(d[1].key, "data.sequence_length");
  EXPECT_TRUE(d[1].fixed);
  EXPECT_EQ(d[2].key, "train.steps");
  EXPECT_EQ(d[2].before, "10");
  EXPECT_EQ(d[2].after, "20");
  EXPECT_FALSE(d[2].fixed);
}

TEST(Recipe, BatchSizesAreMultiplesOfMicroBatches) {
  Recipe r = Small();
  SetField(r, "schedule.batch_size=[{kind=\"linear\",from=8,to=16,tokens=12800}]");
  Validate(r);
  const StepSchedule schedule(r);
  int64_t tokens = 0, last = 0;
  for (int step = 0; step < 12; ++step) {
    const StepValues v = schedule.At(tokens);
    EXPECT_EQ(v.batch_size % 4, 0);
    EXPECT_GE(v.batch_size, last);
    last = v.batch_size;
    tokens += v.tokens;
  }
  EXPECT_EQ(schedule.At(0).batch_size, 8);
  EXPECT_EQ(schedule.At(3199).batch_size, 8);  // 9.99 is nearer to 8
  EXPECT_EQ(schedule.At(3300).batch_size, 12);
  EXPECT_EQ(schedule.At(12800).batch_size, 16);
  EXPECT_EQ(schedule.max_batch_size(), 16);
}

TEST(Recipe, WarmUpDoesNotWasteItsFirstStep) {
  Recipe r = Small();
  SetField(r, "schedule.lr=[{kind=\"linear\",to=1,steps=4}]");
  const StepSchedule schedule(r);
  EXPECT_EQ(schedule.At(0).lr, 0.125);
  EXPECT_EQ(schedule.At(3 * 8 * 128).lr, 0.875);
  EXPECT_EQ(schedule.At(4 * 8 * 128).lr, 1);
}

TEST(Recipe, TheSmokeRunIsValid) {
  const Recipe r = ReadRecipe(FATHOM_SOURCE_DIR "/configs/runs/smoke.toml");
  Validate(r);
  for (const std::string& path : {r.model.config, r.model.tokenizer, r.data.sources.at(0).path}) {
    EXPECT_TRUE(std::ifstream(path).good()) << path;
  }
  EXPECT_GE(r.train.steps / r.checkpoint.every, 10);
}

// docs/train-recipe.md has a row for every key: `name` under the heading of its section.
TEST(Recipe, EveryKeyIsDescribed) {
  std::ifstream in(FATHOM_SOURCE_DIR "/docs/train-recipe.md");
  std::map<std::string, std::string> sections;
  std::string section;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("## `[", 0) == 0) section = line.substr(5, line.find(']') - 5);
    sections[section] += line + "\n";
  }
  for (const std::string& key : RecipeKeys()) {
    const std::string name = key.substr(0, key.find('.')), field = key.substr(key.find('.') + 1);
    EXPECT_THAT(sections[name], HasSubstr("| `" + field + "` |")) << key;
  }
}

}  // namespace
}  // namespace fathom::train
