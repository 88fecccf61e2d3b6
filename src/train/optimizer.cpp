#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/train_ops.h"

namespace fathom::train {

double GradientNorm(Context& ctx, const ParamStore& store) {
  std::vector<kernels::Values> values;
  for (const StoredTensor& t : store.tensors()) {
    if (t.grad) values.push_back({t.grad, t.n});
  }
  return std::sqrt(kernels::SumOfSquares(ctx, values));
}

void AdamwStep(Context& ctx, ParamStore& store, const AdamwOptions& o, double norm) {
  // As torch.nn.utils.clip_grad_norm_: clip / (norm + 1e-6), at most 1.
  const double scale = o.clip > 0 ? std::min(1.0, o.clip / (norm + 1e-6)) : 1.0;
  const double step = static_cast<double>(o.step);
  std::vector<kernels::AdamwArgs> args;
  for (StoredTensor& t : store.tensors()) {
    if (!t.grad) continue;
    args.push_back({.w = t.master,
                    .grad = t.grad,
                    .m = t.m,
                    .v = t.v,
                    .moment_dtype = store.policy().moments,
                    .bf16 = t.bf16,
                    .ema = t.ema,
                    .n = t.n,
                    .grad_scale = static_cast<float>(scale),
                    .lr = static_cast<float>(o.lr),
                    .beta1 = static_cast<float>(o.beta1),
                    .beta2 = static_cast<float>(o.beta2),
                    .eps = static_cast<float>(o.eps),
                    .decay = t.policy.decay ? static_cast<float>(o.weight_decay) : 0.0f,
                    .c1 = static_cast<float>(1 - std::pow(o.beta1, step)),
                    .c2 = static_cast<float>(1 - std::pow(o.beta2, step)),
                    .ema_decay = static_cast<float>(o.ema_decay)});
  }
  kernels::Adamw(ctx, args);
  store.QuantizeFp8(ctx);
}

void DropGradients(Context& ctx, ParamStore& store) {
  constexpr int64_t kPiece = 1 << 18;
  for (StoredTensor& t : store.tensors()) {
    if (!t.grad) continue;
    ctx.pool.ParallelFor((t.n + kPiece - 1) / kPiece, [&](int64_t i, int) {
      std::fill(t.grad + i * kPiece, t.grad + std::min(t.n, (i + 1) * kPiece), 0.0f);
    });
  }
}

void UpdateRouterBias(ParamStore& store, std::span<const std::vector<int64_t>> load, double gamma) {
  for (size_t l = 0; l < load.size(); ++l) {
    float* bias = load[l].empty() ? nullptr : store.RouterBias(static_cast<int64_t>(l));
    if (!bias) continue;
    const double mean = static_cast<double>(std::accumulate(load[l].begin(), load[l].end(), int64_t{0})) /
                        static_cast<double>(load[l].size());
    for (size_t e = 0; e < load[l].size(); ++e) {
      const double n = static_cast<double>(load[l][e]);
      bias[e] = static_cast<float>(bias[e] + gamma * ((n < mean) - (n > mean)));
    }
  }
}

}  // namespace fathom::train
