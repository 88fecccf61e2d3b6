// One stage of a run in a directory of its own. RunTraining (trainer.h) runs the stages of a recipe in turn.
#pragma once

#include <string>

#include "model/config.h"
#include "train/trainer.h"

namespace fathom::train {

// Where a stage stands among the others of its run.
struct StagePlace {
  std::string name;
  std::string before;                // directory of the stage that it continues; empty: none, it begins as a run does
  model::ModelConfig before_config;  // and that stage's configuration
};

// Runs a recipe without stages, as RunTraining does. place: null for a run that has no stages.
RunResult RunStage(Context& ctx, const Recipe& recipe, const std::string& dir, bool resume, const RunEvents& events,
                   const StagePlace* place);

// What RunStage checks before it works: the model, the tokenizer, memory for the weights. Gives the configuration of
// the model that the recipe begins with, before model.rope_scaling and model.max_position_embeddings; the
// beginning-of-sequence id is the tokenizer's.
model::ModelConfig CheckBeginning(const Recipe& recipe);

// Makes the run's directory, or takes it as it is; what a killed run was writing in it goes. Throws Error for a
// directory that is not empty without `resume`.
void PrepareDirectory(const std::string& dir, bool resume);

// Whether a run that is in this state is at its recipe's end.
bool AtEnd(const Recipe& recipe, int64_t step, int64_t tokens);

}  // namespace fathom::train
