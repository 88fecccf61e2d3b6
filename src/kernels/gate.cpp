// Choice of the experts. The fast entries compute scores in double precision, with the same bits on every instruction
// set, and round once, so that the same logits choose the same experts on every machine; then partial selections.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/elementwise.h"
#include "kernels/registry.h"
#include "kernels/simd/elementwise.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTokensPerTask = 8;
constexpr int64_t kMostExperts = 1024;  // of the fast entries, which keep a token's scores on the stack
constexpr int64_t kMostGroups = 64;
constexpr int64_t kMostChosen = 32;
constexpr float kMasked = -std::numeric_limits<float>::infinity();

using SigmoidFn = void (*)(float* y, const float* x, int64_t n);
using ExpFn = void (*)(double* y, const float* x, float shift, int64_t n);

template <SigmoidFn sigmoid, ExpFn exp>
void Scores(const GateArgs& args, const float* logits, float* scores) {
  const int64_t n = args.experts;
  if (args.sigmoid) {
    sigmoid(scores, logits, n);
    return;
  }
  double weights[kMostExperts];
  exp(weights, logits, *std::max_element(logits, logits + n), n);
  double sum = 0;
  for (int64_t e = 0; e < n; ++e) sum += weights[e];
  for (int64_t e = 0; e < n; ++e) scores[e] = static_cast<float>(weights[e] / sum);
}

// The best so far in falling order; an equal value comes after those before it.
template <int64_t most>
class Best {
 public:
  explicit Best(int64_t count) : count_(count) { std::fill_n(values_, count, kMasked); }
  float worst() const { return values_[count_ - 1]; }
  bool full() const { return taken_ == count_; }
  void Offer(float value, int32_t index) {
    if (full() && !(value > worst())) return;
    int64_t at = full() ? count_ - 1 : taken_++;
    for (; at > 0 && value > values_[at - 1]; --at) {
      values_[at] = values_[at - 1];
      indices_[at] = indices_[at - 1];
    }
    values_[at] = value;
    indices_[at] = index;
  }
  void OfferAll(const float* values, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) Offer(values[i], static_cast<int32_t>(i));
  }
  int32_t index(int64_t i) const { return indices_[i]; }

 private:
  int64_t count_, taken_ = 0;
  float values_[most];
  int32_t indices_[most];
};

// The two largest of what was shown.
struct TopTwo {
  float first = kMasked, second = kMasked;
  void Show(float x) {
    second = std::max(second, std::min(first, x));
    first = std::max(first, x);
  }
};

float GroupScore(const GateArgs& args, const float* selection, int64_t size) {
  constexpr int64_t kSide = 8;  // side by side, for vectors
  float first[kSide], second[kSide];
  std::fill_n(first, kSide, kMasked);
  std::fill_n(second, kSide, kMasked);
  TopTwo top;
  int64_t e = 0;
  for (; e + kSide <= size; e += kSide) {
    for (int64_t j = 0; j < kSide; ++j) {
      second[j] = std::max(second[j], std::min(first[j], selection[e + j]));
      first[j] = std::max(first[j], selection[e + j]);
    }
  }
  for (; e < size; ++e) top.Show(selection[e]);
  for (int64_t j = 0; j < kSide; ++j) {
    top.Show(first[j]);
    top.Show(second[j]);
  }
  return args.method == TopkMethod::kNoauxTc && size > 1 ? top.first + top.second : top.first;
}

template <SigmoidFn sigmoid, ExpFn exp>
void GateFast(const GateArgs& args, int64_t begin, int64_t end) {
  float scores[kMostExperts], selection[kMostExperts];
  const int64_t size = args.experts / args.n_group;
  const bool biased = args.method == TopkMethod::kNoauxTc && args.bias;
  for (int64_t t = begin; t < end; ++t) {
    Scores<sigmoid, exp>(args, args.logits + t * args.experts, scores);
    for (int64_t e = 0; e < args.experts; ++e) {
      const float s = biased ? scores[e] + args.bias[e] : scores[e];
      selection[e] = s == s ? s : kMasked;  // not a number loses against every number
    }
    bool kept[kMostGroups];
    std::fill_n(kept, args.n_group, args.method == TopkMethod::kGreedy);
    if (args.method != TopkMethod::kGreedy) {
      Best<kMostGroups> groups(args.topk_group);
      for (int64_t g = 0; g < args.n_group; ++g) {
        groups.Offer(GroupScore(args, selection + g * size, size), static_cast<int32_t>(g));
      }
      for (int64_t g = 0; g < args.topk_group; ++g) kept[groups.index(g)] = true;
    }
    Best<kMostChosen> chosen(args.top_k);
    for (int64_t g = 0; g < args.n_group; ++g) {
      if (kept[g]) chosen.OfferAll(selection, g * size, (g + 1) * size);
    }
    if (!chosen.full() || chosen.worst() == kMasked) {  // masked experts are needed too, in their order
      for (int64_t g = 0; g < args.n_group; ++g) {
        if (!kept[g]) std::fill_n(selection + g * size, size, kMasked);
      }
      chosen = Best<kMostChosen>(args.top_k);
      chosen.OfferAll(selection, 0, args.experts);
    }
    double sum = 0;
    for (int64_t k = 0; k < args.top_k; ++k) sum += scores[chosen.index(k)];
    for (int64_t k = 0; k < args.top_k; ++k) {
      double w = scores[chosen.index(k)];
      if (args.norm_topk_prob) w /= sum + 1e-20;
      args.ids[t * args.top_k + k] = chosen.index(k);
      args.weights[t * args.top_k + k] = static_cast<float>(w * args.routed_scaling_factor);
    }
  }
}

bool Fits(const GateArgs& args) {
  return args.experts <= kMostExperts && args.n_group <= kMostGroups && args.top_k <= kMostChosen;
}

using GateEntry = Entry<void (*)(const GateArgs&, int64_t begin, int64_t end), GateArgs>;
constexpr GateEntry kGate[] = {
#if defined(__x86_64__)
    {"avx512", Isa::kAvx512, GateFast<avx512::SigmoidOnce, avx512::ExpOfDifference>, Fits},
    {"avx2", Isa::kAvx2, GateFast<avx2::SigmoidOnce, avx2::ExpOfDifference>, Fits},
    {"sse4", Isa::kSse4, GateFast<sse4::SigmoidOnce, sse4::ExpOfDifference>, Fits},
#else
    {"neon", Isa::kNeon, GateFast<neon::SigmoidOnce, neon::ExpOfDifference>, Fits},
#endif
    {"reference", Isa::kReference, reference::Gate}};

}  // namespace

void Gate(Context& ctx, const GateArgs& args) {
  FATHOM_CHECK(args.n_group >= 1 && args.experts % args.n_group == 0);
  FATHOM_CHECK(args.top_k >= 1 && args.top_k <= args.experts);
  FATHOM_CHECK(args.topk_group >= 1 && args.topk_group <= args.n_group);
  const auto fn = Choose(ctx, "Gate", std::span<const GateEntry>(kGate), args).fn;
  ctx.pool.ParallelFor((args.tokens + kTokensPerTask - 1) / kTokensPerTask, [&](int64_t task, int) {
    fn(args, task * kTokensPerTask, std::min(args.tokens, (task + 1) * kTokensPerTask));
  });
}

void AppendGateOps(std::vector<OpEntry>& ops) { AppendTable(ops, "Gate", kGate); }

}  // namespace fathom::kernels
