// The arrays of a ParamStore as the files of a saved run have them.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors_writer.h"
#include "train/param_store.h"

namespace fathom::train {

inline constexpr const char* kMastersFile = "masters.safetensors";
inline constexpr const char* kFirstMomentFile = "m.safetensors";
inline constexpr const char* kSecondMomentFile = "v.safetensors";
inline constexpr const char* kAveragesFile = "ema.safetensors";

struct StateArrays {
  std::string name;                   // of the file
  std::vector<io::TensorSpec> specs;  // in the order of the store
  std::vector<void*> data;            // beside specs; where the store has them
  int64_t bytes() const;              // of all tensors
};
// The files of this store: those of kinds that it does not have are left out.
std::vector<StateArrays> ArraysOf(const ParamStore& store);

// What a thread reads or writes at a time: bytes [begin, begin + bytes) of a tensor.
struct StatePiece {
  size_t file, tensor;  // places in the list of arrays and in specs
  int64_t begin, bytes;
};
// Pieces of kChecksumPiece bytes, those of a tensor in their order, files in turn.
std::vector<StatePiece> PiecesOf(const std::vector<StateArrays>& arrays);

// Checksums of the tensors of arrays[file], from those of all pieces.
std::map<std::string, uint64_t> TensorChecksums(const StateArrays& arrays, size_t file,
                                                std::span<const StatePiece> pieces,
                                                std::span<const uint64_t> checksums);

// Removes what killed saves left in the run's folder of checkpoints, where it can.
void RemoveLeftovers(const std::string& run_dir);

}  // namespace fathom::train
