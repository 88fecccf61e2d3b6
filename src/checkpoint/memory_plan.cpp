#include "checkpoint/memory_plan.h"

#include <fmt/format.h>

#include <array>

namespace fathom::checkpoint {
namespace {

constexpr double kRoom = 1.08;  // the system, the program and working memory beside weights and cache

int64_t Gpus(int64_t bytes, int64_t gpu_bytes) {
  int64_t n = 1;
  while (static_cast<double>(n) * static_cast<double>(gpu_bytes) < kRoom * static_cast<double>(bytes)) n *= 2;
  return n;
}

}  // namespace

int64_t CacheBytesPerToken(const model::ModelConfig& config, int64_t bytes_per_value) {
  return config.cache_width() * config.num_hidden_layers * bytes_per_value;
}

MemoryPlan PlanMemory(const model::ModelConfig& config, Precision precision) {
  MemoryPlan plan;
  plan.precision = precision;
  plan.weight_bytes = TotalBytes(Layout(config, precision));
  model::ModelConfig main = config;
  main.num_nextn_predict_layers = 0;
  plan.main_weight_bytes = TotalBytes(Layout(main, precision));
  plan.cache_bytes_per_token =
      CacheBytesPerToken(config, SizeOf(precision == Precision::kF32 ? DType::kF32 : DType::kBF16));
  return plan;
}

int64_t MachineGib(int64_t bytes) {
  static constexpr std::array<int64_t, 19> kSizes = {1,   2,   4,   8,   16,  24,  32,   48,   64,  96,
                                                     128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
  for (int64_t gib : kSizes) {
    if (static_cast<double>(gib) * 0x1p30 >= kRoom * static_cast<double>(bytes)) return gib;
  }
  for (int64_t gib = 3072; gib <= int64_t{1} << 30; gib *= 2) {
    if (static_cast<double>(gib) * 0x1p30 >= kRoom * static_cast<double>(bytes)) return gib;
  }
  return 0;
}

std::string DescribeMachine(int64_t bytes) {
  constexpr int64_t kGb = 1'000'000'000;
  const int64_t gib = MachineGib(bytes), n80 = Gpus(bytes, 80 * kGb), n141 = Gpus(bytes, 141 * kGb);
  if (gib == 0) return "no machine";
  std::string out = gib >= 1024 && gib % 512 == 0 ? fmt::format("{:g} TiB of memory", static_cast<double>(gib) / 1024)
                                                  : fmt::format("{} GiB of memory", gib);
  if (n80 == 1) return out + ", or a GPU of 80 GB";
  return out + fmt::format(", or {} GPUs of 80 GB, or {} of 141 GB", n80, n141);
}

}  // namespace fathom::checkpoint
