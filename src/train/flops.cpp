#include "train/flops.h"

#include "model/params.h"

namespace fathom::train {

double TrainFlopsPerToken(const model::ModelConfig& config, int64_t length) {
  model::ModelParams params = model::MakeParams(config);
  double weights = 0;
  model::ForEachParam(config, params, [&](const model::ParamInfo& info, model::Weight& w) {
    using model::ParamKind;
    if (info.kind != ParamKind::kLinear && info.kind != ParamKind::kMatrix) return;
    if (info.name.ends_with("embed_tokens.weight")) return;
    double share = 1;
    if (info.name.find(".mlp.experts.") != std::string::npos) {
      share = static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
    }
    weights += share * static_cast<double>(w.rows * w.cols);  // a depth's copy of the head is a product of its own
  });
  const double layers = static_cast<double>(params.layers.size() + params.mtp.size());
  const double dims = static_cast<double>(config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim);
  const double attention =
      layers * 2 * static_cast<double>(config.num_attention_heads) * dims * static_cast<double>(length + 1) / 2;
  return 6 * weights + 3 * attention;
}

}  // namespace fathom::train
