#include "cli/random_model.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/rng.h"

namespace fathom::cli {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kTable = 1 << 20;  // values drawn once; each tensor copies pieces of them from random places
constexpr int64_t kPiece = 1 << 14;

int64_t RoundUp(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }
int64_t ScaleCount(const model::Weight& w) { return (w.rows + kFp8Block - 1) / kFp8Block * w.scale_cols(); }

DType TypeOf(const model::ParamInfo& info, const model::ModelConfig& config, const std::string& dtype) {
  const bool f32 = dtype == "f32" || (dtype == "auto" && config.torch_dtype == "float32");
  const bool fp8 = dtype == "fp8" || (dtype == "auto" && config.quantization_config);
  if (f32 || info.kind == model::ParamKind::kRouterBias) return DType::kF32;
  return fp8 && info.kind == model::ParamKind::kLinear ? DType::kF8E4M3 : DType::kBF16;
}

void Encode(float x, DType dtype, void* out) {
  const uint16_t half = F32ToBf16(x);
  const uint8_t code = F32ToE4M3(x * 64);  // within the codes' normal range
  if (dtype == DType::kF32) std::memcpy(out, &x, sizeof x);
  if (dtype == DType::kBF16) std::memcpy(out, &half, sizeof half);
  if (dtype == DType::kF8E4M3) std::memcpy(out, &code, sizeof code);
}

}  // namespace

RandomModel::RandomModel(const model::ModelConfig& config, const std::string& dtype, Context& ctx) : config_(config) {
  config_.num_nextn_predict_layers = 0;  // the main model is what is measured
  params_ = model::MakeParams(config_);
  if (dtype != "auto" && dtype != "f32" && dtype != "bf16" && dtype != "fp8")
    throw Error("unknown --dtype", dtype, "auto, f32, bf16 or fp8");
  int64_t bytes = 0;
  const auto place = [&](int64_t n) {
    const int64_t at = bytes;
    bytes += RoundUp(n);
    return at;
  };
  std::vector<std::pair<model::Weight*, int64_t>> places, scales;
  model::ForEachParam(config_, params_, [&](const model::ParamInfo& info, model::Weight& w) {
    w.dtype = TypeOf(info, config_, dtype);
    places.emplace_back(&w, place(w.rows * w.cols * SizeOf(w.dtype)));
    if (w.dtype == DType::kF8E4M3) scales.emplace_back(&w, place(ScaleCount(w) * static_cast<int64_t>(sizeof(float))));
  });
  storage_ = Buffer(bytes);

  Rng rng(1);
  std::vector<std::vector<std::byte>> tables(3);
  const DType types[] = {DType::kF32, DType::kBF16, DType::kF8E4M3};
  for (size_t i = 0; i < 3; ++i) tables[i].resize(static_cast<size_t>(kTable * SizeOf(types[i])));
  for (int64_t v = 0; v < kTable; ++v) {
    const float x = static_cast<float>(rng.NextNormal() * config_.initializer_range);
    for (size_t i = 0; i < 3; ++i) Encode(x, types[i], tables[i].data() + v * SizeOf(types[i]));
  }
  for (const auto& [w, at] : places) {
    std::byte* data = storage_.data() + at;
    const int64_t n = w->rows * w->cols, size = SizeOf(w->dtype);
    w->data = data;
    if (w->rows == 1) {  // norms; the router's bias, which moves nothing if all are equal
      for (int64_t i = 0; i < n; ++i) Encode(1.0f, w->dtype, data + i * size);
      continue;
    }
    const size_t type = w->dtype == DType::kF32 ? 0 : w->dtype == DType::kBF16 ? 1 : 2;
    std::vector<int64_t> from(static_cast<size_t>((n + kPiece - 1) / kPiece));
    for (int64_t& f : from) f = rng.NextBelow(kTable - kPiece);
    ctx.pool.ParallelFor(static_cast<int64_t>(from.size()), [&](int64_t piece, int) {
      const int64_t begin = piece * kPiece, count = std::min(kPiece, n - begin);
      std::memcpy(data + begin * size, tables[type].data() + from[static_cast<size_t>(piece)] * size,
                  static_cast<size_t>(count * size));
    });
  }
  for (const auto& [w, at] : scales) {
    float* s = reinterpret_cast<float*>(storage_.data() + at);
    std::fill_n(s, ScaleCount(*w), 1.0f / 64);
    w->scale = s;
  }
}

}  // namespace fathom::cli
