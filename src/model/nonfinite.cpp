#include "model/nonfinite.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

namespace fathom::model {
namespace {

template <class T, class Bad>
bool AnyBad(const void* data, int64_t n, Bad bad) {
  const std::byte* p = static_cast<const std::byte*>(data);
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, p + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if (bad(v)) return true;
  }
  return false;
}

// The layer that a parameter belongs to; -1 for the embedding, past the last for norm and head.
int64_t LayerOf(const std::string& name, int64_t layers) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (name.starts_with(kPrefix)) return std::stoll(name.substr(kPrefix.size()));
  return name == "model.embed_tokens.weight" ? -1 : layers;
}

}  // namespace

bool HasNonFinite(const Weight& w) {
  const int64_t n = w.rows * w.cols;
  switch (w.dtype) {
    case DType::kF32:
      return AnyBad<float>(w.data, n, [](float v) { return !std::isfinite(v); });
    case DType::kBF16:
      return AnyBad<uint16_t>(w.data, n, [](uint16_t v) { return (v & 0x7f80) == 0x7f80; });
    case DType::kF16:
      return AnyBad<uint16_t>(w.data, n, [](uint16_t v) { return (v & 0x7c00) == 0x7c00; });
    case DType::kF8E4M3: {
      const int64_t scales = (w.rows + kFp8Block - 1) / kFp8Block * w.scale_cols();
      return AnyBad<uint8_t>(w.data, n, [](uint8_t v) { return (v & 0x7f) == 0x7f; }) ||
             AnyBad<float>(w.scale, scales, [](float v) { return !std::isfinite(v); });
    }
    default:
      return false;
  }
}

Error NonFiniteError(const ModelConfig& config, const ModelParams& params, int64_t layer) {
  std::string culprit;
  ModelParams& all = const_cast<ModelParams&>(params);  // the visitor hands out what it is given; nothing is written
  ForEachParam(config, all, [&](const ParamInfo& info, Weight& w) {
    if (culprit.empty() && w.data && !info.copy &&
        LayerOf(info.name, config.num_hidden_layers + config.num_nextn_predict_layers) <= layer && HasNonFinite(w)) {
      culprit = info.name;
    }
  });
  const std::string what = fmt::format("the hidden state after layer {} is not finite", layer);
  if (!culprit.empty()) {
    return Error(what, fmt::format("a NaN or infinity in the weight {}", culprit), "finite weights",
                 "the checkpoint is damaged: `fathom inspect MODEL --scan` names every such tensor");
  }
  return Error(what, "finite weights, so the activations overflowed", "",
               "try --compute f32; if that fails too, the weights do not fit this configuration");
}

}  // namespace fathom::model
