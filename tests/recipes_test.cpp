// The recipes that ship: each can be read, its stages fit together, and what it names is there.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "data/batches.h"
#include "model/config.h"
#include "tokenizer/model_files.h"
#include "train/corpus_size.h"
#include "train/stages.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

const std::string kRuns = FATHOM_SOURCE_DIR "/configs/runs";

TEST(ShippedRecipes, FitTogether) {
  size_t count = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(kRuns)) {
    if (entry.path().extension() != ".toml") continue;
    ++count;
    const std::string path = entry.path().string();
    const Recipe recipe = ReadRecipe(path);
    const std::vector<StageRecipe> stages = Stages(recipe);
    ASSERT_TRUE(recipe.model.from.empty()) << path;
    EXPECT_NO_THROW(StageConfigs(stages, model::ReadConfigFile(recipe.model.config).config, false)) << path;
    for (const StageRecipe& stage : stages) {
      // What lies in the project is there; what a user has to bring lies elsewhere, or is made by the commands above
      // it.
      for (const data::SourceOptions& source : stage.recipe.data.sources) {
        if (source.path.find("/configs/runs/text/") != std::string::npos) {
          EXPECT_TRUE(fs::exists(source.path)) << path << ": " << source.path;
        }
      }
    }
  }
  EXPECT_GE(count, 5u);
}

TEST(ShippedRecipes, TheDefaultModelsTextIsReadAndItsHeldOutTextKeptOut) {
  const Recipe recipe = ReadRecipe(kRuns + "/fathom-16m.toml");
  const tokenizer::ModelText text = tokenizer::LoadModelText(recipe.model.tokenizer);
  for (const StageRecipe& stage : Stages(recipe)) {
    data::DataOptions options = stage.recipe.data;
    options.chat_template = "v3";
    options.pack_window_tokens = 1 << 14;
    EXPECT_FALSE(options.exclude.empty()) << stage.name;
    data::BatchStream stream(options, text.tokenizer);
    const data::Batch batch = stream.Next(4);
    EXPECT_EQ(batch.length, options.sequence_length);
    const bool some = !batch.learned.empty() && std::count(batch.learned.begin(), batch.learned.end(), 1) > 0;
    if (stage.name == "sft") {
      EXPECT_TRUE(some);  // conversations, of which the answers are learned
    }
  }
}

TEST(CorpusSize, OfACompressedFileIsThatOfItsText) {
  data::DataOptions options;
  options.sources.resize(1);
  options.sources[0].path = kRuns + "/text/generated/recall-512.jsonl.zst";
  options.sequence_length = 511;
  options.fim_rate = 0;
  const tokenizer::ModelText text = tokenizer::LoadModelText(kRuns + "/fathom-tokenizer");
  const CorpusEstimate estimate = EstimateCorpus(options, text.tokenizer, 10'000'000);
  // In one pass, but for what does not fill the last sequence.
  options.validation_sources = options.sources;
  data::BatchStream pass(options, text.tokenizer, data::Split::kValidation);
  int64_t sequences = 0;
  for (int64_t got = 1; got > 0; sequences += got) got = pass.Next(64).sequences;
  EXPECT_NEAR(estimate.tokens, static_cast<double>(sequences * 512), 0.15 * estimate.tokens);
  EXPECT_NEAR(estimate.epochs * estimate.tokens, 1e7, 1);
}

}  // namespace
}  // namespace fathom::train
