// The gate as the V3 report (2.1.2) and the published model code describe it, one token at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/elementwise.h"

namespace fathom::kernels::reference {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

std::vector<float> Scores(const float* logits, int64_t n, bool sigmoid) {
  std::vector<float> scores(static_cast<size_t>(n));
  if (sigmoid) {
    for (int64_t e = 0; e < n; ++e) {
      scores[static_cast<size_t>(e)] = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(logits[e]))));
    }
    return scores;
  }
  const double top = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int64_t e = 0; e < n; ++e) sum += std::exp(logits[e] - top);
  for (int64_t e = 0; e < n; ++e) scores[static_cast<size_t>(e)] = static_cast<float>(std::exp(logits[e] - top) / sum);
  return scores;
}

// Indices of the `count` largest, the lower index first among equals.
std::vector<int32_t> Largest(const std::vector<float>& values, int64_t count) {
  std::vector<int32_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

void MaskGroups(const GateArgs& args, std::vector<float>& selection) {
  const int64_t size = args.experts / args.n_group;
  std::vector<float> group_scores;
  for (int64_t g = 0; g < args.n_group; ++g) {
    std::vector<float> group(selection.begin() + g * size, selection.begin() + (g + 1) * size);
    std::sort(group.begin(), group.end(), std::greater<float>());
    const bool two = args.method == TopkMethod::kNoauxTc && size > 1;
    group_scores.push_back(two ? group[0] + group[1] : group[0]);
  }
  std::vector<bool> kept(group_scores.size(), false);
  for (int32_t g : Largest(group_scores, args.topk_group)) kept[static_cast<size_t>(g)] = true;
  for (int64_t e = 0; e < args.experts; ++e) {
    if (!kept[static_cast<size_t>(e / size)]) selection[static_cast<size_t>(e)] = kMasked;
  }
}

}  // namespace

void Gate(const GateArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const std::vector<float> scores = Scores(args.logits + t * args.experts, args.experts, args.sigmoid);
    std::vector<float> selection = scores;
    if (args.method == TopkMethod::kNoauxTc && args.bias) {
      for (int64_t e = 0; e < args.experts; ++e) selection[static_cast<size_t>(e)] += args.bias[e];
    }
    // Not a number loses against every number: the ids stay valid, and the weights carry it on.
    for (float& s : selection) s = std::isnan(s) ? kMasked : s;
    if (args.method != TopkMethod::kGreedy) MaskGroups(args, selection);
    const std::vector<int32_t> ids = Largest(selection, args.top_k);
    double sum = 0;
    for (int32_t id : ids) sum += scores[static_cast<size_t>(id)];
    for (size_t k = 0; k < ids.size(); ++k) {
      double w = scores[static_cast<size_t>(ids[k])];
      if (args.norm_topk_prob) w /= sum + 1e-20;
      const int64_t at = t * args.top_k + static_cast<int64_t>(k);
      args.ids[at] = ids[k];
      args.weights[at] = static_cast<float>(w * args.routed_scaling_factor);
    }
  }
}

}  // namespace fathom::kernels::reference
