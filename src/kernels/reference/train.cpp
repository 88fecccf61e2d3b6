#include "kernels/reference/train.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/fp8.h"
#include "kernels/reference/linear.h"

namespace fathom::kernels::reference {
namespace {

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Round(float x, bool to_bf16) { return to_bf16 ? RoundToBf16(x) : x; }
int64_t RowOf(const int32_t* rows, int64_t i) { return rows ? rows[i] : i; }

// What a term with a weight of FP8 adds to the sums (K,) of a row of dx.
void AddFp8Term(const LinearBackwardTerm& term, int64_t m, int64_t row, double* sums) {
  const Weight& w = term.w;
  const Operand dy = RowTiles({term.dy, term.ldy, term.dy_rows, m, w.rows, w.ue8m0, term.dy_blocks}, row, row + 1);
  for (int64_t n = 0; n < w.rows; ++n) {
    const double value =
        static_cast<double>(dy.scales[static_cast<size_t>(n / kFp8Block)]) * dy.values[static_cast<size_t>(n)];
    for (int64_t k = 0; k < w.cols; ++k) sums[k] += value * w.ScaleAt(n, k) * Decode(w.RowData(n), k, w.dtype);
  }
}

void Fp8BackwardWeight(const LinearBackwardWeightJob& job, int64_t begin, int64_t end) {
  // Tiles stand in columns: those of dy that nobody asks for are left out, but a tile 1x128 needs all of its own.
  const int64_t first = begin / kFp8Block * kFp8Block;
  const int64_t last = std::min(job.n, (end + kFp8Block - 1) / kFp8Block * kFp8Block);
  const Operand dy = ColumnTiles({job.dy + first, job.ldy, job.dy_rows, job.m, last - first, job.ue8m0, job.dy_blocks});
  const Operand x = ColumnTiles({job.x, job.ldx, job.x_rows, job.m, job.k, job.ue8m0, false});
  std::vector<double> sums(static_cast<size_t>(job.k));
  for (int64_t n = begin; n < end; ++n) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t i = 0; i < job.m; ++i) {
      const int64_t tile = i / kFp8Block;
      const double value = static_cast<double>(dy.scales[static_cast<size_t>(tile * (last - first) + n - first)]) *
                           dy.values[static_cast<size_t>(i * (last - first) + n - first)];
      for (int64_t j = 0; j < job.k; ++j) {
        sums[static_cast<size_t>(j)] +=
            value * x.scales[static_cast<size_t>(tile * job.k + j)] * x.values[static_cast<size_t>(i * job.k + j)];
      }
    }
    for (int64_t j = 0; j < job.k; ++j) {
      float& dw = job.dw[n * job.k + j];
      dw = static_cast<float>(dw + sums[static_cast<size_t>(j)]);
    }
  }
}

}  // namespace

void LinearBackwardInput(const LinearBackwardInputJob& job, Compute compute, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    float* dx = job.dx + i * job.ldx;
    const int64_t k = job.terms.front().w.cols;
    std::vector<double> sums(static_cast<size_t>(k), 0.0);
    for (const LinearBackwardTerm& term : job.terms) {
      if (term.w.dtype == DType::kF8E4M3) {
        AddFp8Term(term, job.m, i, sums.data());
        continue;
      }
      const bool round = RoundsToBf16(compute) && term.w.dtype == DType::kBF16;
      const float* dy = term.dy + RowOf(term.dy_rows, i) * term.ldy;
      for (int64_t n = 0; n < term.w.rows; ++n) {
        const double value = Round(dy[n], round);
        const std::byte* row = term.w.RowData(n);
        for (int64_t j = 0; j < k; ++j) sums[static_cast<size_t>(j)] += value * Decode(row, j, term.w.dtype);
      }
    }
    for (int64_t j = 0; j < k; ++j) {
      dx[j] = static_cast<float>((job.accumulate ? dx[j] : 0.0) + sums[static_cast<size_t>(j)]);
    }
  }
}

void LinearBackwardWeight(const LinearBackwardWeightJob& job, Compute compute, int64_t begin, int64_t end) {
  if (compute == Compute::kFp8) return Fp8BackwardWeight(job, begin, end);
  const bool round = compute == Compute::kBf16;
  std::vector<double> sums(static_cast<size_t>(job.k));
  for (int64_t n = begin; n < end; ++n) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t i = 0; i < job.m; ++i) {
      const double dy = Round(job.dy[RowOf(job.dy_rows, i) * job.ldy + n], round);
      const float* x = job.x + RowOf(job.x_rows, i) * job.ldx;
      for (int64_t j = 0; j < job.k; ++j) sums[static_cast<size_t>(j)] += dy * Round(x[j], round);
    }
    for (int64_t j = 0; j < job.k; ++j) {
      float& dw = job.dw[n * job.k + j];
      dw = static_cast<float>(dw + sums[static_cast<size_t>(j)]);
    }
  }
}

void RmsNormBackward(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const std::byte*>(args.weight);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    const float* dy = args.dy + row * args.lddy;
    float* dx = args.dx + row * args.lddx;
    double squares = 0, dot = 0;
    for (int64_t i = 0; i < args.n; ++i) {
      squares += static_cast<double>(x[i]) * x[i];
      dot += static_cast<double>(x[i]) * dy[i] * Decode(weight, i, args.weight_dtype);
    }
    const double n = static_cast<double>(args.n);
    const double r = 1 / std::sqrt(squares / n + args.eps);
    const double mean = r * r * dot / n;
    for (int64_t i = 0; i < args.n; ++i) {
      dw[i] += dy[i] * (x[i] * r);
      const double value = r * (static_cast<double>(dy[i]) * Decode(weight, i, args.weight_dtype) - x[i] * mean);
      dx[i] = static_cast<float>((args.accumulate ? dx[i] : 0.0) + value);
    }
  }
}

void SwigluBackward(const SwigluBackwardArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const double weight = args.weight ? args.weight[row] : 1.0;
    double dweight = 0;
    for (int64_t i = row * args.n; i < (row + 1) * args.n; ++i) {
      const double gate = args.gate[i], up = args.up[i], dy = args.dy[i], s = Sigmoid(gate), silu = gate * s;
      dweight += dy * silu * up;
      args.dgate[i] = static_cast<float>(weight * dy * up * (s + silu * (1 - s)));
      args.dup[i] = static_cast<float>(weight * dy * silu);
      args.y[i] = static_cast<float>(weight * silu * up);
    }
    if (args.weight) args.dweight[row] = static_cast<float>(dweight);
  }
}

void GateBackward(const GateBackwardArgs& args, int64_t begin, int64_t end) {
  const int64_t e = args.experts, k = args.top_k;
  std::vector<double> s(static_cast<size_t>(e)), ds(static_cast<size_t>(e));
  for (int64_t t = begin; t < end; ++t) {
    const float* logits = args.logits + t * e;
    const int32_t* ids = args.ids + t * k;
    const float* dweights = args.dweights + t * k;
    double all = 0, chosen = 0, dot = 0;
    const double top = *std::max_element(logits, logits + e);
    for (size_t i = 0; i < s.size(); ++i) {
      s[i] = args.sigmoid ? Sigmoid(logits[i]) : std::exp(logits[i] - top);
      all += s[i];
    }
    for (size_t i = 0; !args.sigmoid && i < s.size(); ++i) s[i] /= all;
    std::fill(ds.begin(), ds.end(), 0.0);
    // w = scale s / (sum of the chosen s + 1e-20), or scale s.
    for (int64_t j = 0; j < k; ++j) chosen += s[static_cast<size_t>(ids[j])];
    chosen += 1e-20;
    for (int64_t j = 0; j < k; ++j) dot += dweights[j] * s[static_cast<size_t>(ids[j])] / chosen;
    for (int64_t j = 0; j < k; ++j) {
      const double d = args.norm_topk_prob ? (dweights[j] - dot) / chosen : dweights[j];
      ds[static_cast<size_t>(ids[j])] = args.routed_scaling_factor * d;
    }
    if (args.balance) {  // through s' = s / all
      const float* g = args.balance + args.sequence_of[t] * e;
      double mean = 0;
      for (size_t i = 0; i < s.size(); ++i) mean += g[i] * s[i] / all;
      for (size_t i = 0; i < s.size(); ++i) ds[i] += (g[i] - mean) / all;
    }
    double mixed = 0;
    for (size_t i = 0; i < s.size(); ++i) mixed += ds[i] * s[i];
    for (size_t i = 0; i < s.size(); ++i) {
      args.dlogits[t * e + static_cast<int64_t>(i)] =
          static_cast<float>(args.sigmoid ? ds[i] * s[i] * (1 - s[i]) : s[i] * (ds[i] - mixed));
    }
  }
}

void Balance(const BalanceArgs& args, double* p, int64_t* counts, int64_t begin, int64_t end) {
  const size_t e = static_cast<size_t>(args.experts);
  std::vector<float> s(e);  // as the gate rounds them, so that equal scores are equal here too
  std::vector<int32_t> order(e);
  for (int64_t t = begin; t < end; ++t) {
    double all = 0;
    for (size_t i = 0; i < e; ++i) {
      s[i] = static_cast<float>(Sigmoid(args.logits[static_cast<size_t>(t) * e + i]));
      all += s[i];
      order[i] = static_cast<int32_t>(i);
    }
    for (size_t i = 0; i < e; ++i) p[i] += s[i] / all;
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return s[static_cast<size_t>(a)] > s[static_cast<size_t>(b)]; });
    for (int64_t k = 0; k < args.top_k; ++k) ++counts[order[static_cast<size_t>(k)]];
  }
}

void AttentionBackward(const AttentionBackwardArgs& args, int64_t head, double* dk_rope, double* scratch) {
  const bool round = RoundsToBf16(args.compute);
  const int64_t dq = args.dn + args.dr, dn = args.dn, dr = args.dr, dv = args.dv, tokens = args.tokens;
  const auto* kv = static_cast<const std::byte*>(args.kv);
  const auto kv_at = [&](int64_t t, int64_t i) {
    const std::byte* row = kv + (t * args.ldkv + head * (dn + dv)) * SizeOf(args.kv_dtype);
    return Round(Decode(row, i, args.kv_dtype), round);
  };
  const auto key_at = [&](int64_t t, int64_t i) {
    return i < dn ? kv_at(t, i) : Round(args.k_rope[t * args.ldk_rope + i - dn], round);
  };
  std::vector<double> dkey(static_cast<size_t>(tokens * dq), 0.0), dvalue(static_cast<size_t>(tokens * dv), 0.0);
  double* weights = scratch;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* q = args.q + t * args.ldq + head * dq;
    const float* out = args.out + t * args.ldo + head * dv;
    const float* dout = args.dout + t * args.ldo + head * dv;
    float* dq_row = args.dq + t * args.lddq + head * dq;
    double delta = 0;
    for (int64_t i = 0; i < dv; ++i) delta += static_cast<double>(out[i]) * dout[i];
    std::vector<double> dquery(static_cast<size_t>(dq), 0.0);
    for (int64_t s = 0; s <= t; ++s) {
      double score = 0, dweight = 0;
      for (int64_t i = 0; i < dq; ++i) score += Round(q[i], round) * key_at(s, i);
      for (int64_t i = 0; i < dv; ++i) dweight += Round(dout[i], round) * kv_at(s, dn + i);
      weights[s] = std::exp(score * args.scale - args.lse[t * args.ld_lse + head]);
      const double p = Round(static_cast<float>(weights[s]), round);
      const double ds = Round(static_cast<float>(weights[s] * (dweight - delta)), round) * args.scale;
      for (int64_t i = 0; i < dv; ++i) dvalue[static_cast<size_t>(s * dv + i)] += p * Round(dout[i], round);
      for (int64_t i = 0; i < dq; ++i) {
        dquery[static_cast<size_t>(i)] += ds * key_at(s, i);
        dkey[static_cast<size_t>(s * dq + i)] += ds * Round(q[i], round);
      }
    }
    for (int64_t i = 0; i < dq; ++i) dq_row[i] = static_cast<float>(dquery[static_cast<size_t>(i)]);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    float* dkv = args.dkv + t * args.lddkv + head * (dn + dv);
    for (int64_t i = 0; i < dn; ++i) dkv[i] = static_cast<float>(dkey[static_cast<size_t>(t * dq + i)]);
    for (int64_t i = 0; i < dv; ++i) dkv[dn + i] = static_cast<float>(dvalue[static_cast<size_t>(t * dv + i)]);
    for (int64_t i = 0; i < dr; ++i) dk_rope[t * dr + i] += dkey[static_cast<size_t>(t * dq + dn + i)];
  }
}

void CrossEntropy(const CrossEntropyArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    float* logits = args.logits + row * args.vocab;
    const int64_t top = std::max_element(logits, logits + args.vocab) - logits;
    if (args.argmax) args.argmax[row] = static_cast<int32_t>(top);
    const int32_t target = args.targets[row];
    if (target < 0) {
      args.losses[row] = 0;
      std::fill_n(logits, args.vocab, 0.0f);
      continue;
    }
    const double shift = logits[top];
    double sum = 0;
    for (int64_t i = 0; i < args.vocab; ++i) sum += std::exp(logits[i] - shift);
    args.losses[row] = static_cast<float>(shift - logits[target] + std::log(sum));
    for (int64_t i = 0; i < args.vocab; ++i) {
      const double p = std::exp(logits[i] - shift) / sum;
      logits[i] = static_cast<float>(args.scale * (p - (i == target ? 1 : 0)));
    }
  }
}

void EmbedBackward(const EmbedBackwardArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = 0; row < args.rows; ++row) {
    float* to = args.dtable + args.ids[row] * args.n;
    for (int64_t i = begin; i < end; ++i) to[i] += args.dy[row * args.lddy + i];
  }
}

void Adamw(const AdamwArgs& args, int64_t begin, int64_t end) {
  const bool bf16 = args.moment_dtype == DType::kBF16;
  const auto load = [&](const void* p, int64_t i) {
    return bf16 ? Bf16ToF32(static_cast<const uint16_t*>(p)[i]) : static_cast<const float*>(p)[i];
  };
  const auto store = [&](void* p, int64_t i, double value) {
    if (bf16) {
      static_cast<uint16_t*>(p)[i] = F32ToBf16(static_cast<float>(value));
    } else {
      static_cast<float*>(p)[i] = static_cast<float>(value);
    }
  };
  for (int64_t i = begin; i < end; ++i) {
    const double g = static_cast<double>(args.grad[i]) * args.grad_scale;
    const double m = args.beta1 * static_cast<double>(load(args.m, i)) + (1 - static_cast<double>(args.beta1)) * g;
    const double v = args.beta2 * static_cast<double>(load(args.v, i)) + (1 - static_cast<double>(args.beta2)) * g * g;
    const double decayed = args.w[i] - static_cast<double>(args.lr) * args.decay * args.w[i];
    const double w = decayed - args.lr / static_cast<double>(args.c1) * m / (std::sqrt(v / args.c2) + args.eps);
    store(args.m, i, m);
    store(args.v, i, v);
    args.w[i] = static_cast<float>(w);
    args.grad[i] = 0;
    if (args.bf16) args.bf16[i] = F32ToBf16(args.w[i]);
    if (args.ema) {
      args.ema[i] = static_cast<float>(args.ema_decay * static_cast<double>(args.ema[i]) +
                                       (1 - static_cast<double>(args.ema_decay)) * args.w[i]);
    }
  }
}

double SumOfSquares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

}  // namespace fathom::kernels::reference
