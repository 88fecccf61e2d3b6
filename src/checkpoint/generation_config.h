// generation_config.json: what the publisher of a checkpoint samples with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::checkpoint {

struct GenerationConfig {
  std::optional<bool> do_sample;  // false: greedy, whatever the temperature says
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;
};

// Keys that do not concern sampling are ignored; a value of the wrong type or out of range is an Error.
Result<GenerationConfig> ParseGenerationConfig(std::string_view json);

}  // namespace fathom::checkpoint
