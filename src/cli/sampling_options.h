// The sampling flags of generate and chat, their defaults from generation_config.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/sampler.h"

namespace CLI {
class App;
}

namespace fathom::cli {

struct SamplingOptions {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
};

void AddSamplingOptions(CLI::App& command, SamplingOptions& options);

// What the flags and, where they are silent, generation_config.json say. Without a seed one is drawn.
engine::SamplingParams Resolve(const SamplingOptions& options, const checkpoint::GenerationConfig& defaults);

}  // namespace fathom::cli
