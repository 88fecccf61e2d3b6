// What fills a device's memory, by kind, for a layout and a schedule: reckoned from sizes, nothing is run.
//
// A run of one process is fathom's own trainer: float32 masters that the arithmetic reads where it has no copy of them,
// activations in float32 (docs/training.md). Many devices are as the V3 report has them (3.2, 3.3): copies for the
// arithmetic on every device, masters and moments spread by ZeRO-1, activations in BF16, and with FP8 those that the
// backward pass multiplies as FP8 or E5M6 codes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan/layout.h"
#include "train/recipe.h"

namespace fathom::plan {

struct MemoryArgs {
  train::Precision precision = train::Precision::kBf16;
  model::Recompute recompute = model::Recompute::kPaper;
  int64_t moment_bytes = 4;  // of each of the two
  bool ema = false;
  int64_t micro_batch = 1, length = 0;
};

// Bytes.
struct DeviceMemory {
  double weights_fp8 = 0, weights_bf16 = 0, weights_f32 = 0;  // what the arithmetic reads; FP8 with its scales
  double gradients = 0;                                       // float32, whole: ZeRO-1 does not spread them
  double masters = 0, moments = 0;
  double activations = 0;  // kept for the backward passes of the micro-batches in flight
  double cache = 0;        // of these what is kept in FP8 and E5M6
  double workspace = 0;    // of one layer and the head while they are computed
  double ema = 0;          // averaged weights: in the host's memory where there are many devices

  double Weights() const { return weights_fp8 + weights_bf16 + weights_f32; }
  double Total() const { return Weights() + gradients + masters + moments + activations + cache + workspace; }
};

// Bytes that a token of a layer keeps for the backward pass.
struct Kept {
  double activations = 0, cache = 0;
};
Kept KeptByToken(const model::ModelConfig& config, const Layout& layout, const MemoryArgs& args, int64_t layer);
// By a micro-batch of a stage.
Kept KeptByStage(const model::ModelConfig& config, const Layout& layout, const MemoryArgs& args, int64_t stage);

// (pipeline,): the devices of each pipeline rank. `alive` (pipeline,): micro-batches in flight of each direction
// (Timeline::alive).
std::vector<DeviceMemory> MemoryOf(const model::ModelConfig& config, const Layout& layout, const MemoryArgs& args,
                                   const std::vector<std::array<int64_t, 2>>& alive);

}  // namespace fathom::plan
