// What a run must keep to continue bit for bit: weights, moments, averages and the counters around them
// (docs/training-state.md has the format).
//
//   RUN/checkpoints/step-00000120/state.json            RunState, the files' and every tensor's checksum, its own
//                                 masters.safetensors   float32, with the router's biases
//                                 m.safetensors, v.safetensors    Adam's moments in their own type
//                                 ema.safetensors       averages, where there are any
//
// A folder has its name only when all of it is on the disk. One process at a time saves into a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/param_store.h"

namespace fathom::train {

struct RunState {
  int64_t step = 0;    // steps done, those skipped included: the next one is `step` + 1 of the run
  int64_t tokens = 0;  // seen
  int64_t optimizer_steps = 0;
  uint64_t seed = 0;
  std::string data_cursor;  // data::BatchStream::Cursor()
  std::string recipe_toml;  // ToToml
  std::string model_config_json;
  std::vector<int64_t> skipped_steps;
  int64_t skips_in_a_row = 0;
  std::vector<double> recent_losses, recent_norms;  // what the spike policy's medians are of
  bool operator==(const RunState&) const = default;
};

struct SavedState {
  std::string path;
  int64_t bytes = 0;
  std::vector<std::string> warnings;  // of old ones that could not be removed
};

// What SaveRunState takes on the disk for this store, but for state.json (some 100 bytes a tensor).
int64_t RunStateBytes(const ParamStore& store);

// Saves the state as of state.step, then removes the oldest beyond `keep` >= 1, those of later steps (left from before
// the run went back to an earlier one) and what killed saves left. The store must not change meanwhile. Throws Error
// (disk full, not writable); the earlier checkpoints are then all there, and nothing of this one is.
SavedState SaveRunState(const std::string& run_dir, const ParamStore& store, const RunState& state, int64_t keep,
                        ThreadPool& pool);

struct LoadedState {
  RunState state;
  std::string path;
  std::vector<std::string> warnings;  // which checkpoints were passed over, and why
};

// Reads the newest checkpoint that is undamaged (every byte is verified) into the store and refreshes its bf16 copies.
// Nothing saved yet: nullopt, the store untouched. Averages that the store has and the checkpoint has not begin at the
// masters, with a warning. Throws Error where checkpoints exist and none can be used, or the newest is of another
// model or keeps its moments in another type: what differs is named. After an Error the store's values are undefined.
std::optional<LoadedState> LoadNewestRunState(const std::string& run_dir, const model::ModelConfig& config,
                                              ParamStore& store, Context& ctx);

// Folders of the run's checkpoints, the newest first.
std::vector<std::string> ListRunStates(const std::string& run_dir);

// The counters of one checkpoint, without its tensors. Throws Error if state.json is damaged.
RunState ReadRunState(const std::string& path);

}  // namespace fathom::train
