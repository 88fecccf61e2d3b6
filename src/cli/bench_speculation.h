// Measuring speculation: one sequence decoded with drafts of the MTP module and without, in turn.
#pragma once

#include <cstdint>
#include <string>

#include "cli/loaded_model.h"

namespace fathom::cli {

struct SpeculationBenchPlan {
  int64_t drafts = 1;
  std::string prompt = "Once upon a time";
  double temperature = 0;
  int64_t tokens = 200;  // of an answer
  int rounds = 5;
};

struct SpeculationBenchResult {
  double token_seconds = 0, verify_seconds = 0,
         draft_seconds = 0;                     // of a token alone, of a step with drafts, of a draft
  double plain_rate = 0, speculative_rate = 0;  // tokens a second
  int64_t drafted = 0, accepted = 0;
  double acceptance = 0;     // of all drafts
  double kept_per_step = 0;  // drafts
  double rounds_per_step = 0;
  double speedup() const { return speculative_rate / plain_rate; }
  double bound() const {
    return (1 + kept_per_step) * token_seconds / (verify_seconds + rounds_per_step * draft_seconds);
  }
};

// Throws Error: no MTP module.
SpeculationBenchResult RunSpeculationBench(LoadedModel& model, const SpeculationBenchPlan& plan);

}  // namespace fathom::cli
