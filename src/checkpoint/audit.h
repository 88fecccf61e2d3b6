// What was found in a checkpoint's files, tensor by tensor, against what its configuration asks for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"

namespace fathom::checkpoint {

enum class Fault : uint8_t {
  kMissing,     // the configuration asks for it, no file has it
  kUnexpected,  // a file has it, the configuration has no place for it
  kShape,       // of another shape
  kDtype,       // of a type that is not read there
  kScale,       // weight_scale_inv: absent beside an FP8 weight, of the wrong shape or type, or without such a weight
  kIndex,       // the index and the files disagree
};
std::string_view Name(Fault fault);  // missing unexpected shape dtype scale index

struct Problem {
  Fault fault;
  std::string tensor;
  std::string got, expected;
  std::string Line() const;  // "model.norm.weight: shape (8), expected (16)"
};

struct Stored {
  int64_t tensors = 0, bytes = 0;
};

struct Audit {
  std::vector<Problem> problems;
  std::vector<std::string> warnings;
  std::vector<std::string> files;        // paths, in the order read
  std::map<std::string, Stored> stored;  // by dtype, scales apart as "F32 scales"
  int64_t tensors = 0;                   // without weight_scale_inv
  int64_t fp8_tensors = 0, scales = 0;
  int64_t bytes = 0;         // of all tensors
  int64_t copied_bytes = 0;  // of weights that cannot be used where they lie: joined shards, misaligned

  void Add(Fault fault, std::string tensor, std::string got = "", std::string expected = "") {
    problems.push_back({fault, std::move(tensor), std::move(got), std::move(expected)});
  }
  // Throws one Error with the number of problems of each kind and the first ten, if there are any.
  void ThrowIfFaulty(const std::string& path) const;
};

}  // namespace fathom::checkpoint
