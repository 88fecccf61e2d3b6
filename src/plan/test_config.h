// For tests: the models of configs/models.
#pragma once

#include <string>

#include "model/config.h"

namespace fathom::plan {

inline model::ModelConfig Config(const std::string& name) {
  return model::ReadConfigFile(FATHOM_SOURCE_DIR "/configs/models/" + name + ".json").config;
}

}  // namespace fathom::plan
