#include "checkpoint/layout.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "checkpoint/hf.h"

namespace fathom::checkpoint {
namespace {
constexpr std::array<std::string_view, 3> kPrecisionNames = {"f32", "bf16", "fp8"};
}  // namespace

std::string_view Name(Precision precision) { return kPrecisionNames[static_cast<size_t>(precision)]; }

Precision PrecisionFromName(std::string_view name) {
  for (size_t i = 0; i < kPrecisionNames.size(); ++i) {
    if (kPrecisionNames[i] == name) return static_cast<Precision>(i);
  }
  throw Error("unknown precision", std::string(name), "f32, bf16 or fp8");
}

DType StoredAs(model::ParamKind kind, Precision precision) {
  if (kind == model::ParamKind::kRouterBias || precision == Precision::kF32) return DType::kF32;
  if (precision == Precision::kFp8 && kind == model::ParamKind::kLinear) return DType::kF8E4M3;
  return DType::kBF16;
}

std::vector<io::TensorSpec> Layout(const model::ModelConfig& config, Precision precision) {
  std::vector<io::TensorSpec> out;
  model::ModelParams params = model::MakeParams(config);
  model::ForEachParam(config, params, [&](const model::ParamInfo& info, const kernels::Weight&) {
    const DType dtype = StoredAs(info.kind, precision);
    out.push_back({info.name, dtype, info.shape});
    if (dtype == DType::kF8E4M3) {
      const auto blocks = [](int64_t n) { return (n + kFp8Block - 1) / kFp8Block; };
      out.push_back({info.name + "_scale_inv", DType::kF32, {blocks(info.shape[0]), blocks(info.shape[1])}});
    }
  });
  return out;
}

int64_t TotalBytes(const std::vector<io::TensorSpec>& tensors) {
  int64_t bytes = 0;
  for (const io::TensorSpec& t : tensors) bytes += t.bytes();
  return bytes;
}

model::ModelConfig WithPrecision(model::ModelConfig config, Precision precision) {
  config.torch_dtype = precision == Precision::kF32 ? "float32" : "bfloat16";
  if (precision != Precision::kFp8) {
    config.quantization_config.reset();
  } else if (!config.quantization_config) {
    config.quantization_config.emplace();
  }
  return config;
}

std::vector<ShardFile> Shard(const std::vector<io::TensorSpec>& tensors, int64_t max_bytes) {
  std::vector<ShardFile> shards(1);
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool scaled = i + 1 < tensors.size() && tensors[i + 1].name == tensors[i].name + "_scale_inv";
    const int64_t size = tensors[i].bytes() + (scaled ? tensors[i + 1].bytes() : 0);
    if (!shards.back().tensors.empty() && bytes + size > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().tensors.push_back(tensors[i]);
    if (scaled) shards.back().tensors.push_back(tensors[++i]);
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].name =
        shards.size() == 1 ? kSingleFile : fmt::format("model-{:05}-of-{:06}.safetensors", i + 1, shards.size());
    io::SortForAlignment(shards[i].tensors);
  }
  return shards;
}

std::string IndexJson(const std::vector<ShardFile>& shards) {
  nlohmann::json out;
  int64_t bytes = 0;
  nlohmann::json& map = out["weight_map"] = nlohmann::json::object();
  for (const ShardFile& shard : shards) {
    bytes += TotalBytes(shard.tensors);
    for (const io::TensorSpec& t : shard.tensors) map[t.name] = shard.name;
  }
  out["metadata"] = {{"total_size", bytes}};
  return out.dump(2) + "\n";
}

}  // namespace fathom::checkpoint
