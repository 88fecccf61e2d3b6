// Refuses a run that does not fit into memory before any of it is taken, and says what would fit.
#pragma once

#include <cstdint>

#include "core/context.h"
#include "model/config.h"
#include "train/param_store.h"
#include "train/recipe.h"

namespace fathom::train {

StorePolicy PolicyOf(const Recipe& recipe);

// `available`: bytes that are free before the run takes any, negative where that is not known (then all fits).
// Throws Error if weights, gradients, moments and averages do not fit.
void CheckStateMemory(const Recipe& recipe, const model::ModelConfig& config, int64_t available);

// Bytes of a step's activations. Throws Error if they do not fit beside the store.
int64_t CheckStepMemory(Context& ctx, const Recipe& recipe, const model::ModelConfig& config, const ParamStore& store,
                        int64_t available);

}  // namespace fathom::train
