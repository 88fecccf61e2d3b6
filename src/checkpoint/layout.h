// How a model of a configuration is stored: which tensors, in which types, in which files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors_writer.h"
#include "model/params.h"

namespace fathom::checkpoint {

// kFp8 is the release's layout: projections in E4M3 with weight_scale_inv, the rest in BF16, the router bias in F32
// (in F32 in every layout).
enum class Precision : uint8_t { kF32, kBf16, kFp8 };
std::string_view Name(Precision precision);  // f32 bf16 fp8
Precision PrecisionFromName(std::string_view name);

DType StoredAs(model::ParamKind kind, Precision precision);

// All tensors in the order of the layers, each FP8 weight followed by its scales.
std::vector<io::TensorSpec> Layout(const model::ModelConfig& config, Precision precision);
int64_t TotalBytes(const std::vector<io::TensorSpec>& tensors);

// The configuration of the same model stored so: torch_dtype and quantization_config.
model::ModelConfig WithPrecision(model::ModelConfig config, Precision precision);

struct ShardFile {
  std::string name;
  std::vector<io::TensorSpec> tensors;  // in the order of the file
};
// Deals the tensors in their order into files of at most `max_bytes`, a weight and its scales in one (a file holds one
// weight at least). One file is called model.safetensors, more need IndexJson().
std::vector<ShardFile> Shard(const std::vector<io::TensorSpec>& tensors, int64_t max_bytes);
std::string IndexJson(const std::vector<ShardFile>& shards);

}  // namespace fathom::checkpoint
