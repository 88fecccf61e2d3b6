// Row operations of training: every instruction set of this machine against the references. Bounds count roundings:
// u = 2^-24; a vector has at least four lanes; exp is 2 ulp = 4u off, so that 1 / (1 + e^-x) is 7u off and its
// complement 12u.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/reference/train.h"
#include "kernels/train_problem_test.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kSizes[] = {1, 3, 7, 16, 24, 63, 64, 80, 127, 321};
constexpr float kInf = std::numeric_limits<float>::infinity();

size_t At(int64_t i) { return static_cast<size_t>(i); }

class TrainRows : public testing::TestWithParam<Isa> {
 protected:
  ThreadPool pool_{2};
  Context ctx_{pool_, GetParam(), {}};
};
INSTANTIATE_TEST_SUITE_P(Isa, TrainRows, testing::ValuesIn(VectorIsas()),
                         [](const auto& isa) { return std::string(Name(isa.param)); });

std::vector<std::byte> Encode(const std::vector<float>& x, DType dtype) {
  std::vector<std::byte> bytes(x.size() * At(SizeOf(dtype)));
  for (size_t i = 0; i < x.size(); ++i) {
    const uint16_t bits = dtype == DType::kBF16 ? F32ToBf16(x[i]) : F32ToF16(x[i]);
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[4 * i], &x[i], 4);
    } else {
      std::memcpy(&bytes[2 * i], &bits, 2);
    }
  }
  return bytes;
}

// ---- RMSNorm ----

struct Norm {
  int64_t n, rows, ld;
  std::vector<float> x, dy, dx, dw;
  std::vector<std::byte> weight;
  RmsNormBackwardArgs args;

  Norm(int64_t width, int64_t count, DType dtype, bool accumulate)
      : n(width),
        rows(count),
        ld(width + 3),
        x(Random(rows * ld, 1)),
        dy(Random(rows * ld, 2)),
        dx(Random(rows * ld, 3)),
        dw(Random(n, 4)),
        weight(Encode(Random(n, 5), dtype)) {
    args = {.dx = dx.data(), .lddx = ld, .accumulate = accumulate, .dw = dw.data(), .dy = dy.data(), .lddy = ld};
    args.x = x.data();
    args.ldx = ld;
    args.rows = rows;
    args.n = n;
    args.weight = weight.data();
    args.weight_dtype = dtype;
  }
};

// r: a sum of squares with at most n / 8 + 8 roundings in sequence (two accumulators of four lanes), halved by the
// root; so is c = r^2 mean(w dy x), which has the same of |w dy x|. Of dx the two terms together: at most (n / 2 + 48)
// u of their magnitudes. dw: r and three roundings a term, four rows summed in float32, the rest in double.
TEST_P(TrainRows, RmsNormBackward) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t n : kSizes) {
      const bool accumulate = n % 2;
      Norm got(n, 7, dtype, accumulate), expected(n, 7, dtype, accumulate);
      const std::vector<float> dx_before = got.dx, dw_before = got.dw;
      Arena arena(1 << 20);
      RmsNormBackward(ctx_, arena, got.args);
      std::vector<double> dw(At(n), 0.0), dw_size(At(n), 0.0);
      reference::RmsNormBackward(expected.args, dw.data(), 0, 7);
      for (int64_t t = 0; t < 7; ++t) {
        double squares = 0, size = 0;
        const auto weight_at = [&](int64_t i) {
          uint16_t bits;
          float f;
          std::memcpy(&bits, &got.weight[At(i * SizeOf(dtype))], 2);
          if (dtype != DType::kF32) return dtype == DType::kBF16 ? Bf16ToF32(bits) : F16ToF32(bits);
          std::memcpy(&f, &got.weight[At(4 * i)], 4);
          return f;
        };
        for (int64_t i = 0; i < n; ++i) {
          const double x = got.x[At(t * got.ld + i)];
          squares += x * x;
          size += std::abs(x * got.dy[At(t * got.ld + i)] * weight_at(i));
        }
        const double count = static_cast<double>(n), r = 1 / std::sqrt(squares / count + got.args.eps);
        for (int64_t i = 0; i < got.ld; ++i) {
          const size_t at = At(t * got.ld + i);
          if (i >= n) {
            ASSERT_EQ(got.dx[at], dx_before[at]) << "outside";
            continue;
          }
          const double terms = std::abs(r * weight_at(i) * got.dy[at]) + std::abs(got.x[at]) * r * r * r * size / count;
          const double before = accumulate ? std::abs(dx_before[at]) : 0;
          ASSERT_NEAR(got.dx[at], expected.dx[at], (count / 2 + 48) * kU * (terms + before)) << Name(dtype) << " " << n;
          dw_size[At(i)] += std::abs(got.dy[at] * got.x[at] * r);
        }
      }
      for (int64_t i = 0; i < n; ++i) {
        const double bound = (static_cast<double>(n) / 16 + 20) * kU * (dw_size[At(i)] + std::abs(dw_before[At(i)]));
        ASSERT_NEAR(got.dw[At(i)], dw_before[At(i)] + dw[At(i)], bound) << "dw, n " << n;
      }
    }
  }
}

TEST_P(TrainRows, RmsNormBackwardInPlace) {
  Norm apart(80, 9, DType::kF32, false), in_place(80, 9, DType::kF32, false);
  Arena arena(1 << 20);
  RmsNormBackward(ctx_, arena, apart.args);
  in_place.args.dx = in_place.dy.data();
  RmsNormBackward(ctx_, arena, in_place.args);
  for (int64_t i = 0; i < 9 * apart.ld; ++i) {
    if (i % apart.ld < 80) {
      ASSERT_EQ(in_place.dy[At(i)], apart.dx[At(i)]);
    }
  }
  EXPECT_EQ(in_place.dw, apart.dw);
}

// ---- SwiGLU ----

// The complement and the sigmoid, then a product, a sum and three products: 32u of |weight dy up| s (1 + |g| (1 - s)).
// Beyond +-80 the sigmoid is held: 1e-32 |weight dy up|.
TEST_P(TrainRows, SwigluBackward) {
  constexpr int64_t kRows = 3;
  for (int64_t n : kSizes) {
    for (bool weighted : {false, true}) {
      std::vector<float> gate = Random(kRows * n, 6);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= i % 3 ? 3.0f : 60.0f;
      const std::vector<float> up = Random(kRows * n, 7), dy = Random(kRows * n, 8), weight = Random(kRows, 9);
      std::vector<float> dgate[2], dup[2], y[2], dweight[2];
      SwigluBackwardArgs args{.dgate = nullptr, .dup = nullptr, .y = nullptr, .dweight = nullptr, .dy = dy.data()};
      args.gate = gate.data();
      args.up = up.data();
      args.weight = weighted ? weight.data() : nullptr;
      args.rows = kRows;
      args.n = n;
      for (int i = 0; i < 2; ++i) {
        dgate[i].resize(gate.size());
        dup[i] = y[i] = dgate[i];
        dweight[i].resize(kRows);
        args.dgate = dgate[i].data();
        args.dup = dup[i].data();
        args.y = y[i].data();
        args.dweight = weighted ? dweight[i].data() : nullptr;
        if (i == 0) {
          SwigluBackward(ctx_, args);
        } else {
          reference::SwigluBackward(args, 0, kRows);
        }
      }
      for (int64_t row = 0; row < kRows; ++row) {
        double size = 0;
        for (int64_t i = row * n; i < (row + 1) * n; ++i) {
          const size_t at = At(i);
          const double g = gate[at], s = 1 / (1 + std::exp(-g)), w = weighted ? weight[At(row)] : 1;
          const double all = std::abs(w * dy[at] * up[at]);
          size += std::abs(dy[at] * g * s * up[at]);
          ASSERT_NEAR(dgate[0][at], dgate[1][at], 32 * kU * all * s * (1 + std::abs(g) * (1 - s)) + 1e-32 * all) << g;
          ASSERT_NEAR(dup[0][at], dup[1][at], 12 * kU * std::abs(dup[1][at]) + 1e-32 * std::abs(w * dy[at])) << g;
          ASSERT_NEAR(y[0][at], y[1][at], 12 * kU * std::abs(y[1][at]) + 1e-32 * std::abs(w * up[at])) << g;
        }
        if (weighted) {
          const double bound = (static_cast<double>(n) / 4 + 16) * kU * size + 1e-30;
          ASSERT_NEAR(dweight[0][At(row)], dweight[1][At(row)], bound) << "n " << n;
        }
      }
      // In place: the same bits.
      std::vector<float> gate_place = gate, up_place = up, y_place = dy;
      args.dgate = gate_place.data();
      args.gate = gate_place.data();
      args.dup = up_place.data();
      args.up = up_place.data();
      args.y = y_place.data();
      args.dy = y_place.data();
      SwigluBackward(ctx_, args);
      ASSERT_EQ(gate_place, dgate[0]);
      ASSERT_EQ(up_place, dup[0]);
      ASSERT_EQ(y_place, y[0]);
    }
  }
}

// ---- Gate ----

struct GateProblem {
  int64_t tokens, experts, top_k;
  std::vector<float> logits, dweights, balance, dlogits;
  std::vector<int32_t> ids, sequence_of;
  GateBackwardArgs args;

  GateProblem(int64_t t, int64_t e, int64_t k, int form)
      : tokens(t),
        experts(e),
        top_k(k),
        logits(Random(t * e, 10, 2)),
        dweights(Random(t * k, 11)),
        balance(Random(2 * e, 12)),
        dlogits(At(t * e), 9.0f),
        ids(At(t * k)),
        sequence_of(At(t)) {
    Rng rng(5, 6);
    for (int64_t i = 0; i < t; ++i) {
      const int64_t first = rng.NextBelow(e);
      for (int64_t j = 0; j < k; ++j) ids[At(i * k + j)] = static_cast<int32_t>((first + j) % e);
      sequence_of[At(i)] = static_cast<int32_t>(i % 2);
    }
    args = {.dlogits = dlogits.data(), .dweights = dweights.data(), .ids = ids.data(), .logits = logits.data()};
    args.tokens = t;
    args.experts = e;
    args.top_k = k;
    args.sigmoid = form < 4;
    args.norm_topk_prob = form % 2;
    args.routed_scaling_factor = 2.5f;
    args.balance = form / 2 == 1 ? balance.data() : nullptr;
    args.sequence_of = sequence_of.data();
  }
};

// The slope by a chosen score is off by what its parts are: 7u a score in numerator, quotient and product, roundings,
// sums of E / 4 in sequence. A softmax adds the rounded difference in its exponent: u (max - min) a score.
TEST_P(TrainRows, GateBackward) {
  for (int64_t experts : {3, 8, 13, 64, 257}) {
    for (int form = 0; form < 6; ++form) {
      constexpr int64_t kTokens = 5;
      const int64_t k = std::min<int64_t>(experts, 6);
      GateProblem got(kTokens, experts, k, form), expected(kTokens, experts, k, form);
      GateBackward(ctx_, got.args);
      reference::GateBackward(expected.args, 0, kTokens);
      for (int64_t t = 0; t < kTokens; ++t) {
        const float* logits = &got.logits[At(t * experts)];
        std::vector<double> s(At(experts)), size(At(experts), 0.0);
        double all = 0, chosen = 0, dot = 0, balanced = 0, mixed = 0;
        for (size_t e = 0; e < s.size(); ++e) {
          s[e] = form < 4 ? 1 / (1 + std::exp(-static_cast<double>(logits[e]))) : std::exp(logits[e]);
          all += s[e];
        }
        for (double& v : s) v /= form < 4 ? 1 : all;
        for (int64_t j = 0; j < k; ++j) chosen += s[At(got.ids[At(t * k + j)])];
        for (int64_t j = 0; j < k; ++j) {
          dot += std::abs(got.dweights[At(t * k + j)]) * s[At(got.ids[At(t * k + j)])] / chosen;
        }
        for (int64_t j = 0; j < k; ++j) {
          const double own = std::abs(got.dweights[At(t * k + j)]);
          size[At(got.ids[At(t * k + j)])] += 2.5 * (form % 2 ? (own + dot) / chosen : own);
        }
        const float* g = &got.balance[At(got.sequence_of[At(t)] * experts)];
        for (size_t e = 0; e < s.size(); ++e) balanced += std::abs(g[e]) * s[e] / all;
        for (size_t e = 0; got.args.balance && e < s.size(); ++e) size[e] += (std::abs(g[e]) + balanced) / all;
        for (size_t e = 0; e < s.size(); ++e) mixed += size[e] * s[e];
        const double range =
            form < 4 ? 0 : *std::max_element(logits, logits + experts) - *std::min_element(logits, logits + experts);
        const double factor = (static_cast<double>(experts) / 4 + 64 + 6 * range) * kU;
        for (size_t e = 0; e < s.size(); ++e) {
          const double terms = form < 4 ? size[e] * s[e] * (1 - s[e]) : s[e] * (size[e] + mixed);
          const size_t at = At(t * experts) + e;
          ASSERT_NEAR(got.dlogits[at], expected.dlogits[at], factor * terms) << "form " << form << " E " << experts;
        }
      }
    }
  }
}

// Far logits: finite gradients.
TEST_P(TrainRows, GateBackwardOfFarLogits) {
  GateProblem p(2, 9, 3, 3);
  for (size_t i = 0; i < p.logits.size(); ++i) p.logits[i] = i % 2 ? -200.0f : 200.0f;
  GateBackward(ctx_, p.args);
  for (float v : p.dlogits) EXPECT_TRUE(std::isfinite(v));
}

// Counts are equal; p is summed in double from scores of which a few may be rounded to the other side.
TEST_P(TrainRows, Balance) {
  for (int64_t experts : {3, 8, 13, 64, 257}) {
    for (int64_t tokens : {0, 1, 5, 256, 600}) {
      const int64_t k = std::min<int64_t>(experts, 6);
      std::vector<float> logits = Random(tokens * experts, 13);
      for (float& x : logits) x = static_cast<float>(static_cast<int>(x * 4)) / 4;  // many are equal
      std::vector<float> f[2], p[2];
      for (int i = 0; i < 2; ++i) {
        f[i].resize(At(experts));
        p[i].resize(At(experts));
        const BalanceArgs args{.f = f[i].data(),
                               .p = p[i].data(),
                               .logits = logits.data(),
                               .tokens = tokens,
                               .experts = experts,
                               .top_k = k};
        RunPlanned(i == 0 ? GetParam() : Isa::kReference, 2, [&](Context& ctx, Arena& arena) {
          Balance(ctx, arena, {&args, 1});
        });
      }
      ASSERT_EQ(f[0], f[1]) << experts << " experts " << tokens << " tokens";
      for (size_t e = 0; e < p[0].size(); ++e) ASSERT_NEAR(p[0][e], p[1][e], 4 * kU * p[1][e]);
    }
  }
}

// ---- Loss ----

// A weight: exp, the rounded difference in its exponent (u range), the sum (V / 8 in sequence and its terms' own
// errors), the quotient and two products.
TEST_P(TrainRows, CrossEntropy) {
  for (int64_t vocab : {1, 2, 9, 16, 64, 127, 1000, 8192}) {
    constexpr int64_t kRows = 5;
    constexpr float kScale = 0.25f;
    const std::vector<float> logits = Random(kRows * vocab, 14, 3);
    std::vector<int32_t> targets(kRows);
    for (int64_t i = 0; i < kRows; ++i) targets[At(i)] = static_cast<int32_t>(i == 2 ? -1 : (i * 37) % vocab);
    std::vector<float> got = logits, expected = logits, losses(kRows, -1.0f), expected_losses(kRows);
    got[At(vocab / 2)] = expected[At(vocab / 2)] = got[At(vocab - 1)] = expected[At(vocab - 1)] = 30.0f;  // a tie
    const std::vector<float> before = got;
    std::vector<int32_t> argmax(kRows, -1), expected_argmax(kRows);
    CrossEntropyArgs args{.logits = got.data(), .losses = losses.data(), .argmax = argmax.data()};
    args.targets = targets.data();
    args.rows = kRows;
    args.vocab = vocab;
    args.scale = kScale;
    CrossEntropy(ctx_, args);
    args.logits = expected.data();
    args.losses = expected_losses.data();
    args.argmax = expected_argmax.data();
    reference::CrossEntropy(args, 0, kRows);
    ASSERT_EQ(argmax, expected_argmax) << vocab;
    ASSERT_EQ(argmax[0], vocab / 2);
    for (int64_t row = 0; row < kRows; ++row) {
      const float* x = &before[At(row * vocab)];
      const double range = *std::max_element(x, x + vocab) - *std::min_element(x, x + vocab);
      const double factor = (2 * (range + 4) + static_cast<double>(vocab) / 8 + 16) * kU;
      ASSERT_NEAR(losses[At(row)], expected_losses[At(row)], factor + 2 * kU * std::abs(expected_losses[At(row)]));
      for (int64_t i = 0; i < vocab; ++i) {
        const bool target = i == targets[At(row)];
        const double weight = target ? kScale : std::abs(expected[At(row * vocab + i)]);
        ASSERT_NEAR(got[At(row * vocab + i)], expected[At(row * vocab + i)], factor * weight) << vocab << " at " << i;
      }
    }
    EXPECT_EQ(losses[2], 0.0f);
    // Without argmax: the same.
    std::vector<float> again = before;
    args.logits = again.data();
    args.argmax = nullptr;
    CrossEntropy(ctx_, args);
    EXPECT_EQ(again, got);
  }
}

TEST_P(TrainRows, CrossEntropyOfFarLogits) {
  std::vector<float> x(40, -kInf), losses(2);
  x[3] = 1e30f;
  x[20 + 7] = -1e30f;
  x[20 + 8] = -1e30f;
  const int32_t targets[] = {3, 8};
  CrossEntropyArgs args{.logits = x.data(), .losses = losses.data(), .argmax = nullptr, .targets = targets};
  args.rows = 2;
  args.vocab = 20;
  CrossEntropy(ctx_, args);
  EXPECT_EQ(losses[0], 0.0f);
  EXPECT_FLOAT_EQ(losses[1], std::log(2.0f));
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(x[i], 0.0f);
    EXPECT_EQ(x[20 + i], i == 7 ? 0.5f : i == 8 ? -0.5f : 0.0f);
  }
}

// ---- Embedding ----

TEST_P(TrainRows, EmbedBackwardIsExact) {
  for (int64_t n : kSizes) {
    const int32_t ids[] = {4, 0, 4, 2, 4, 0};
    const std::vector<float> dy = Random(6 * (n + 2), 15), before = Random(5 * n, 16);
    std::vector<float> got = before, expected = before;
    EmbedBackwardArgs args{.dtable = got.data(), .dy = dy.data(), .lddy = n + 2, .ids = ids, .rows = 6, .n = n};
    EmbedBackward(ctx_, args);
    args.dtable = expected.data();
    reference::EmbedBackward(args, 0, n);
    ASSERT_EQ(got, expected) << n;
    args.rows = 0;
    args.ids = nullptr;
    EmbedBackward(ctx_, args);
  }
}

// ---- Optimiser ----

struct Moments {
  DType dtype;
  std::vector<std::byte> bytes;
  float Get(size_t i) const {
    float f;
    uint16_t bits;
    if (dtype == DType::kBF16) {
      std::memcpy(&bits, &bytes[2 * i], 2);
      return Bf16ToF32(bits);
    }
    std::memcpy(&f, &bytes[4 * i], 4);
    return f;
  }
};

struct Optimiser {
  std::vector<float> w, grad, ema;
  Moments m, v;
  std::vector<uint16_t> copy_storage;
  uint16_t* copy;  // at a line's begin, or an element behind it
  AdamwArgs args;

  Optimiser(int64_t n, DType dtype, bool copies)
      : w(Random(n, 17)), grad(Random(n, 18, 0.1)), ema(Random(n, 19)), copy_storage(At(n) + 64, 0x1234) {
    const auto address = reinterpret_cast<uintptr_t>(copy_storage.data());
    copy = copy_storage.data() + (64 - address % 64) / 2 + (n % 2);
    std::vector<float> squares = Random(n, 20, 0.1);
    for (float& x : squares) x *= x;
    m = {dtype, Encode(Random(n, 21, 0.1), dtype)};
    v = {dtype, Encode(squares, dtype)};
    args = {.w = w.data(), .grad = grad.data(), .m = m.bytes.data(), .v = v.bytes.data(), .moment_dtype = dtype};
    args.bf16 = copies ? copy : nullptr;
    args.ema = copies ? ema.data() : nullptr;
    args.n = n;
    args.grad_scale = 0.7f;
    args.lr = 0.01f;
    args.decay = 0.1f;
    args.c1 = 0.3f;
    args.c2 = 0.2f;
    args.ema_decay = 0.9f;
  }
};

// m: two products and a sum (3u of their magnitudes); v: all positive, five roundings; the step from m, v, their
// factors, root, sum and quotient: 16u of its magnitude; w: one rounding here, one in the reference. Moments in bf16
// may fall to the neighbour: 2^-7.
TEST_P(TrainRows, Adamw) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t n : {0, 1, 5, 16, 33, 1000, 32784, 40001}) {
      for (bool copies : {false, true}) {
        Optimiser got(n, dtype, copies), expected(n, dtype, copies);
        const Optimiser before(n, dtype, copies);
        Adamw(ctx_, {&got.args, 1});
        reference::Adamw(expected.args, 0, n);
        const double own = dtype == DType::kBF16 ? 0x1p-7 : 0;
        ASSERT_EQ(got.copy[n], 0x1234);
        for (size_t i = 0; i < At(n); ++i) {
          const double g = before.grad[i] * 0.7, m = 0.9 * std::abs(before.m.Get(i)) + 0.1 * std::abs(g);
          const double v = 0.95 * before.v.Get(i) + 0.05 * g * g;
          const double step = 0.01 * 0.1 * std::abs(before.w[i]) + 0.01 / 0.3 * m / (std::sqrt(v / 0.2) + 1e-8);
          ASSERT_NEAR(got.m.Get(i), expected.m.Get(i), 4 * kU * m + own * std::abs(expected.m.Get(i)));
          ASSERT_NEAR(got.v.Get(i), expected.v.Get(i), (8 * kU + own) * v);
          ASSERT_NEAR(got.w[i], expected.w[i], 2 * kU * (std::abs(before.w[i]) + step) + 16 * kU * step) << i;
          ASSERT_EQ(got.grad[i], 0.0f);
          if (copies) {
            ASSERT_EQ(got.copy[i], F32ToBf16(got.w[i]));
            ASSERT_NEAR(got.ema[i],
                        0.9f * static_cast<double>(before.ema[i]) + (1 - static_cast<double>(0.9f)) * got.w[i],
                        4 * kU * (std::abs(before.ema[i]) + std::abs(got.w[i])));
          } else {
            ASSERT_EQ(got.copy[i], 0x1234);
          }
        }
      }
    }
  }
}

// Double throughout: n roundings of 2^-53 at most.
TEST_P(TrainRows, SumOfSquares) {
  for (int64_t n : {0, 1, 3, 17, 64, 1000, 200001}) {
    const std::vector<float> x = Random(n, 22), y = Random(9, 23);
    double expected = reference::SumOfSquares(x.data(), n) + reference::SumOfSquares(y.data(), 9);
    const Values tensors[] = {{x.data(), n}, {y.data(), 9}};
    EXPECT_NEAR(SumOfSquares(ctx_, tensors), expected, static_cast<double>(n + 9) * 0x1p-53 * expected) << n;
  }
}

// ---- Any number of threads ----

TEST_P(TrainRows, ThreadsDoNotMatter) {
  std::vector<float> first;
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Context ctx{pool, GetParam(), {}};
    Arena arena(1 << 22);
    std::vector<float> all;
    const auto add = [&](const auto& values) { all.insert(all.end(), values.begin(), values.end()); };
    Norm norm(321, 300, DType::kF32, false);
    RmsNormBackward(ctx, arena, norm.args);
    add(norm.dx);
    add(norm.dw);
    std::vector<float> gate = Random(300 * 321, 24), up = Random(300 * 321, 25), y = Random(300 * 321, 26);
    std::vector<float> weight = Random(300, 27), dweight(300);
    SwigluBackwardArgs swiglu{.dgate = gate.data(), .dup = up.data(), .y = y.data(), .dweight = dweight.data()};
    swiglu.dy = y.data();
    swiglu.gate = gate.data();
    swiglu.up = up.data();
    swiglu.weight = weight.data();
    swiglu.rows = 300;
    swiglu.n = 321;
    SwigluBackward(ctx, swiglu);
    add(gate);
    add(dweight);
    GateProblem router(700, 64, 6, 3);
    GateBackward(ctx, router.args);
    add(router.dlogits);
    std::vector<float> f(64), p(64);
    const BalanceArgs balance{
        .f = f.data(), .p = p.data(), .logits = router.logits.data(), .tokens = 700, .experts = 64, .top_k = 6};
    Balance(ctx, arena, {&balance, 1});
    add(f);
    add(p);
    std::vector<float> logits = Random(40 * 1000, 28), losses(40);
    const std::vector<int32_t> targets(40, 3);
    CrossEntropyArgs loss{
        .logits = logits.data(), .losses = losses.data(), .argmax = nullptr, .targets = targets.data()};
    loss.rows = 40;
    loss.vocab = 1000;
    CrossEntropy(ctx, loss);
    add(logits);
    add(losses);
    std::vector<float> table(4 * 321, 0.0f);
    EmbedBackwardArgs embed{.dtable = table.data(), .dy = y.data(), .lddy = 321, .ids = targets.data(), .rows = 40};
    embed.n = 321;
    EmbedBackward(ctx, embed);
    add(table);
    Optimiser optimiser(100001, DType::kBF16, true);
    Adamw(ctx, {&optimiser.args, 1});
    add(optimiser.w);
    add(optimiser.ema);
    const Values values{y.data(), 300 * 321};
    const double sum = SumOfSquares(ctx, {&values, 1});
    all.push_back(static_cast<float>(sum));
    all.push_back(static_cast<float>(sum - static_cast<double>(static_cast<float>(sum))));
    if (first.empty()) first = all;
    ASSERT_EQ(all, first) << threads << " threads";
  }
}

}  // namespace
}  // namespace fathom::kernels
