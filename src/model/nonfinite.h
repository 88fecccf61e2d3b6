// Naming the tensor behind a NaN or an infinity.
#pragma once

#include "core/error.h"
#include "model/config.h"
#include "model/params.h"

namespace fathom::model {

// Whether any element (or scale) of a weight is NaN or infinite.
bool HasNonFinite(const Weight& weight);

// The Error for a block whose output is not finite: names the first tensor of the layers up to `layer` that holds a NaN
// or an infinity, or says that the weights are finite and the activations overflowed.
Error NonFiniteError(const ModelConfig& config, const ModelParams& params, int64_t layer);

}  // namespace fathom::model
