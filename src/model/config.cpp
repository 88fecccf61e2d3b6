#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom::model {
namespace {

double YarnMscale(double factor, double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; }

}  // namespace

double ModelConfig::SoftmaxScale() const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(qk_head_dim()));
  if (!rope_scaling) return scale;
  const double m = YarnMscale(rope_scaling->factor, rope_scaling->mscale_all_dim);
  return scale * m * m;
}

double ModelConfig::RopeAmplitude() const {
  if (!rope_scaling) return 1.0;
  const RopeScaling& s = *rope_scaling;
  return YarnMscale(s.factor, s.mscale) / YarnMscale(s.factor, s.mscale_all_dim);
}

std::vector<double> ModelConfig::RopeFrequencies() const {
  const int64_t half = qk_rope_head_dim / 2;
  const double dim = static_cast<double>(qk_rope_head_dim);
  std::vector<double> frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i)
    frequencies[static_cast<size_t>(i)] = 1.0 / std::pow(rope_theta, 2.0 * static_cast<double>(i) / dim);
  if (!rope_scaling) return frequencies;
  // Dimensions that turn more than beta_fast times within the original context keep their frequency, those that turn
  // less than beta_slow times are slowed by `factor`, a ramp between (YaRN, arXiv 2309.00071, section 3.2).
  const RopeScaling& s = *rope_scaling;
  const auto dimension_of = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(s.original_max_position_embeddings) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope_theta));
  };
  const double low = std::max(std::floor(dimension_of(s.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension_of(s.beta_slow)), dim - 1);
  if (low == high) high += 0.001;
  for (int64_t i = 0; i < half; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = frequencies[static_cast<size_t>(i)];
    f = f / s.factor * ramp + f * (1 - ramp);
  }
  return frequencies;
}

void Validate(const ModelConfig& c) {
  const auto require = [](bool ok, const char* what, std::string got, const char* expected) {
    if (!ok) throw Error(what, std::move(got), expected);
  };
  require(c.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim: rotated values come in pairs",
          fmt::format("{}", c.qk_rope_head_dim), "an even number");
  require(c.topk_method == "noaux_tc" || c.topk_method == "greedy" || c.topk_method == "group_limited_greedy",
          "topk_method is not built", c.topk_method, "noaux_tc, greedy or group_limited_greedy");
  require(c.scoring_func == "sigmoid" || c.scoring_func == "softmax", "scoring_func is not built", c.scoring_func,
          "sigmoid or softmax");
  if (c.n_routed_experts > 0) {
    require(c.topk_method != "noaux_tc" || c.scoring_func == "sigmoid",
            "topk_method and scoring_func do not go together", c.topk_method + " with " + c.scoring_func,
            "noaux_tc with sigmoid (V3), greedy or group_limited_greedy with softmax (V2)");
    require(c.num_experts_per_tok >= 1 && c.num_experts_per_tok <= c.n_routed_experts,
            "num_experts_per_tok: more experts a token than there are",
            fmt::format("{} of n_routed_experts {}", c.num_experts_per_tok, c.n_routed_experts),
            "at most n_routed_experts");
    require(c.moe_intermediate_size >= 1, "moe_intermediate_size: experts without width",
            fmt::format("{}", c.moe_intermediate_size), "at least 1");
    if (c.topk_method != "greedy") {
      require(c.n_group >= 1 && c.n_routed_experts % c.n_group == 0,
              "n_group: the experts do not divide into equal groups",
              fmt::format("{} experts in {} groups", c.n_routed_experts, c.n_group), "a divisor of n_routed_experts");
      require(c.topk_group >= 1 && c.topk_group <= c.n_group, "topk_group: more groups than there are",
              fmt::format("{} of n_group {}", c.topk_group, c.n_group), "at most n_group");
      const int64_t in_group = c.n_routed_experts / c.n_group;
      require(c.num_experts_per_tok <= c.topk_group * in_group, "num_experts_per_tok: more than the chosen groups hold",
              fmt::format("{} from {} groups of {}", c.num_experts_per_tok, c.topk_group, in_group),
              "at most topk_group * n_routed_experts / n_group");
      require(c.topk_method != "noaux_tc" || in_group >= 2, "n_group: noaux_tc scores a group by its two best experts",
              fmt::format("{} experts in {} groups", c.n_routed_experts, c.n_group), "at least two experts a group");
    }
  }
  require(c.bos_token_id < c.vocab_size, "bos_token_id is not in the vocabulary", fmt::format("{}", c.bos_token_id),
          "below vocab_size");
  for (int64_t id : c.eos_token_id)
    require(id < c.vocab_size, "eos_token_id is not in the vocabulary", fmt::format("{}", id), "below vocab_size");
  // Beyond any machine, and near where counts of parameters and bytes would overflow.
  constexpr double kMost = 1e16;
  constexpr int64_t kMostExperts = 1 << 20;
  const double d = static_cast<double>(c.hidden_size), h = static_cast<double>(c.num_attention_heads);
  const double layers = static_cast<double>(c.num_hidden_layers + c.num_nextn_predict_layers);
  const double block =
      h * static_cast<double>(c.qk_head_dim() + c.v_head_dim + c.kv_lora_rank + c.q_lora_rank.value_or(0)) * d +
      3 * d * static_cast<double>(c.intermediate_size) +
      3 * d * static_cast<double>(c.moe_intermediate_size) * static_cast<double>(c.n_routed_experts);
  require(layers * block + 4 * d * static_cast<double>(c.vocab_size) < kMost &&
              (c.num_hidden_layers + c.num_nextn_predict_layers) * c.n_routed_experts <= kMostExperts,
          "the sizes together give a model beyond any machine",
          fmt::format("about {:.1e} parameters", layers * block + 2 * d * static_cast<double>(c.vocab_size)), "");
}

}  // namespace fathom::model
