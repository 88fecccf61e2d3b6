#include "train/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/error.h"

namespace fathom::train {
namespace {

// What the model is, and where it begins: the same in all stages.
constexpr std::array<std::string_view, 6> kOfTheRun = {"model.config",   "model.from", "model.tokenizer",
                                                       "model.init_std", "train.seed", "train.optimizer_moments"};
// Folders of a run that a stage cannot be called like.
constexpr std::array<std::string_view, 4> kTaken = {"final", "final-ema", "checkpoints", "tensorboard"};

bool IsFolderName(const std::string& name) {
  constexpr size_t kLongest = 64;
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= kLongest && std::all_of(name.begin(), name.end(), fits) &&
         std::find(kTaken.begin(), kTaken.end(), name) == kTaken.end();
}

void CheckName(const std::string& name, std::set<std::string>& names) {
  if (!IsFolderName(name)) {
    throw Error("a stage's name is the name of its folder in the run", name.substr(0, 80),
                fmt::format("letters, digits, - and _; not {}", fmt::join(kTaken, ", ")));
  }
  if (!names.insert(name).second) {
    throw Error("two stages have one name", name, "names that differ",
                "the recipe's own run is a stage too: `name` at the head of the file, \"pretrain\" without it");
  }
}

// Of a schedule that a stage does not give.
Schedule Last(const Schedule& schedule) {
  const std::vector<double> corners = schedule.Corners();
  return corners.empty() ? schedule : Schedule::Constant(corners.back());
}

Recipe Resolve(const Recipe& base, const StageTable& stage) {
  const auto gives = [&](std::string_view key) {
    return std::any_of(stage.values.begin(), stage.values.end(), [&](const auto& v) { return v.first == key; });
  };
  for (std::string_view key : kOfTheRun) {
    if (gives(key)) {
      throw Error(fmt::format("stage {}: {} cannot change between stages", stage.name, key), "",
                  "the value of the recipe: a stage continues its model");
    }
  }
  // A stage whose cost is stated is planned, not run: it needs no more.
  if (!gives("schedule.lr") && !gives("plan.device_hours")) {
    throw Error(fmt::format("stage {} has no schedule.lr", stage.name), "", "a learning rate of its own",
                fmt::format("schedule.lr = ... in its table, or --set stages.{}.schedule.lr=...", stage.name));
  }
  Recipe recipe = base;
  recipe.name = stage.name;
  recipe.stages.clear();
  recipe.train.steps = recipe.train.tokens = 0;
  recipe.train.optimizer_moments = MomentsOf(base.train);
  recipe.on_bad_step.skip_steps.clear();
  ScheduleRecipe& schedule = recipe.schedule;
  for (Schedule* s : {&schedule.batch_size, &schedule.mtp_loss_weight, &schedule.bias_update_speed}) *s = Last(*s);
  if (gives("model.rope_scaling")) recipe.model.max_position_embeddings = 0;
  for (const auto& [key, value] : stage.values) SetPrinted(recipe, key, value);
  return recipe;
}

}  // namespace

std::vector<StageRecipe> Stages(const Recipe& recipe) {
  std::vector<StageRecipe> out{{recipe.name, recipe}};
  if (recipe.stages.empty()) return out;
  std::set<std::string> names;
  CheckName(recipe.name, names);
  out[0].recipe.stages.clear();
  out[0].recipe.train.optimizer_moments = MomentsOf(recipe.train);
  for (const StageTable& stage : recipe.stages) {
    CheckName(stage.name, names);
    out.push_back({stage.name, Resolve(recipe, stage)});
  }
  return out;
}

void ApplyModelKeys(const ModelRecipe& keys, model::ModelConfig& config) {
  if (keys.rope_scaling) {
    config.rope_scaling = keys.rope_scaling;
    if (keys.rope_scaling->factor == 1) {
      config.rope_scaling.reset();
    } else {
      config.max_position_embeddings = std::llround(
          keys.rope_scaling->factor * static_cast<double>(keys.rope_scaling->original_max_position_embeddings));
    }
  }
  if (keys.max_position_embeddings > 0) config.max_position_embeddings = keys.max_position_embeddings;
}

std::vector<model::ModelConfig> StageConfigs(const std::vector<StageRecipe>& stages, const model::ModelConfig& origin,
                                             bool trained) {
  std::vector<model::ModelConfig> configs;
  model::ModelConfig before = origin;
  int64_t longest = trained ? origin.max_position_embeddings : 0;  // that the model has seen without scaling
  for (const StageRecipe& stage : stages) {
    model::ModelConfig config = origin;
    ApplyModelKeys(stage.recipe.model, config);
    const int64_t length = stage.recipe.data.sequence_length;
    try {
      if (length > config.max_position_embeddings) {
        throw Error("data.sequence_length is longer than the model's context", fmt::format("{}", length),
                    fmt::format("at most {} (max_position_embeddings)", config.max_position_embeddings),
                    "model.rope_scaling extends it, docs/context-extension.md");
      }
      if (config.rope_scaling) {
        const int64_t original = config.rope_scaling->original_max_position_embeddings;
        const double reach = config.rope_scaling->factor * static_cast<double>(original);
        if (static_cast<double>(length) > reach) {
          throw Error(
              "model.rope_scaling does not reach data.sequence_length",
              fmt::format("{} positions (factor {} * {})", reach, config.rope_scaling->factor, original),
              fmt::format("{} or more", length),
              fmt::format("factor = {}", std::ceil(static_cast<double>(length) / static_cast<double>(original))));
        }
        const bool seen = trained || !configs.empty();
        const int64_t expected =
            seen && before.rope_scaling ? before.rope_scaling->original_max_position_embeddings : longest;
        if (stage.recipe.model.rope_scaling && expected > 0 && original != expected) {
          throw Error("model.rope_scaling has another original_max_position_embeddings than the model was trained at",
                      fmt::format("{}", original), fmt::format("{}", expected));
        }
      } else {
        longest = std::max(longest, length);
      }
    } catch (const Error& e) {
      RethrowOf(stages.size() > 1 ? stage.name : "", e);
    }
    before = config;
    configs.push_back(std::move(config));
  }
  return configs;
}

void RethrowOf(const std::string& stage, const Error& error) {
  if (stage.empty()) throw error;
  throw Error(fmt::format("stage {}: {}", stage, error.summary()), error.got(), error.expected(), error.hint());
}

}  // namespace fathom::train
