// The references of training's operations against finite differences of forward formulas written here in double, and
// against closed forms. Every other entry is tested against the references (train_rows_test.cpp, attention_backward_
// test.cpp).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/reference/train.h"
#include "kernels/train_problem_test.h"

namespace fathom::kernels {
namespace {

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
using Vector = std::vector<double>;

class TrainReference : public testing::Test {
 protected:
  ThreadPool pool_{2};
  Context ctx_{pool_, Isa::kReference, {}};
  Arena arena_{1 << 20};
};

TEST_F(TrainReference, RmsNormBackward) {
  constexpr int64_t kRows = 3, kN = 7;
  constexpr float kEps = 0.01f;
  const std::vector<float> x = Random(kRows * kN, 1), dy = Random(kRows * kN, 2), weight = Random(kN, 3);
  const auto loss = [&](const Vector& xs, const Vector& ws) {
    double sum = 0;
    for (int64_t t = 0; t < kRows; ++t) {
      double squares = 0;
      for (int64_t i = 0; i < kN; ++i) squares += std::pow(xs[static_cast<size_t>(t * kN + i)], 2);
      const double r = 1 / std::sqrt(squares / kN + kEps);
      for (int64_t i = 0; i < kN; ++i) {
        const auto at = static_cast<size_t>(t * kN + i);
        sum += dy[at] * xs[at] * r * ws[static_cast<size_t>(i)];
      }
    }
    return sum;
  };
  std::vector<float> dx(x.size()), dw(kN, 0.0f);
  RmsNormBackwardArgs args{.dx = dx.data(), .lddx = kN, .dw = dw.data(), .dy = dy.data(), .lddy = kN, .x = x.data()};
  args.ldx = kN;
  args.rows = kRows;
  args.n = kN;
  args.weight = weight.data();
  args.eps = kEps;
  RmsNormBackward(ctx_, arena_, args);
  ExpectSlopes([&](const Vector& v) { return loss(v, Doubles(weight)); }, Doubles(x), dx, kU, "dx");
  ExpectSlopes([&](const Vector& v) { return loss(Doubles(x), v); }, Doubles(weight), dw, kU, "dw");

  // Again: both sums double.
  std::vector<float> twice = dx;
  args.dx = twice.data();
  args.accumulate = true;
  const std::vector<float> dw_once = dw;
  RmsNormBackward(ctx_, arena_, args);
  for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(twice[i], 2 * dx[i], 4 * kU * std::abs(dx[i]));
  for (size_t i = 0; i < dw.size(); ++i) EXPECT_NEAR(dw[i], 2 * dw_once[i], 4 * kU * std::abs(dw_once[i]));
  args.rows = 0;
  const std::vector<float> before = dw;
  RmsNormBackward(ctx_, arena_, args);
  EXPECT_EQ(dw, before);
}

TEST_F(TrainReference, SwigluBackward) {
  constexpr int64_t kRows = 3, kN = 5;
  const std::vector<float> gate = Random(kRows * kN, 4, 2), up = Random(kRows * kN, 5), dy = Random(kRows * kN, 6);
  const std::vector<float> weight = Random(kRows, 7);
  for (bool weighted : {false, true}) {
    const auto loss = [&](const Vector& g, const Vector& u, const Vector& w) {
      double sum = 0;
      for (size_t i = 0; i < g.size(); ++i) sum += (weighted ? w[i / kN] : 1) * dy[i] * g[i] * Sigmoid(g[i]) * u[i];
      return sum;
    };
    std::vector<float> dgate(gate.size()), dup(gate.size()), y(gate.size()), dweight(kRows);
    SwigluBackwardArgs args{.dgate = dgate.data(), .dup = dup.data(), .y = y.data()};
    args.dweight = weighted ? dweight.data() : nullptr;
    args.dy = dy.data();
    args.gate = gate.data();
    args.up = up.data();
    args.weight = weighted ? weight.data() : nullptr;
    args.rows = kRows;
    args.n = kN;
    SwigluBackward(ctx_, args);
    const Vector g = Doubles(gate), u = Doubles(up), w = Doubles(weight);
    ExpectSlopes([&](const Vector& v) { return loss(v, u, w); }, g, dgate, kU, "dgate");
    ExpectSlopes([&](const Vector& v) { return loss(g, v, w); }, u, dup, kU, "dup");
    if (weighted) ExpectSlopes([&](const Vector& v) { return loss(g, u, v); }, w, dweight, kU, "dweight");
    for (size_t i = 0; i < y.size(); ++i) {
      const double expected = (weighted ? w[i / kN] : 1) * g[i] * Sigmoid(g[i]) * u[i];
      EXPECT_NEAR(y[i], expected, 2 * kU * std::abs(expected));
    }
    args.rows = 0;
    SwigluBackward(ctx_, args);  // nothing to read
  }
}

TEST_F(TrainReference, GateBackward) {
  constexpr int64_t kTokens = 3, kExperts = 7, kTopK = 3;
  const int32_t ids[kTokens * kTopK] = {4, 0, 2, 6, 5, 1, 3, 4, 0}, sequence_of[kTokens] = {0, 1, 0};
  const std::vector<float> logits = Random(kTokens * kExperts, 8, 2), dweights = Random(kTokens * kTopK, 9);
  const std::vector<float> balance = Random(2 * kExperts, 10);
  for (int form = 0; form < 6; ++form) {
    const bool sigmoid = form < 4, normalised = form % 2, balanced = form / 2 == 1;
    const auto loss = [&](const Vector& x) {
      double sum = 0;
      for (size_t t = 0; t < kTokens; ++t) {
        Vector s(kExperts);
        double all = 0, chosen = 0;
        for (size_t e = 0; e < kExperts; ++e) {
          s[e] = sigmoid ? Sigmoid(x[t * kExperts + e]) : std::exp(x[t * kExperts + e]);
          all += s[e];
        }
        for (double& v : s) v /= sigmoid ? 1 : all;
        for (size_t k = 0; k < kTopK; ++k) chosen += s[static_cast<size_t>(ids[t * kTopK + k])];
        for (size_t k = 0; k < kTopK; ++k) {
          const double w = s[static_cast<size_t>(ids[t * kTopK + k])] / (normalised ? chosen + 1e-20 : 1);
          sum += dweights[t * kTopK + k] * 2.5 * w;
        }
        for (size_t e = 0; balanced && e < kExperts; ++e) {
          sum += balance[static_cast<size_t>(sequence_of[t]) * kExperts + e] * s[e] / all;
        }
      }
      return sum;
    };
    std::vector<float> dlogits(logits.size());
    GateBackwardArgs args{.dlogits = dlogits.data(), .dweights = dweights.data(), .ids = ids, .logits = logits.data()};
    args.tokens = kTokens;
    args.experts = kExperts;
    args.top_k = kTopK;
    args.sigmoid = sigmoid;
    args.norm_topk_prob = normalised;
    args.routed_scaling_factor = 2.5f;
    args.balance = balanced ? balance.data() : nullptr;
    args.sequence_of = sequence_of;
    GateBackward(ctx_, args);
    ExpectSlopes(loss, Doubles(logits), dlogits, kU, "dlogits");
    args.tokens = 0;
    GateBackward(ctx_, args);
  }
}

// f by counting, p by its formula; GateBackward fed with alpha f / T gives the slope of alpha sum f p.
TEST_F(TrainReference, BalanceAndItsGradient) {
  constexpr int64_t kTokens = 5, kExperts = 6, kTopK = 2;
  constexpr double kAlpha = 0.7;
  std::vector<float> logits = Random(kTokens * kExperts, 11);
  for (size_t e = 0; e < kExperts; ++e) logits[e] = 1.0f;  // token 0: a tie of all, the first two count
  float f[kExperts], p[kExperts];
  const BalanceArgs args{
      .f = f, .p = p, .logits = logits.data(), .tokens = kTokens, .experts = kExperts, .top_k = kTopK};
  Balance(ctx_, arena_, {&args, 1});
  Vector counts(kExperts, 0);
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t e = 0; e < kExperts; ++e) {
      int better = 0;
      for (size_t i = 0; i < kExperts; ++i) {
        const float a = logits[t * kExperts + i], b = logits[t * kExperts + e];
        better += a > b || (a == b && i < e);
      }
      counts[e] += better < kTopK;
    }
  }
  const auto mean_of = [&](const Vector& x, size_t e) {
    double sum = 0;
    for (size_t t = 0; t < kTokens; ++t) {
      double all = 0;
      for (size_t i = 0; i < kExperts; ++i) all += Sigmoid(x[t * kExperts + i]);
      sum += Sigmoid(x[t * kExperts + e]) / all;
    }
    return sum / kTokens;
  };
  for (size_t e = 0; e < kExperts; ++e) {
    EXPECT_FLOAT_EQ(f[e], static_cast<float>(counts[e] * kExperts / (kTopK * kTokens))) << e;
    EXPECT_NEAR(p[e], mean_of(Doubles(logits), e), 4 * kU) << e;  // the scores are rounded to float32
  }
  std::vector<float> row(kExperts), dlogits(logits.size());
  for (size_t e = 0; e < kExperts; ++e) row[e] = static_cast<float>(kAlpha / kTokens) * f[e];
  const std::vector<float> dweights(kTokens * kTopK, 0.0f);
  const std::vector<int32_t> ids(kTokens * kTopK, 0), sequence_of(kTokens, 0);
  GateBackwardArgs gate{.dlogits = dlogits.data(), .dweights = dweights.data(), .ids = ids.data()};
  gate.logits = logits.data();
  gate.tokens = kTokens;
  gate.experts = kExperts;
  gate.top_k = kTopK;
  gate.balance = row.data();
  gate.sequence_of = sequence_of.data();
  GateBackward(ctx_, gate);
  const auto loss = [&](const Vector& x) {
    double sum = 0;
    for (size_t e = 0; e < kExperts; ++e) sum += kAlpha * f[e] * mean_of(x, e);
    return sum;
  };
  ExpectSlopes(loss, Doubles(logits), dlogits, 4 * kU, "balance");
}

TEST_F(TrainReference, CrossEntropy) {
  constexpr int64_t kRows = 4, kVocab = 9;
  constexpr float kScale = 0.25f;
  std::vector<float> logits = Random(kRows * kVocab, 12, 3);
  logits[2 * kVocab + 3] = logits[2 * kVocab + 7] = 20.0f;  // a tie: the lower index
  const int32_t targets[kRows] = {0, -1, 7, 8};
  const auto loss_of = [&](const Vector& x, size_t row) {
    double sum = 0;
    for (size_t i = 0; i < kVocab; ++i) sum += std::exp(x[row * kVocab + i]);
    return targets[row] < 0 ? 0 : std::log(sum) - x[row * kVocab + static_cast<size_t>(targets[row])];
  };
  const Vector x = Doubles(logits);
  std::vector<float> losses(kRows, -1.0f);
  std::vector<int32_t> argmax(kRows, -1);
  CrossEntropyArgs args{.logits = logits.data(), .losses = losses.data(), .argmax = argmax.data(), .targets = targets};
  args.rows = kRows;
  args.vocab = kVocab;
  args.scale = kScale;
  CrossEntropy(ctx_, args);
  const auto total = [&](const Vector& v) {
    double sum = 0;
    for (size_t row = 0; row < kRows; ++row) sum += kScale * loss_of(v, row);
    return sum;
  };
  ExpectSlopes(total, x, logits, kU, "dlogits");
  for (size_t row = 0; row < kRows; ++row) {
    EXPECT_NEAR(losses[row], loss_of(x, row), kU * (1 + losses[row])) << row;
    const auto begin = x.begin() + static_cast<int64_t>(row) * kVocab;
    EXPECT_EQ(argmax[row], std::max_element(begin, begin + kVocab) - begin);
  }
  EXPECT_EQ(argmax[2], 3);
  EXPECT_EQ(losses[1], 0.0f);
}

// A constant gradient: m = (1 - beta1^t) g and v = (1 - beta2^t) g^2, so that every step is lr g / (|g| + eps).
TEST_F(TrainReference, AdamwOfAConstantGradient) {
  constexpr int64_t kN = 5, kSteps = 6;
  constexpr double kLr = 0.01, kDecay = 0.1, kEps = 0.001;
  const std::vector<float> start = Random(kN, 13), g = Random(kN, 14);
  std::vector<float> w = start, grad(kN), m(kN, 0.0f), v(kN, 0.0f), ema = start;
  std::vector<uint16_t> copy(kN);
  Vector expected = Doubles(start), expected_ema = expected;
  AdamwArgs args{.w = w.data(), .grad = grad.data(), .m = m.data(), .v = v.data()};
  args.bf16 = copy.data();
  args.ema = ema.data();
  args.n = kN;
  args.grad_scale = 2;
  args.lr = static_cast<float>(kLr);
  args.eps = static_cast<float>(kEps);
  args.decay = static_cast<float>(kDecay);
  args.ema_decay = 0.75f;
  for (int step = 1; step <= kSteps; ++step) {
    for (size_t i = 0; i < kN; ++i) grad[i] = g[i] / 2;
    args.c1 = static_cast<float>(1 - std::pow(static_cast<double>(args.beta1), step));
    args.c2 = static_cast<float>(1 - std::pow(static_cast<double>(args.beta2), step));
    Adamw(ctx_, {&args, 1});
    for (size_t i = 0; i < kN; ++i) {
      expected[i] -= kLr * kDecay * expected[i] + kLr * g[i] / (std::abs(g[i]) + kEps);
      expected_ema[i] = 0.75 * expected_ema[i] + 0.25 * expected[i];
      // A step: the roundings of w and lr, and of m, v, c1, c2, whose parts in the step are below lr.
      const double bound = 2 * step * kU * (std::abs(start[i]) + 8 * kLr);
      EXPECT_NEAR(w[i], expected[i], bound) << "step " << step;
      EXPECT_NEAR(ema[i], expected_ema[i], 2 * bound) << "step " << step;
      EXPECT_EQ(copy[i], F32ToBf16(w[i]));
      EXPECT_EQ(grad[i], 0.0f);
    }
  }
}

TEST_F(TrainReference, SumOfSquares) {
  std::vector<float> x(200000), y(3, 2.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  double expected = 12;
  for (float v : x) expected += static_cast<double>(v) * v;
  const Values tensors[] = {{x.data(), 200000}, {nullptr, 0}, {y.data(), 3}};
  EXPECT_EQ(SumOfSquares(ctx_, tensors), expected);
  EXPECT_EQ(SumOfSquares(ctx_, {}), 0);
}

// <R x, y> = <x, R' y>, the tables' amplitude included.
TEST(TrainOps, InverseRopeIsTheTransposed) {
  constexpr int64_t kRows = 3, kDim = 10;
  const std::vector<float> cos = Random(4 * kDim / 2, 15), sin = Random(4 * kDim / 2, 16);
  const std::vector<float> x = Random(kRows * kDim, 17), y = Random(kRows * kDim, 18);
  const int32_t positions[kRows] = {3, 0, 1};
  for (Isa isa : IsasAndReference()) {
    ThreadPool pool(1);
    Context ctx{pool, isa, {}};
    std::vector<float> forward = x, back = y;
    RopeArgs args{.x = forward.data(), .row_stride = kDim, .head_stride = kDim, .rows = kRows, .heads = 1};
    args.dim = kDim;
    args.positions = positions;
    args.cos = cos.data();
    args.sin = sin.data();
    Rope(ctx, args);
    args.x = back.data();
    args.inverse = true;
    Rope(ctx, args);
    double left = 0, right = 0, size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      left += static_cast<double>(forward[i]) * y[i];
      right += static_cast<double>(x[i]) * back[i];
      size += std::abs(static_cast<double>(forward[i]) * y[i]) + std::abs(static_cast<double>(x[i]) * back[i]);
    }
    EXPECT_NEAR(left, right, 4 * kU * size) << Name(isa);
  }
}

// L = sum over terms of dy . (x W^T), rows chosen by lists.
TEST(TrainOps, LinearReferences) {
  constexpr int64_t kM = 3, kK = 5, kN0 = 4, kN1 = 2;
  const std::vector<float> x = Random(4 * kK, 19), w0 = Random(kN0 * kK, 20), w1 = Random(kN1 * kK, 21);
  const std::vector<float> dy0 = Random(5 * kN0, 22), dy1 = Random(kM * kN1, 23);
  const int32_t dy_rows[kM] = {4, 0, 2}, x_rows[kM] = {3, 1, 0};
  const auto product = [](const Vector& xs, size_t xr, const Vector& ws, size_t n) {
    double sum = 0;
    for (size_t k = 0; k < kK; ++k) sum += xs[xr * kK + k] * ws[n * kK + k];
    return sum;
  };
  LinearBackwardTerm terms[2];
  terms[0] = {.dy = dy0.data(), .ldy = kN0, .dy_rows = dy_rows, .w = {.data = w0.data(), .rows = kN0, .cols = kK}};
  terms[1] = {.dy = dy1.data(), .ldy = kN1, .w = {.data = w1.data(), .rows = kN1, .cols = kK}};
  std::vector<float> dx(kM * kK);
  LinearBackwardInputJob input{.dx = dx.data(), .ldx = kK, .m = kM, .terms = terms};
  reference::LinearBackwardInput(input, Compute::kF32, 0, kM);
  const auto loss = [&](const Vector& v) {
    double sum = 0;
    for (size_t i = 0; i < kM; ++i) {
      const auto row = static_cast<size_t>(dy_rows[i]);
      for (size_t n = 0; n < kN0; ++n) sum += dy0[row * kN0 + n] * product(v, i, Doubles(w0), n);
      for (size_t n = 0; n < kN1; ++n) sum += dy1[i * kN1 + n] * product(v, i, Doubles(w1), n);
    }
    return sum;
  };
  ExpectSlopes(loss, Vector(kM * kK, 0.5), dx, kU, "dx");

  std::vector<float> dw(kN0 * kK, 0.0f);
  LinearBackwardWeightJob job{.dw = dw.data(), .n = kN0, .k = kK, .dy = dy0.data(), .ldy = kN0, .dy_rows = dy_rows};
  job.x = x.data();
  job.ldx = kK;
  job.x_rows = x_rows;
  job.m = kM;
  reference::LinearBackwardWeight(job, Compute::kF32, 0, kN0);
  const auto weight_loss = [&](const Vector& v) {
    double sum = 0;
    for (size_t i = 0; i < kM; ++i) {
      for (size_t n = 0; n < kN0; ++n) {
        sum +=
            dy0[static_cast<size_t>(dy_rows[i]) * kN0 + n] * product(Doubles(x), static_cast<size_t>(x_rows[i]), v, n);
      }
    }
    return sum;
  };
  ExpectSlopes(weight_loss, Doubles(w0), dw, kU, "dw");
}

// ---- Attention ----

struct AttentionSize {
  int64_t tokens, heads, dn, dr, dv;
};

// Forward in double from all inputs one after another: q, kv, k_rope.
double AttentionLoss(const AttentionSize& s, double scale, const Vector& q, const Vector& kv, const Vector& rope,
                     const std::vector<float>& dout) {
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  double loss = 0;
  for (int64_t h = 0; h < s.heads; ++h) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      double all = 0, value = 0;
      for (int64_t j = 0; j <= t; ++j) {
        const int64_t key = (j * s.heads + h) * (s.dn + s.dv), query = (t * s.heads + h) * (s.dn + s.dr);
        double score = 0, along = 0;
        for (int64_t i = 0; i < s.dn; ++i) score += q[at(query + i)] * kv[at(key + i)];
        for (int64_t i = 0; i < s.dr; ++i) score += q[at(query + s.dn + i)] * rope[at(j * s.dr + i)];
        for (int64_t i = 0; i < s.dv; ++i) along += dout[at((t * s.heads + h) * s.dv + i)] * kv[at(key + s.dn + i)];
        all += std::exp(score * scale);
        value += std::exp(score * scale) * along;
      }
      loss += value / all;
    }
  }
  return loss;
}

// The forward pass and the backward pass of one instruction set. A weight is off by some (k + 8) u scores of less than
// 8: 2^-15 of the largest gradient is far above all float32 roundings of these sizes and far below any wrong term.
TEST(TrainOps, AttentionBackward) {
  for (const AttentionSize& s : {AttentionSize{7, 2, 5, 3, 4}, AttentionSize{70, 1, 2, 1, 3}}) {
    constexpr float kScale = 0.375f;
    const std::vector<float> q = Random(s.tokens * s.heads * (s.dn + s.dr), 24);
    const std::vector<float> kv = Random(s.tokens * s.heads * (s.dn + s.dv), 25), rope = Random(s.tokens * s.dr, 26);
    const std::vector<float> dout = Random(s.tokens * s.heads * s.dv, 27);
    for (Isa isa : IsasAndReference()) {
      std::vector<float> out(dout.size()), lse(static_cast<size_t>(s.tokens * s.heads));
      std::vector<std::byte> bytes(rope.size() * sizeof(float));
      std::memcpy(bytes.data(), rope.data(), bytes.size());
      std::byte* block = bytes.data();
      AttentionArgs forward;
      forward.out = out.data();
      forward.ldo = s.heads * s.dv;
      forward.q = q.data();
      forward.ldq = s.heads * (s.dn + s.dr);
      forward.kv = kv.data();
      forward.ldkv = s.heads * (s.dn + s.dv);
      forward.cache = {.blocks = &block, .block_tokens = s.tokens, .dtype = DType::kF32, .width = s.dr};
      forward.heads = s.heads;
      forward.tokens = s.tokens;
      forward.dn = s.dn;
      forward.dr = s.dr;
      forward.dv = s.dv;
      forward.scale = kScale;
      forward.lse = lse.data();
      forward.ld_lse = s.heads;
      RunPlanned(isa, 2, [&](Context& ctx, Arena& arena) { Attention(ctx, arena, forward); });
      std::vector<float> dq(q.size()), dkv(kv.size()), dk_rope(rope.size(), 0.0f);
      AttentionBackwardArgs args{.dq = dq.data(), .lddq = forward.ldq, .dkv = dkv.data(), .lddkv = forward.ldkv};
      args.dk_rope = dk_rope.data();
      args.lddk_rope = s.dr;
      args.dout = dout.data();
      args.out = out.data();
      args.ldo = forward.ldo;
      args.q = q.data();
      args.ldq = forward.ldq;
      args.kv = kv.data();
      args.ldkv = forward.ldkv;
      args.k_rope = rope.data();
      args.ldk_rope = s.dr;
      args.lse = lse.data();
      args.ld_lse = s.heads;
      args.heads = s.heads;
      args.tokens = s.tokens;
      args.dn = s.dn;
      args.dr = s.dr;
      args.dv = s.dv;
      args.scale = kScale;
      RunPlanned(isa, 2, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&args, 1}); });
      const Vector qd = Doubles(q), kvd = Doubles(kv), roped = Doubles(rope);
      const double relative = 0x1p-15;
      const auto by_q = [&](const Vector& v) { return AttentionLoss(s, kScale, v, kvd, roped, dout); };
      const auto by_kv = [&](const Vector& v) { return AttentionLoss(s, kScale, qd, v, roped, dout); };
      const auto by_rope = [&](const Vector& v) { return AttentionLoss(s, kScale, qd, kvd, v, dout); };
      SCOPED_TRACE(Name(isa));
      ExpectSlopes(by_q, qd, dq, relative, "dq");
      ExpectSlopes(by_kv, kvd, dkv, relative, "dkv");
      ExpectSlopes(by_rope, roped, dk_rope, relative, "dk_rope");
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
