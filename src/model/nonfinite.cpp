#include "model/nonfinite.h"

#include <fmt/format.h>

#include "core/nonfinite.h"

namespace fathom::model {
namespace {

// The layer that a parameter belongs to; -1 for the embedding, past the last for norm and head.
int64_t LayerOf(const std::string& name, int64_t layers) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (name.starts_with(kPrefix)) return std::stoll(name.substr(kPrefix.size()));
  return name == "model.embed_tokens.weight" ? -1 : layers;
}

}  // namespace

bool HasNonFinite(const Weight& w) {
  if (FirstNonFiniteOf(w.data, w.dtype, w.rows * w.cols) >= 0) return true;
  const int64_t scales = (w.rows + kFp8Block - 1) / kFp8Block * w.scale_cols();
  return w.scale && FirstNonFiniteOf(w.scale, DType::kF32, scales) >= 0;
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
