// The arithmetic that a token of training takes, for MFU: what the model needs, without recomputation and padding.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace fathom::train {

// Operations (a multiply-add is two) of forward and backward, a token of sequences of `length`: 6 for each active
// weight of a product (K of the E experts; the head once for the main model and once for each MTP depth) and 3 times
// the causal attention's 2 H (qk + v head dim) (length + 1) / 2 a layer.
double TrainFlopsPerToken(const model::ModelConfig& config, int64_t length);

}  // namespace fathom::train
