#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/elementwise.h"
#include "kernels/reference/linear.h"

namespace fathom::kernels::reference {
namespace {

double Round(float x, bool to_bf16) { return to_bf16 ? RoundToBf16(x) : x; }

// out[i] = sum over keys of softmax(score(key)) * value(key, i). Returns the log of the sum of e^score.
template <class Score, class Value>
double SoftmaxSum(float* out, double* sums, int64_t keys, int64_t n, bool round, const Score& score,
                  const Value& value) {
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t t = 0; t < keys; ++t) top = std::max(top, score(t));
  if (std::isinf(top) && top < 0) top = 0;
  std::fill(sums, sums + n, 0.0);
  double total = 0;
  for (int64_t t = 0; t < keys; ++t) {
    const double weight = std::exp(score(t) - top);
    const double rounded = Round(static_cast<float>(weight), round);
    total += weight;
    for (int64_t i = 0; i < n; ++i) sums[i] += rounded * value(t, i);
  }
  for (int64_t i = 0; i < n; ++i) out[i] = total == 0 ? 0.0f : static_cast<float>(sums[i] / total);
  return top + std::log(total);
}

}  // namespace

void Attention(const AttentionArgs& args, int64_t token, int64_t head, double* sums) {
  const bool round = RoundsToBf16(args.compute);
  const auto* kv = static_cast<const std::byte*>(args.kv);
  const int64_t size = SizeOf(args.kv_dtype);
  const float* q = args.q + token * args.ldq + head * (args.dn + args.dr);
  const auto row = [&](int64_t t) { return kv + (t * args.ldkv + head * (args.dn + args.dv)) * size; };
  const auto score = [&](int64_t t) {
    const std::byte* key = row(t);
    const std::byte* rotated = args.cache.RopeRow(t, args.dr);
    double sum = 0;
    for (int64_t i = 0; i < args.dn; ++i) sum += Round(q[i], round) * Round(Decode(key, i, args.kv_dtype), round);
    for (int64_t i = 0; i < args.dr; ++i) {
      const float k = Decode(rotated, i, args.cache.rope_dtype());
      sum += Round(q[args.dn + i], round) * Round(k, round);
    }
    return sum * args.scale;
  };
  const auto value = [&](int64_t t, int64_t i) { return Round(Decode(row(t), args.dn + i, args.kv_dtype), round); };
  const double lse = SoftmaxSum(args.out + token * args.ldo + head * args.dv, sums, args.begin + token + 1, args.dv,
                                round, score, value);
  if (args.lse) args.lse[token * args.ld_lse + head] = static_cast<float>(lse);
}

void LatentAttention(const LatentAttentionArgs& args, int64_t query, int64_t head, double* sums) {
  const LatentCache& cache = args.caches[static_cast<size_t>(query)];
  const bool round = RoundsToBf16(args.compute) && cache.dtype != DType::kF32;
  const int64_t width = args.r + args.dr;
  const float* q = args.q + (query * args.heads + head) * width;
  const auto value = [&](int64_t t, int64_t i) { return Round(CacheValue(cache, t, i), round); };
  const auto score = [&](int64_t t) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += Round(q[i], round) * value(t, i);
    return sum * args.scale;
  };
  SoftmaxSum(args.out + (query * args.heads + head) * args.r, sums, args.lengths[static_cast<size_t>(query)], args.r,
             round, score, value);
}

}  // namespace fathom::kernels::reference
