// The stages of a recipe as whole recipes: the recipe's own run first, then one for each of its [[stages]] tables. Each
// goes on from the weights, moments and router bias of the one before (docs/context-extension.md).
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "train/recipe.h"

namespace fathom::train {

struct StageRecipe {
  std::string name;
  Recipe recipe;  // without stages
};

// At least one. A stage has the recipe's values but for what its table gives, and for these, which belong to a run:
//   train.steps, train.tokens   0 if not given: a stage has an end of its own
//   schedule.lr                 must be given; tokens and steps of schedules count from the stage's beginning
//   the other schedules         constant at the last value of the recipe's, if not given
//   max_position_embeddings     not taken over beside a rope_scaling of the stage's own
//   on_bad_step.skip_steps      none, if not given
//   train.optimizer_moments     what the recipe's own run has
// Throws Error naming the stage: a name that is no folder's or is there twice, a key that a stage cannot change, no end
// or lr.
std::vector<StageRecipe> Stages(const Recipe& recipe);

// What model.rope_scaling and model.max_position_embeddings say instead of the configuration.
void ApplyModelKeys(const ModelRecipe& keys, model::ModelConfig& config);

// The configuration of each stage, from that of the model which the recipe begins with. Throws Error naming the stage
// where lengths contradict each other: a sequence longer than max_position_embeddings or than factor *
// original_max_position_embeddings, an original length other than what the model was trained at before. `trained`: the
// recipe begins with a checkpoint, not with a new model.
std::vector<model::ModelConfig> StageConfigs(const std::vector<StageRecipe>& stages, const model::ModelConfig& origin,
                                             bool trained);

// What `what` throws as an Error, said of the stage; of a recipe without stages as it is.
[[noreturn]] void RethrowOf(const std::string& stage, const Error& error);

}  // namespace fathom::train
