// A model of random weights in memory, for measuring a configuration without a checkpoint. What it computes means
// nothing; its values have the spread of a fresh model, so that routing and attention are as varied as a real one's.
#pragma once

#include <memory>
#include <string>

#include "core/context.h"
#include "model/params.h"

namespace fathom::cli {

class RandomModel {
 public:
  // dtype: "f32", "bf16", "fp8" (projections in E4M3 with 128x128 scales, the rest BF16, as the release has it), or
  // "auto": as the configuration says.
  RandomModel(const model::ModelConfig& config, const std::string& dtype, Context& ctx);
  const model::ModelConfig& config() const { return config_; }
  const model::ModelParams& params() const { return params_; }

 private:
  model::ModelConfig config_;
  model::ModelParams params_;
  Buffer storage_;
};

}  // namespace fathom::cli
