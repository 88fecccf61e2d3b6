// state.json of a saved run (docs/training-state.md): counters, and the checksums of the files beside it.
//
//   {"checksum": "0123456789abcdef",          the first line; of all bytes after it
//   "format": 1, "state": {...}, "files": [{"name", "bytes", "head", "tensors": {NAME: CHECKSUM, ...}}, ...]}
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "train/run_state.h"

namespace fathom::train {

inline constexpr const char* kStateFile = "state.json";

struct StateFile {
  std::string name;
  int64_t bytes = 0;
  uint64_t head = 0;                        // checksum of what lies before the first tensor's bytes
  std::map<std::string, uint64_t> tensors;  // checksums
};

struct StateContents {
  RunState state;
  std::vector<StateFile> files;
};

// Throws Error where a text in it is not UTF-8.
std::string StateText(const StateContents& contents);
Result<StateContents> ParseStateText(std::string_view text, const std::string& path);

// Checksums are 64 bits, any single changed bit changes them: of pieces of kChecksumPiece bytes (so that threads can
// share a tensor), then of the pieces' in their order.
inline constexpr int64_t kChecksumPiece = 4 << 20;
uint64_t ChecksumOf(std::string_view bytes);
uint64_t ChecksumOfPieces(std::span<const uint64_t> pieces);

}  // namespace fathom::train
