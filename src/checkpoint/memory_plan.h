// What a model needs in memory, from its configuration alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/layout.h"

namespace fathom::checkpoint {

struct MemoryPlan {
  Precision precision = Precision::kBf16;
  int64_t weight_bytes = 0;           // all tensors, scales and MTP layers included
  int64_t main_weight_bytes = 0;      // without MTP layers: what plain generation reads
  int64_t cache_bytes_per_token = 0;  // latent cache: F32 beside F32 weights, else BF16
  int64_t TotalAt(int64_t context) const { return weight_bytes + context * cache_bytes_per_token; }
};
MemoryPlan PlanMemory(const model::ModelConfig& config, Precision precision);

// Bytes of latent cache a token in all layers, at `bytes_per_value`.
int64_t CacheBytesPerToken(const model::ModelConfig& config, int64_t bytes_per_value);

// The smallest of the usual memory sizes (in GiB) that holds `bytes` and 8 % more for the system and working memory, 0
// if none does.
int64_t MachineGib(int64_t bytes);
// "768 GiB of memory, or 16 GPUs of 80 GB, or 8 of 141 GB"
std::string DescribeMachine(int64_t bytes);

}  // namespace fathom::checkpoint
