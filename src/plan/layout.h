// Which device holds what: layers cut into the pipeline's stages, experts spread, weights repeated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/transformer.h"
#include "train/parallel_recipe.h"

namespace fathom::plan {

// A stage: layers [first, last), MTP modules counted on after the main ones.
struct Chunk {
  int64_t first = 0, last = 0;
  bool embedding = false;  // the first stage
  bool head = false;       // the last one: final norm and head, the main model's and the MTP modules'
};

struct Layout {
  train::ParallelRecipe parallel;
  std::vector<Chunk> chunks;  // by stage

  // DualPipe feeds micro-batches from both ends: a rank holds its stage and that of the rank opposite.
  bool both_ends() const { return parallel.schedule == train::PipelineSchedule::kDualPipe && parallel.pipeline > 1; }
  int64_t copies() const { return both_ends() ? 2 : 1; }
  // Stages of a pipeline rank: of direction 0, and with both_ends of direction 1.
  std::vector<int64_t> StagesOf(int64_t rank) const;
  std::string Describe() const;  // "PP16 x EP64 x DP128, ZeRO-1, dualpipe: 2048 devices"
};

// Throws Error naming the key for a layout that does not divide the model.
void CheckLayout(const model::ModelConfig& config, const train::ParallelRecipe& parallel);
// Contiguous stages whose slowest is as fast as whole layers allow (by forward operations at `length`), filled from the
// first. The embedding has no arithmetic; heads and MTP modules are in the last stage, so that with DualPipe they lie
// beside the embedding, with which they share weights (V3 report 3.2.3).
Layout MakeLayout(const model::ModelConfig& config, const train::ParallelRecipe& parallel, int64_t length);

const char* Name(train::PipelineSchedule schedule);

}  // namespace fathom::plan
