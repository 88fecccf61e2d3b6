// Both forms of attention, every instruction set of this machine against the references.
//
// The bound. u = 2^-24. A score is a float32 sum of n products: off by at most (n + 4) u times the sum of their
// magnitudes, A. With exp 2 ulp off and the subtraction of the maximum rounded, a softmax weight is relatively off by
// e = (n + 4) u A + 8 u (1 + |score - max|). In kBf16 each side rounds weights to 8 bits, relative to its own maximum:
// 2^-9 each. Numerator and denominator sum L weights, rescaled once a tile: at most L + 3 (L / 64 + 2) roundings.
// So |difference| <= M (2 e + 2^-8 [kBf16] + 2 (L + L / 16 + 16) u), M = softmax-weighted mean of |v|.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"
#include "kernels/flash.h"
#include "kernels/ops.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/elementwise.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

constexpr double kU = 0x1p-24;
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (int i = 1; i < kIsaCount; ++i) {
    if (MachineHas(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

std::vector<float> Random(int64_t n, uint64_t stream) {
  Rng rng(11, stream);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = static_cast<float>(rng.NextNormal());
  return v;
}

// Values of an array in one of the two types.
struct Values {
  DType dtype;
  std::vector<std::byte> bytes;
  Values(const std::vector<float>& x, DType type) : dtype(type), bytes(x.size() * static_cast<size_t>(SizeOf(type))) {
    for (size_t i = 0; i < x.size(); ++i) Set(static_cast<int64_t>(i), x[i]);
  }
  void Set(int64_t i, float x) {
    const uint16_t bits = F32ToBf16(x);
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[static_cast<size_t>(4 * i)], &x, 4);
    } else {
      std::memcpy(&bytes[static_cast<size_t>(2 * i)], &bits, 2);
    }
  }
};

// A cache in blocks that lie in falling order, each its own allocation, so that a read beyond one is seen by ASan.
struct Cache {
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::byte*> blocks;
  LatentCache view;

  Cache(int64_t rows, int64_t width, int64_t rope, int64_t block_tokens, DType dtype, uint64_t stream) {
    const std::vector<float> values = Random(rows * width, stream);
    view = {.blocks = nullptr, .block_tokens = block_tokens, .dtype = dtype, .width = width, .offset = 0, .rope = rope};
    for (int64_t t = 0; t < rows; t += block_tokens) {
      const int64_t n = std::min(block_tokens, rows - t);  // the last may be short: its other rows are never read
      storage.emplace_back(static_cast<size_t>(n * view.row_bytes()));
    }
    for (auto& block : storage) blocks.push_back(block.data());
    view.blocks = blocks.data();
    reference::CacheWrite({.cache = view, .x = values.data(), .ldx = width, .rows = rows}, 0, rows);
  }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  // F8_E4M3: a column of the rope part.
  void Set(int64_t position, int64_t column, float x) {
    const int64_t first = view.width - view.rope;
    ASSERT_TRUE(column >= first || view.dtype != DType::kF8E4M3);
    std::byte* at = view.Row(position) + column * SizeOf(view.dtype);
    if (column >= first) {
      at = const_cast<std::byte*>(view.RopeRow(position, view.rope)) + (column - first) * SizeOf(view.rope_dtype());
    }
    const uint16_t bits = F32ToBf16(x);
    if (view.dtype == DType::kF32) {
      std::memcpy(at, &x, 4);
    } else {
      std::memcpy(at, &bits, 2);
    }
  }
  double Get(int64_t position, int64_t column) const { return reference::CacheValue(view, position, column); }
};

// Plans, then runs within the plan.
template <class F>
void Planned(const F& f) {
  Arena plan = Arena::Planner();
  f(plan);
  Arena arena(plan.HighWater());
  f(arena);
  EXPECT_EQ(arena.HighWater(), plan.HighWater());
}

void RunAttention(Isa isa, int threads, const AttentionArgs& args) {
  ThreadPool pool(threads);
  Context ctx{pool, isa, {}};
  Planned([&](Arena& arena) { Attention(ctx, arena, args); });
}
void RunLatent(Isa isa, int threads, const LatentAttentionArgs& args) {
  ThreadPool pool(threads);
  Context ctx{pool, isa, {}};
  Planned([&](Arena& arena) { LatentAttention(ctx, arena, args); });
}

// ---- Full form ----

struct Shape {
  int64_t heads, dn, dr, dv, tokens, begin, block_tokens;
};

struct Problem {
  Shape shape;
  std::vector<float> q, kv_values;
  Values kv;
  Cache cache;
  std::vector<float> out;
  AttentionArgs args;

  Problem(const Shape& s, DType dtype, Compute compute) : Problem(s, dtype, dtype, compute) {}
  Problem(const Shape& s, DType dtype, DType cache_dtype, Compute compute)
      : shape(s),
        q(Random(s.tokens * QRow(), 1)),
        kv_values(Random((s.begin + s.tokens) * KvRow(), 2)),
        kv(kv_values, dtype),
        cache(s.begin + s.tokens, 24 + s.dr, s.dr, s.block_tokens, cache_dtype, 3),
        out(static_cast<size_t>(s.tokens * ORow()), -3.0f) {
    args.out = out.data();
    args.ldo = ORow();
    args.q = q.data();
    args.ldq = QRow();
    args.kv = kv.bytes.data();
    args.kv_dtype = dtype;
    args.ldkv = KvRow();
    args.cache = cache.view;
    args.heads = s.heads;
    args.tokens = s.tokens;
    args.begin = s.begin;
    args.dn = s.dn;
    args.dr = s.dr;
    args.dv = s.dv;
    args.scale = 1.0f / std::sqrt(static_cast<float>(s.dn + s.dr));
    args.compute = compute;
  }
  int64_t QRow() const { return shape.heads * (shape.dn + shape.dr) + 3; }
  int64_t KvRow() const { return shape.heads * (shape.dn + shape.dv) + 1; }
  int64_t ORow() const { return shape.heads * shape.dv + 2; }

  std::vector<float> Reference(const AttentionArgs& a) const {
    std::vector<float> to(out.size(), -3.0f);
    std::vector<double> sums(static_cast<size_t>(a.dv));
    AttentionArgs b = a;
    b.out = to.data();
    for (int64_t t = 0; t < a.tokens; ++t) {
      for (int64_t h = 0; h < a.heads; ++h) reference::Attention(b, t, h, sums.data());
    }
    return to;
  }
  // Of each output element.
  std::vector<double> Bound() const {
    const Shape& s = shape;
    std::vector<float> positive = kv_values;
    for (float& x : positive) x = std::abs(x);
    for (int64_t i = 0; i < static_cast<int64_t>(positive.size()); ++i) {  // the keys keep their sign
      const int64_t in_row = i % KvRow(), in_head = in_row % (s.dn + s.dv);
      if (in_row < s.heads * (s.dn + s.dv) && in_head < s.dn)
        positive[static_cast<size_t>(i)] = kv_values[static_cast<size_t>(i)];
    }
    const Values values(positive, kv.dtype);
    AttentionArgs a = args;
    a.kv = values.bytes.data();
    const std::vector<float> mean = Reference(a);
    std::vector<double> bound(mean.size());
    for (int64_t t = 0; t < s.tokens; ++t) {
      const auto keys = static_cast<double>(s.begin + t + 1);
      for (int64_t h = 0; h < s.heads; ++h) {
        double magnitude = 0, low = 0, high = 0;
        for (int64_t j = 0; j <= s.begin + t; ++j) {
          double sum = 0, size = 0;
          for (int64_t i = 0; i < s.dn + s.dr; ++i) {
            const double qi = q[static_cast<size_t>(t * QRow() + h * (s.dn + s.dr) + i)];
            const double k = i < s.dn ? kv_values[static_cast<size_t>(j * KvRow() + h * (s.dn + s.dv) + i)]
                                      : cache.Get(j, 24 + i - s.dn);
            sum += qi * k;
            size += std::abs(qi * k);
          }
          magnitude = std::max(magnitude, size * args.scale);
          low = std::min(low, sum * args.scale);
          high = std::max(high, sum * args.scale);
        }
        const double e = static_cast<double>(s.dn + s.dr + 4) * kU * magnitude * 1.01 + 8 * kU * (1 + high - low);
        const double bf16 = args.compute == Compute::kBf16 ? 0x1p-8 : 0;
        const double factor = 2 * e + bf16 + 2 * (keys + keys / 16 + 16) * kU;
        for (int64_t i = 0; i < s.dv; ++i) {
          const auto at = static_cast<size_t>(t * ORow() + h * s.dv + i);
          bound[at] = mean[at] * factor;
        }
      }
    }
    return bound;
  }
};

void ExpectNear(const std::vector<float>& got, const std::vector<float>& expected, const std::vector<double>& bound,
                const std::string& what) {
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(std::abs(static_cast<double>(got[i]) - expected[i]), bound[i])
        << what << " at " << i << ": " << got[i] << " for " << expected[i];
  }
}

TEST(Attention, MatchesTheReference) {
  const Shape shapes[] = {
      {5, 24, 8, 40, 1, 0, 16},   {5, 24, 8, 40, 2, 0, 64},       {2, 24, 8, 40, 63, 0, 16},
      {2, 24, 8, 40, 64, 0, 64},  {3, 24, 8, 40, 65, 0, 16},      {1, 24, 8, 40, 255, 0, 64},
      {1, 16, 8, 16, 257, 0, 16}, {1, 24, 8, 40, 3, 697, 16},     {5, 24, 8, 40, 1, 255, 64},
      {2, 24, 8, 40, 17, 63, 64}, {1, 128, 64, 128, 70, 190, 64}, {2, 5, 2, 3, 20, 50, 7},
      {3, 0, 4, 33, 9, 130, 16},  {2, 7, 0, 17, 66, 1, 16},
  };
  for (const Shape& shape : shapes) {
    for (const auto& [dtype, cache] : {std::pair{DType::kF32, DType::kF32},
                                       {DType::kBF16, DType::kBF16},
                                       {DType::kF32, DType::kF8E4M3},
                                       {DType::kBF16, DType::kF8E4M3}}) {
      for (Compute compute : {Compute::kF32, Compute::kBf16}) {
        Problem p(shape, dtype, cache, compute);
        const std::vector<float> expected = p.Reference(p.args);
        const std::vector<double> bound = p.Bound();
        for (Isa isa : Isas()) {
          std::fill(p.out.begin(), p.out.end(), -3.0f);
          RunAttention(isa, 2, p.args);
          ExpectNear(p.out, expected, bound,
                     fmt::format("{} {} {} {} T {} begin {}", Name(isa), Name(dtype), Name(cache), Name(compute),
                                 shape.tokens, shape.begin));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Attention, NeitherThreadsNorChunksMatter) {
  for (Isa isa : Isas()) {
    for (Compute compute : {Compute::kF32, Compute::kBf16}) {
      Problem p({3, 24, 8, 40, 150, 30, 16}, DType::kBF16, compute);
      RunAttention(isa, 1, p.args);
      const std::vector<float> whole = p.out;
      RunAttention(isa, 3, p.args);
      EXPECT_EQ(p.out, whole) << Name(isa);
      std::fill(p.out.begin(), p.out.end(), -3.0f);
      for (int64_t t = 0, n; t < 150; t += n) {
        n = std::min<int64_t>(t == 0 ? 1 : 41, 150 - t);
        AttentionArgs part = p.args;
        part.out += t * p.ORow();
        part.q += t * p.QRow();
        part.tokens = n;
        part.begin += t;
        RunAttention(isa, 2, part);
      }
      EXPECT_EQ(p.out, whole) << Name(isa) << " in chunks";
    }
  }
}

// Scores of +-2^70: all weight on one key, whose value comes out as it is.
TEST(Attention, HugeScoresPickOneKey) {
  for (Isa isa : Isas()) {
    for (Compute compute : {Compute::kF32, Compute::kBf16}) {
      Problem p({1, 8, 8, 16, 70, 0, 16}, DType::kBF16, compute);
      for (int64_t t = 0; t < 70; ++t) {
        for (int64_t i = 0; i < 16; ++i) p.q[static_cast<size_t>(t * p.QRow() + i)] = i == 0 ? 0x1p70f : 0.0f;
        p.kv.Set(t * p.KvRow(), t == 40 ? 2.0f : t % 2 ? 1.0f : -1.0f);
      }
      RunAttention(isa, 2, p.args);
      for (int64_t t = 40; t < 70; ++t) {
        for (int64_t i = 0; i < 16; ++i) {
          ASSERT_EQ(p.out[static_cast<size_t>(t * p.ORow() + i)],
                    RoundToBf16(p.kv_values[static_cast<size_t>(40 * p.KvRow() + 8 + i)]))
              << Name(isa) << " query " << t;
        }
      }
    }
  }
}

// A key whose score is -inf has no weight; a NaN key reaches the queries that see it and no other.
TEST(Attention, InfinityAndNaN) {
  for (Isa isa : Isas()) {
    for (Compute compute : {Compute::kF32, Compute::kBf16}) {
      Problem p({2, 24, 8, 40, 90, 0, 16}, DType::kF32, compute);
      for (int64_t t = 0; t < 90; ++t) {
        for (int64_t h = 0; h < 2; ++h) p.q[static_cast<size_t>(t * p.QRow() + h * 32 + 24)] = 1.0f;
      }
      p.cache.Set(0, 24, -kInf);  // query 0 sees nothing else
      p.cache.Set(5, 24, -kInf);
      p.cache.Set(80, 24, std::numeric_limits<float>::quiet_NaN());
      RunAttention(isa, 2, p.args);
      const std::vector<float> expected = p.Reference(p.args);
      for (int64_t t = 0; t < 90; ++t) {
        for (int64_t i = 0; i < 80; ++i) {
          const auto at = static_cast<size_t>(t * p.ORow() + i);
          if (t >= 80) {
            ASSERT_TRUE(std::isnan(p.out[at])) << Name(isa) << " query " << t;
          } else {
            ASSERT_NEAR(p.out[at], expected[at], compute == Compute::kBf16 ? 0x1p-8 * 5 : 2e-5)
                << Name(isa) << " " << t;
          }
        }
      }
      EXPECT_EQ(p.out[0], 0.0f);
    }
  }
}

// ---- Absorbed form ----

struct LatentProblem {
  int64_t heads, r, dr;
  std::vector<std::unique_ptr<Cache>> owners;
  std::vector<LatentCache> caches;
  std::vector<int64_t> lengths;
  std::vector<float> q, out;
  LatentAttentionArgs args;

  LatentProblem(int64_t h, int64_t r_, int64_t dr_, std::vector<int64_t> l, int64_t block_tokens, DType dtype,
                Compute compute)
      : heads(h), r(r_), dr(dr_), lengths(std::move(l)) {
    const auto n = static_cast<int64_t>(lengths.size());
    for (int64_t i = 0; i < n; ++i) {
      owners.push_back(std::make_unique<Cache>(lengths[static_cast<size_t>(i)], r + dr, dr, block_tokens, dtype,
                                               20 + static_cast<uint64_t>(i)));
      caches.push_back(owners.back()->view);
    }
    q = Random(n * heads * (r + dr), 4);
    out.assign(static_cast<size_t>(n * heads * r), -3.0f);
    args = {.out = out.data(), .q = q.data(), .caches = caches, .lengths = lengths, .heads = heads, .r = r, .dr = dr};
    args.scale = 1.0f / std::sqrt(static_cast<float>(r + dr));
    args.compute = compute;
  }
  std::vector<float> Reference() const {
    std::vector<float> to(out.size());
    std::vector<double> sums(static_cast<size_t>(r));
    LatentAttentionArgs a = args;
    a.out = to.data();
    for (int64_t i = 0; i < static_cast<int64_t>(lengths.size()); ++i) {
      for (int64_t h = 0; h < heads; ++h) reference::LatentAttention(a, i, h, sums.data());
    }
    return to;
  }
  std::vector<double> Bound() const {
    std::vector<double> bound(out.size());
    for (int64_t i = 0; i < static_cast<int64_t>(lengths.size()); ++i) {
      const int64_t length = lengths[static_cast<size_t>(i)];
      const Cache& cache = *owners[static_cast<size_t>(i)];
      for (int64_t h = 0; h < heads; ++h) {
        const float* query = &q[static_cast<size_t>((i * heads + h) * (r + dr))];
        std::vector<double> score(static_cast<size_t>(length)), mean(static_cast<size_t>(r));
        double magnitude = 0, low = kInf, high = -kInf, total = 0;
        for (int64_t j = 0; j < length; ++j) {
          double sum = 0, size = 0;
          for (int64_t c = 0; c < r + dr; ++c) {
            sum += query[c] * cache.Get(j, c);
            size += std::abs(query[c] * cache.Get(j, c));
          }
          score[static_cast<size_t>(j)] = sum * args.scale;
          magnitude = std::max(magnitude, size * args.scale);
          low = std::min(low, sum * args.scale);
          high = std::max(high, sum * args.scale);
        }
        for (int64_t j = 0; j < length; ++j) {
          const double w = std::exp(score[static_cast<size_t>(j)] - high);
          total += w;
          for (int64_t c = 0; c < r; ++c) mean[static_cast<size_t>(c)] += w * std::abs(cache.Get(j, c));
        }
        const bool bf16 = args.compute == Compute::kBf16 && cache.view.dtype != DType::kF32;
        const double e = static_cast<double>(r + dr + 4) * kU * magnitude * 1.01 + 8 * kU * (1 + high - low);
        const auto keys = static_cast<double>(length);
        // The mean is taken here with unrounded queries: 2^-8 relative to a score covers it well within 1 + 10 %.
        const double factor = 1.1 * (2 * e + (bf16 ? 0x1p-8 : 0) + 2 * (keys + keys / 16 + 16) * kU);
        for (int64_t c = 0; c < r; ++c) {
          bound[static_cast<size_t>((i * heads + h) * r + c)] = mean[static_cast<size_t>(c)] / total * factor;
        }
      }
    }
    return bound;
  }
};

TEST(LatentAttention, MatchesTheReference) {
  const std::vector<int64_t> lengths = {1, 2, 63, 64, 65, 255, 256, 257, 700, 0};
  struct Dims {
    int64_t heads, r, dr, block_tokens;
  };
  for (const Dims& d : {Dims{5, 80, 8, 16}, Dims{8, 64, 16, 64}, Dims{1, 33, 2, 10}, Dims{17, 80, 7, 64}}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      for (Compute compute : {Compute::kF32, Compute::kBf16}) {
        LatentProblem p(d.heads, d.r, d.dr, lengths, d.block_tokens, dtype, compute);
        const std::vector<float> expected = p.Reference();
        const std::vector<double> bound = p.Bound();
        for (Isa isa : Isas()) {
          std::fill(p.out.begin(), p.out.end(), -3.0f);
          RunLatent(isa, 2, p.args);
          const size_t seen = p.out.size() - static_cast<size_t>(d.heads * d.r);
          for (size_t i = seen; i < p.out.size(); ++i) ASSERT_EQ(p.out[i], 0.0f) << "length 0";
          ExpectNear({p.out.begin(), p.out.begin() + static_cast<int64_t>(seen)}, expected, bound,
                     fmt::format("{} {} {} heads {}", Name(isa), Name(dtype), Name(compute), d.heads));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(LatentAttention, FullWidth) {
  for (int64_t heads : {8, 16}) {
    for (DType dtype : {DType::kBF16, DType::kF8E4M3}) {
      LatentProblem p(heads, 512, 64, {300}, 64, dtype, Compute::kBf16);
      const std::vector<float> expected = p.Reference();
      const std::vector<double> bound = p.Bound();
      for (Isa isa : Isas()) {
        RunLatent(isa, 2, p.args);
        ExpectNear(p.out, expected, bound, fmt::format("{} {} heads {}", Name(isa), Name(dtype), heads));
      }
    }
  }
}

// A plan is made before the cache's type is known.
TEST(LatentAttention, APlanServesEveryCache) {
  for (Isa isa : Isas()) {
    for (const auto& [planned, compute] : {std::pair{DType::kBF16, Compute::kBf16}, {DType::kF32, Compute::kF32}}) {
      LatentProblem plan(5, 80, 8, {300}, 16, planned, compute), p(5, 80, 8, {300}, 16, DType::kF8E4M3, compute);
      ThreadPool pool(2);
      Context ctx{pool, isa, {}};
      Arena planner = Arena::Planner();
      LatentAttention(ctx, planner, plan.args);
      Arena arena(planner.HighWater());
      LatentAttention(ctx, arena, p.args);
      EXPECT_LE(arena.HighWater(), planner.HighWater()) << Name(isa);
    }
  }
}

TEST(LatentAttention, NeitherThreadsNorTheBatchMatter) {
  for (Isa isa : Isas()) {
    for (int64_t heads : {5, 20}) {
      for (DType dtype : {DType::kBF16, DType::kF8E4M3}) {
        LatentProblem p(heads, 80, 8, {700, 1, 257, 64}, 16, dtype, Compute::kBf16);
        RunLatent(isa, 1, p.args);
        const std::vector<float> all = p.out;
        RunLatent(isa, 3, p.args);
        EXPECT_EQ(p.out, all) << Name(isa);
        for (size_t i = 0; i < 4; ++i) {
          LatentAttentionArgs one = p.args;
          std::vector<float> out(static_cast<size_t>(heads * 80));
          one.out = out.data();
          one.q += static_cast<int64_t>(i) * heads * 88;
          one.caches = {&p.caches[i], 1};
          one.lengths = {&p.lengths[i], 1};
          RunLatent(isa, 2, one);
          ASSERT_EQ(std::memcmp(out.data(), &all[i * out.size()], out.size() * sizeof(float)), 0) << Name(isa);
        }
      }
    }
  }
}

// More partial results than one wave holds: as with one query a wave.
TEST(LatentAttention, WavesDoNotMatter) {
  const std::vector<int64_t> lengths = {9000, 12000, 12000};
  LatentProblem p(128, 512, 64, lengths, 64, DType::kBF16, Compute::kBf16);
  RunLatent(BestIsa(), 2, p.args);
  LatentAttentionArgs last = p.args;
  std::vector<float> out(128 * 512);
  last.out = out.data();
  last.q += 2 * 128 * 576;
  last.caches = {&p.caches[2], 1};
  last.lengths = {&p.lengths[2], 1};
  RunLatent(BestIsa(), 2, last);
  EXPECT_EQ(std::memcmp(out.data(), &p.out[2 * out.size()], out.size() * sizeof(float)), 0);
}

TEST(LatentAttention, HugeScoresPickOneRow) {
  for (Isa isa : Isas()) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      LatentProblem p(3, 80, 8, {600}, 16, dtype, Compute::kBf16);
      for (size_t i = 0; i < p.q.size(); ++i) p.q[i] = i % 88 == 80 ? 0x1p70f : 0.0f;
      for (int64_t t = 0; t < 600; ++t) p.owners[0]->Set(t, 80, t == 411 ? 3.0f : t % 3 ? -1.0f : 1.0f);
      RunLatent(isa, 2, p.args);
      for (int64_t h = 0; h < 3; ++h) {
        for (int64_t c = 0; c < 80; ++c) {
          const auto value = static_cast<float>(p.owners[0]->Get(411, c));
          ASSERT_EQ(p.out[static_cast<size_t>(h * 80 + c)], dtype == DType::kF32 ? value : RoundToBf16(value))
              << Name(isa);
        }
      }
    }
  }
}

TEST(LatentAttention, InfinityAndNaN) {
  for (Isa isa : Isas()) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      LatentProblem p(5, 80, 8, {330, 300}, 16, dtype, Compute::kBf16);
      for (size_t i = 0; i < p.q.size(); ++i) {
        if (i % 88 == 80) p.q[i] = 1.0f;
      }
      for (int64_t t = 0; t < 330; ++t) {
        if (t / 64 == 1 || t == 7) p.owners[0]->Set(t, 80, -kInf);  // a whole tile, and a row
      }
      p.owners[1]->Set(299, 84, std::numeric_limits<float>::quiet_NaN());
      RunLatent(isa, 2, p.args);
      const std::vector<float> expected = p.Reference();
      for (size_t i = 0; i < p.out.size(); ++i) {
        if (i >= 5 * 80) {
          ASSERT_TRUE(std::isnan(p.out[i])) << Name(isa);
        } else {
          ASSERT_NEAR(p.out[i], expected[i], dtype == DType::kF32 ? 2e-5 : 0x1p-8) << Name(isa);
        }
      }
    }
  }
}

// ---- Given primitives ----

#if defined(__x86_64__)
}  // namespace
bool AddAmxEmulated(Tiles* tiles);  // x86/amx_emulated_test.cpp
namespace {
#endif

// Every machine's primitives, and AMX's emulated, for the heads-in-lanes way that the table keeps for AMX.
TEST(LatentAttention, TiledOnAnyPrimitives) {
  for (const auto& [heads, block_tokens] : {std::pair<int64_t, int64_t>{5, 16}, {17, 64}, {70, 10}}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      for (int64_t r : {80, 33}) {
        LatentProblem p(heads, r, 8, {1, 64, 300}, block_tokens, dtype, Compute::kBf16);
        const std::vector<float> expected = p.Reference();
        const std::vector<double> bound = p.Bound();
        std::vector<FlashKernels> all;
        for (Isa isa : Isas()) all.push_back(FlashKernelsOf(isa, dtype != DType::kF32));
#if defined(__x86_64__)
        Tiles amx;
        if (dtype != DType::kF32 && MachineHas(Isa::kAvx512Bf16)) {
          FlashKernels emulated = FlashKernelsOf(Isa::kAvx512Bf16, true);
          amx = *emulated.tiles;
          ASSERT_TRUE(AddAmxEmulated(&amx));
          emulated.tiles = &amx;
          all.push_back(emulated);
        }
#endif
        for (const FlashKernels& kernels : all) {
          ThreadPool pool(2);
          Context ctx{pool, kernels.isa, {}};
          std::fill(p.out.begin(), p.out.end(), -3.0f);
          Planned([&](Arena& arena) { LatentAttentionTiled(ctx, arena, p.args, kernels); });
          ExpectNear(p.out, expected, bound, fmt::format("{} {} heads {}", Name(kernels.isa), Name(dtype), heads));
        }
      }
    }
  }
}

#if defined(__x86_64__)
TEST(Attention, OnEmulatedAmx) {
  if (!MachineHas(Isa::kAvx512Bf16)) GTEST_SKIP() << "AMX machines have AVX512-BF16, which does the rest of the work";
  FlashKernels kernels = FlashKernelsOf(Isa::kAvx512Bf16, true);
  Tiles amx = *kernels.tiles;
  ASSERT_TRUE(AddAmxEmulated(&amx));
  kernels.tiles = &amx;
  for (const Shape& shape : {Shape{2, 24, 8, 40, 70, 30, 16}, Shape{2, 5, 2, 3, 20, 50, 7}}) {
    Problem p(shape, DType::kBF16, Compute::kBf16);
    ThreadPool pool(2);
    Context ctx{pool, Isa::kAvx512Bf16, {}};
    Planned([&](Arena& arena) { AttentionTiled(ctx, arena, p.args, kernels); });
    ExpectNear(p.out, p.Reference(p.args), p.Bound(), "emulated");
  }
}
#endif

// ---- The two forms ----

// k_nope = W_UK c and v = W_UV c for the full form, q W_UK for the absorbed one; all four rounded to float32 once,
// which is what the bound counts: scores are off by u (|q||k| + |q W_UK||c|), values and outputs by u each.
TEST(Attention, TheTwoFormsAgree) {
  constexpr int64_t kHeads = 3, kDn = 24, kDr = 8, kDv = 40, kR = 80, kLength = 90;
  Cache cache(kLength, kR + kDr, kDr, 16, DType::kF32, 5);
  const std::vector<float> uk = Random(kHeads * kDn * kR, 6), uv = Random(kHeads * kDv * kR, 7);
  const std::vector<float> q = Random(kHeads * (kDn + kDr), 8);
  std::vector<float> kv(kLength * kHeads * (kDn + kDv)), q_latent(kHeads * (kR + kDr));
  const auto dot = [&](const float* w, int64_t t) {
    double sum = 0;
    for (int64_t c = 0; c < kR; ++c) sum += w[c] * cache.Get(t, c);
    return static_cast<float>(sum);
  };
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t h = 0; h < kHeads; ++h) {
      float* row = &kv[static_cast<size_t>((t * kHeads + h) * (kDn + kDv))];
      for (int64_t i = 0; i < kDn; ++i) row[i] = dot(&uk[static_cast<size_t>((h * kDn + i) * kR)], t);
      for (int64_t i = 0; i < kDv; ++i) row[kDn + i] = dot(&uv[static_cast<size_t>((h * kDv + i) * kR)], t);
    }
  }
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t c = 0; c < kR; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < kDn; ++i) {
        sum += static_cast<double>(q[static_cast<size_t>(h * (kDn + kDr) + i)]) *
               uk[static_cast<size_t>((h * kDn + i) * kR + c)];
      }
      q_latent[static_cast<size_t>(h * (kR + kDr) + c)] = static_cast<float>(sum);
    }
    for (int64_t i = 0; i < kDr; ++i) {
      q_latent[static_cast<size_t>(h * (kR + kDr) + kR + i)] = q[static_cast<size_t>(h * (kDn + kDr) + kDn + i)];
    }
  }
  constexpr float kScale = 0.02f;
  std::vector<float> full(kHeads * kDv), latent(kHeads * kR);
  std::vector<double> sums(kR);
  AttentionArgs a;
  a.out = full.data();
  a.ldo = kHeads * kDv;
  a.q = q.data();
  a.ldq = kHeads * (kDn + kDr);
  a.kv = kv.data();
  a.ldkv = kHeads * (kDn + kDv);
  a.cache = cache.view;
  a.heads = kHeads;
  a.tokens = 1;
  a.begin = kLength - 1;
  a.dn = kDn;
  a.dr = kDr;
  a.dv = kDv;
  a.scale = kScale;
  const int64_t length = kLength;
  LatentAttentionArgs b{
      .out = latent.data(), .q = q_latent.data(), .caches = {&cache.view, 1}, .lengths = {&length, 1}};
  b.heads = kHeads;
  b.r = kR;
  b.dr = kDr;
  b.scale = kScale;
  for (int64_t h = 0; h < kHeads; ++h) {
    reference::Attention(a, 0, h, sums.data());
    reference::LatentAttention(b, 0, h, sums.data());
    double score_error = 0, largest_value = 0;
    for (int64_t t = 0; t < kLength; ++t) {
      const float* row = &kv[static_cast<size_t>((t * kHeads + h) * (kDn + kDv))];
      double size = 0;
      for (int64_t i = 0; i < kDn; ++i) size += std::abs(q[static_cast<size_t>(h * (kDn + kDr) + i)] * row[i]);
      for (int64_t c = 0; c < kR; ++c)
        size += std::abs(q_latent[static_cast<size_t>(h * (kR + kDr) + c)] * cache.Get(t, c));
      score_error = std::max(score_error, kScale * kU * size);
      for (int64_t i = 0; i < kDv; ++i) largest_value = std::max<double>(largest_value, std::abs(row[kDn + i]));
    }
    for (int64_t i = 0; i < kDv; ++i) {
      double sum = 0, size = 0;
      for (int64_t c = 0; c < kR; ++c) {
        const double term = static_cast<double>(uv[static_cast<size_t>((h * kDv + i) * kR + c)]) *
                            latent[static_cast<size_t>(h * kR + c)];
        sum += term;
        size += std::abs(term);
      }
      const double bound = largest_value * (2 * score_error + 2 * kU) + kU * size;
      ASSERT_NEAR(full[static_cast<size_t>(h * kDv + i)], sum, bound) << "head " << h;
      ASSERT_LT(bound, 1e-3 * largest_value);
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
