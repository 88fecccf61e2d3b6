#include "train/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "train/recipe_toml.h"
#include "train/stages.h"

namespace fathom::train {
namespace {

// Sequences, to the nearest multiple of micro_batch and at least one of it.
int64_t RoundToMicroBatches(double sequences, int64_t micro_batch) {
  const auto count = static_cast<double>(micro_batch);
  return std::max<int64_t>(1, std::llround(sequences / count)) * micro_batch;
}

void CheckBatchSizes(const Recipe& recipe) {
  for (const Segment& s : recipe.schedule.batch_size.segments) {
    if (s.steps > 0) {
      throw Error{"schedule.batch_size has a length in steps", fmt::format("steps = {}", s.steps),
                  "tokens: other schedules' steps are counted through this one"};
    }
  }
  for (double size : recipe.schedule.batch_size.Corners()) {
    if (static_cast<double>(RoundToMicroBatches(size, recipe.train.micro_batch)) != size) {
      throw Error{"schedule.batch_size and train.micro_batch contradict each other",
                  fmt::format("batch_size {}, micro_batch {}", size, recipe.train.micro_batch),
                  "batch sizes that are multiples of micro_batch",
                  fmt::format("set train.micro_batch to a divisor of {}", size)};
    }
  }
}

}  // namespace

void Validate(const Recipe& recipe) {
  const ModelRecipe& model = recipe.model;
  if (model.config.empty() == model.from.empty()) {
    throw Error{"a recipe has either model.config or model.from",
                model.config.empty() ? "neither" : fmt::format("{} and {}", model.config, model.from),
                "config: a new model; from: a checkpoint to continue",
                model.config.empty() ? "" : "--set model.config= leaves it out"};
  }
  if (!model.from.empty() && model.init_std) {
    throw Error{"model.init_std and model.from contradict each other", fmt::format("init_std {}", *model.init_std),
                "init_std with model.config only: a checkpoint is not initialised"};
  }
  if (!model.config.empty() && model.tokenizer.empty()) {
    throw Error{"model.tokenizer is missing", "", "tokenizer.json or its folder"};
  }
  if (recipe.train.steps == 0 && recipe.train.tokens == 0) {
    throw Error{"the recipe does not say when the run ends", "",
                "train.steps, train.tokens or both (the first reached)"};
  }
  const auto schedule = [](const Schedule& s, const std::string& key, const FieldInfo& info) {
    Validate(s, key, info.min, info.max);
  };
  VisitFields(recipe, [&](const std::string& key, const auto& field, const FieldInfo& info) {
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, Schedule>) schedule(field, key, info);
  });
  if (recipe.train.fp8_gradient_tiles != GradientTiles::k1x128 && recipe.train.precision != Precision::kFp8) {
    throw Error{"train.fp8_gradient_tiles and train.precision contradict each other",
                fmt::format("fp8_gradient_tiles {}, precision {}", ToTomlValue(recipe.train.fp8_gradient_tiles),
                            ToTomlValue(recipe.train.precision)),
                "tiles of FP8 with train.precision = \"fp8\" only"};
  }
  CheckBatchSizes(recipe);
  data::Validate(recipe.data);
  if (recipe.validation.every > 0 && recipe.data.validation_fraction == 0 && recipe.data.validation_sources.empty()) {
    throw Error{"validation.every has nothing to measure", fmt::format("every {} steps", recipe.validation.every),
                "data.validation_fraction above 0 or data.validation_sources"};
  }
  if (recipe.stages.empty()) return;
  for (const StageRecipe& stage : Stages(recipe)) {
    if (stage.recipe.plan.device_hours > 0) continue;  // a stated cost: it has no run
    try {
      Validate(stage.recipe);
    } catch (const Error& e) {
      RethrowOf(stage.name, e);
    }
  }
}

void CheckTrainable(const Recipe& recipe) {
  for (const StageRecipe& stage : Stages(recipe)) {
    const ParallelRecipe& p = stage.recipe.parallel;
    const std::string of = recipe.stages.empty() ? "" : fmt::format("stage {}: ", stage.name);
    if (p.devices() > 1 || p.expert > 1) {
      throw Error{fmt::format("{}training in more than one process is not built", of),
                  fmt::format("parallel.pipeline = {}, expert = {}, data = {}, context = {}", p.pipeline, p.expert,
                              p.data, p.context),
                  "1 each", "fathom plan reckons what such a recipe takes"};
    }
    if (stage.recipe.plan.device_hours > 0) {
      throw Error{fmt::format("{}plan.device_hours states the cost of a run that cannot be trained from here", of),
                  fmt::format("{}", stage.recipe.plan.device_hours), "a recipe without it",
                  "fathom plan adds it to the cost"};
    }
  }
}

MomentType MomentsOf(const TrainRecipe& train) {
  if (train.optimizer_moments != MomentType::kAuto) return train.optimizer_moments;
  return train.precision == Precision::kFp8 ? MomentType::kBf16 : MomentType::kFp32;
}

ExportType ExportTypeOf(const Recipe& recipe) {
  if (recipe.checkpoint.export_dtype != ExportType::kAuto) return recipe.checkpoint.export_dtype;
  switch (recipe.train.precision) {
    case Precision::kFp32:
      return ExportType::kF32;
    case Precision::kBf16:
      return ExportType::kBf16;
    case Precision::kFp8:
      break;
  }
  return ExportType::kFp8;
}

std::vector<Difference> Compare(const Recipe& given_before, const Recipe& given_after) {
  Recipe before = given_before, after = given_after;
  for (Recipe* r : {&before, &after}) r->train.optimizer_moments = MomentsOf(r->train);
  std::vector<std::string> values;
  VisitFields(before,
              [&](const std::string&, const auto& field, const FieldInfo&) { values.push_back(ToTomlValue(field)); });
  std::vector<Difference> differences;
  size_t i = 0;
  VisitFields(after, [&](const std::string& key, const auto& field, const FieldInfo& info) {
    const std::string& was = values[i++];
    const std::string is = ToTomlValue(field);
    if (was != is) differences.push_back({key, was, is, info.fixed});
  });
  return differences;
}

std::vector<std::string> RecipeKeys() {
  std::vector<std::string> keys;
  const Recipe recipe;
  VisitFields(recipe, [&](const std::string& key, const auto&, const FieldInfo&) { keys.push_back(key); });
  return keys;
}

StepSchedule::StepSchedule(const Recipe& recipe)
    : sequence_length_(recipe.data.sequence_length),
      micro_batch_(recipe.train.micro_batch),
      batch_size_(recipe.schedule.batch_size) {
  const auto tokens_of_step = [&](int64_t tokens) { return BatchSizeAt(tokens) * sequence_length_; };
  lr_ = ResolveSteps(recipe.schedule.lr, "schedule.lr", tokens_of_step);
  mtp_loss_weight_ = ResolveSteps(recipe.schedule.mtp_loss_weight, "schedule.mtp_loss_weight", tokens_of_step);
  bias_update_speed_ = ResolveSteps(recipe.schedule.bias_update_speed, "schedule.bias_update_speed", tokens_of_step);
  for (double size : batch_size_.Corners()) {
    max_batch_size_ = std::max(max_batch_size_, RoundToMicroBatches(size, micro_batch_));
  }
}

int64_t StepSchedule::BatchSizeAt(int64_t tokens) const {
  return RoundToMicroBatches(batch_size_.At(tokens), micro_batch_);
}

StepValues StepSchedule::At(int64_t tokens_seen) const {
  StepValues values;
  values.batch_size = BatchSizeAt(tokens_seen);
  values.tokens = values.batch_size * sequence_length_;
  const int64_t middle = tokens_seen + values.tokens / 2;
  values.lr = lr_.At(middle);
  values.mtp_loss_weight = mtp_loss_weight_.At(middle);
  values.bias_update_speed = bias_update_speed_.At(middle);
  return values;
}

}  // namespace fathom::train
