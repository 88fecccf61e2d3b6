// LinearBackwardInput and LinearBackwardWeight: every instruction set of the machine (AMX emulated too) against the
// reference. Problems are written in the grammar of problem.h: the forward product y (m, n) = x (m, k) w^T whose
// gradients are taken, jN: N terms of one dx, or N jobs of dw.
#include "kernels/linear_backward.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/linear_problem_test.h"
#include "kernels/reference/fp8.h"
#include "kernels/reference/train.h"

namespace fathom::kernels {

bool AddAmxEmulated(Tiles* tiles);

namespace {

struct Target {
  std::string name;
  Tiles tiles;
};

const std::vector<Target>& Targets() {
  static const std::vector<Target> targets = [] {
    std::vector<Target> made;
    for (Isa isa : {Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx, Isa::kNeon}) {
      if (MachineHas(isa) && TilesOf(isa)) made.push_back({std::string(Name(isa)), *TilesOf(isa)});
    }
    if (MachineHas(Isa::kAvx512Bf16)) {
      made.push_back({"amx emulated", *TilesOf(Isa::kAvx512Bf16)});
      AddAmxEmulated(&made.back().tiles);
    }
    return made;
  }();
  return targets;
}

ThreadPool& Pool(int threads) {
  static std::array<std::unique_ptr<ThreadPool>, 4> pools;
  auto& pool = pools[static_cast<size_t>(threads)];
  if (!pool) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

float Value(Rng& rng, bool exact) {
  return exact ? static_cast<float>(rng.NextBelow(7) - 3) : static_cast<float>(rng.NextNormal());
}

// Rows of float32 at the end of their memory, some of them chosen by number.
struct Rows {
  Guarded data;
  std::vector<int32_t> numbers;
  int64_t ld, n;

  Rows(int64_t m, int64_t width, bool gathered, bool exact, uint64_t seed)
      : data(4 * std::max<int64_t>(0, (Stored(m, gathered) - 1) * (width + 3) + width)), ld(width + 3), n(width) {
    Rng rng(seed, 3);
    const int64_t stored = Stored(m, gathered);
    for (int64_t i = 0; i < stored; ++i) {
      for (int64_t j = 0; j < width; ++j) data.data<float>()[i * ld + j] = Value(rng, exact);
    }
    for (int64_t i = 0; gathered && i < m; ++i) numbers.push_back(static_cast<int32_t>((i * 7 + 3) % stored));
  }
  static int64_t Stored(int64_t m, bool gathered) { return gathered ? m / 2 + 1 : m; }
  const int32_t* rows() const { return numbers.empty() ? nullptr : numbers.data(); }
  const float* Row(int64_t i) const {
    return data.data<float>() + (numbers.empty() ? i : numbers[static_cast<size_t>(i)]) * ld;
  }
};

using Run = std::function<void(Context&, Arena&)>;

// A problem with its data. Outputs, what they hold before and what lies between their rows included, are one array.
class Case {
 public:
  virtual ~Case() = default;
  virtual void Call(const Tiles* tiles, Context& ctx, Arena& arena, float* out) const = 0;
  // Sums of the absolute products of each element that is written, 0 elsewhere.
  virtual std::vector<double> SumAbs() const = 0;
  virtual int64_t depth() const = 0;  // products of an element

  std::vector<float> Output(const Tiles* tiles, int threads) const {
    const Guarded out(static_cast<int64_t>(before_.size()) * 4);
    std::copy(before_.begin(), before_.end(), out.data<float>());
    Context ctx{Pool(threads), Isa::kReference, {}};
    Arena plan = Arena::Planner();
    Call(tiles, ctx, plan, out.data<float>());
    Arena exactly(plan.HighWater());
    Call(tiles, ctx, exactly, out.data<float>());
    EXPECT_EQ(exactly.Overflows(), 0);
    return {out.data<float>(), out.data<float>() + before_.size()};
  }

  void Check(const std::string& what, bool exact) const {
    const std::vector<float> want = Output(nullptr, 2);
    const std::vector<double> sum_abs = exact ? std::vector<double>(want.size()) : SumAbs();
    for (const Target& target : Targets()) {
      const std::vector<float> got = Output(&target.tiles, 2);
      for (size_t i = 0; i < want.size(); ++i) {
        // Float32 sums of n products in any order err by at most about n eps sum|a b| (Higham, Accuracy and Stability,
        // 3.1), partial sums and the value before by one rounding each; the bf16 units flush subnormal products.
        const double n = static_cast<double>(depth());
        const double bound = exact || sum_abs[i] == 0 ? 0
                                                      : (n + n / 128 + 4) * 0x1p-24 * sum_abs[i] + n * 0x1p-126 +
                                                            0x1p-23 * (std::fabs(before_[i]) + std::fabs(want[i]));
        ASSERT_LE(std::fabs(got[i] - want[i]), bound) << what << (exact ? " exact on " : " on ") << target.name
                                                      << " at " << i << ": " << got[i] << " against " << want[i];
      }
    }
  }

  void CheckThreads(const std::string& what) const {
    for (const Target& target : Targets()) {
      const std::vector<float> one = Output(&target.tiles, 1);
      for (int threads : {2, 3}) {
        EXPECT_EQ(std::memcmp(one.data(), Output(&target.tiles, threads).data(), one.size() * 4), 0)
            << what << " on " << target.name << " with " << threads << " threads";
      }
    }
  }

 protected:
  std::vector<float> before_;
};

// Two jobs; their terms differ in n.
class InputCase : public Case {
 public:
  InputCase(const LinearProblem& p, bool gathered, bool exact, uint64_t seed) : p_(p), ldx_(2 * p.k + 3) {
    for (int64_t j = 0; j < 2; ++j) {
      for (int64_t t = 0; t < p.jobs; ++t) {
        const uint64_t s = seed * 100 + static_cast<uint64_t>(j * p.jobs + t);
        dy_.emplace_back(p.m, p.n + t, gathered, exact, s);
        weights_.emplace_back(p.n + t, p.k, p.weight, exact, p.ue8m0, s);
        weights_.back().w.row0 = 0;  // of FP8 a multiple of 128
      }
    }
    before_.resize(static_cast<size_t>(p.m == 0 ? 0 : (p.m - 1) * ldx_ + 2 * p.k));
    Rng rng(seed, 4);
    for (float& v : before_) v = Value(rng, true);
  }

  void Call(const Tiles* tiles, Context& ctx, Arena& arena, float* out) const override {
    std::vector<std::vector<LinearBackwardTerm>> terms(2);
    std::vector<LinearBackwardInputJob> jobs;
    for (int64_t j = 0; j < 2; ++j) {
      auto& mine = terms[static_cast<size_t>(j)];
      for (int64_t t = 0; t < p_.jobs; ++t) {
        const Rows& dy = dy_[static_cast<size_t>(j * p_.jobs + t)];
        mine.push_back({.dy = dy.data.data<float>(),
                        .ldy = dy.ld,
                        .dy_rows = dy.rows(),
                        .w = weights_[static_cast<size_t>(j * p_.jobs + t)].w,
                        .dy_blocks = p_.dy_blocks});
      }
      jobs.push_back({.dx = out + j * p_.k, .ldx = ldx_, .m = p_.m, .terms = mine, .accumulate = p_.accumulate});
    }
    if (tiles) return LinearBackwardInputWith(*tiles, ctx, arena, jobs, p_.compute);
    LinearBackwardInput(ctx, arena, jobs, p_.compute);
  }

  std::vector<double> SumAbs() const override {
    std::vector<double> sums(before_.size(), 0.0);
    for (size_t d = 0; d < dy_.size(); ++d) {
      const Weight& w = weights_[d].w;
      const int64_t column = static_cast<int64_t>(d) / p_.jobs * p_.k;
      const bool codes = p_.compute == Compute::kFp8;
      const reference::Operand dy =
          codes
              ? reference::RowTiles(
                    {dy_[d].data.data<float>(), dy_[d].ld, dy_[d].rows(), p_.m, w.rows, w.ue8m0, p_.dy_blocks}, 0, p_.m)
              : reference::Operand();
      const auto size_of_dy = [&](int64_t i, int64_t r) {
        if (!codes) return 1.01 * std::fabs(dy_[d].Row(i)[r]) + 1e-30;
        const double scale = dy.scales[static_cast<size_t>(i * CeilDiv(w.rows, kFp8Block) + r / kFp8Block)];
        return scale * std::fabs(dy.values[static_cast<size_t>(i * w.rows + r)]) + 1e-30;
      };
      for (int64_t r = 0; r < w.rows; ++r) {
        for (int64_t c = 0; c < p_.k; ++c) {
          const double scale = w.dtype == DType::kF8E4M3 ? w.ScaleAt(r, c) : 1.0;
          const double value = scale * std::fabs(reference::Decode(w.RowData(r), c, w.dtype));
          for (int64_t i = 0; i < p_.m; ++i) {
            sums[static_cast<size_t>(i * ldx_ + column + c)] += value * size_of_dy(i, r);
          }
        }
      }
    }
    return sums;
  }
  int64_t depth() const override { return p_.jobs * (p_.n + p_.jobs); }

 private:
  LinearProblem p_;
  int64_t ldx_;
  std::vector<Rows> dy_;
  std::vector<TestWeight> weights_;
};

// Jobs 2 i and 2 i + 1 share their x.
class WeightCase : public Case {
 public:
  WeightCase(const LinearProblem& p, bool gathered, bool exact, uint64_t seed) : p_(p) {
    for (int64_t j = 0; j < p.jobs; ++j) {
      dy_.emplace_back(p.m, p.n, gathered && j % 2 == 0, exact, seed * 100 + static_cast<uint64_t>(2 * j));
      x_.emplace_back(p.m, p.k, gathered, exact, seed * 100 + static_cast<uint64_t>(2 * j + 1));
    }
    before_.resize(static_cast<size_t>(p.jobs * p.n * p.k));
    Rng rng(seed, 4);
    for (float& v : before_) v = Value(rng, true);
  }

  void Call(const Tiles* tiles, Context& ctx, Arena& arena, float* out) const override {
    std::vector<LinearBackwardWeightJob> jobs;
    for (int64_t j = 0; j < p_.jobs; ++j) {
      const Rows &dy = dy_[static_cast<size_t>(j)], &x = X(j);
      jobs.push_back({.dw = out + j * p_.n * p_.k,
                      .n = p_.n,
                      .k = p_.k,
                      .dy = dy.data.data<float>(),
                      .ldy = dy.ld,
                      .dy_rows = dy.rows(),
                      .x = x.data.data<float>(),
                      .ldx = x.ld,
                      .x_rows = x.rows(),
                      .m = p_.m,
                      .ue8m0 = p_.ue8m0,
                      .dy_blocks = p_.dy_blocks});
    }
    if (tiles) return LinearBackwardWeightWith(*tiles, ctx, arena, jobs, p_.compute);
    LinearBackwardWeight(ctx, arena, jobs, p_.compute);
  }

  std::vector<double> SumAbs() const override {
    std::vector<double> sums(before_.size(), 0.0);
    for (int64_t j = 0; j < p_.jobs; ++j) {
      const std::vector<double> dy = Sizes(dy_[static_cast<size_t>(j)], p_.dy_blocks), x = Sizes(X(j), false);
      for (int64_t i = 0; i < p_.m; ++i) {
        for (int64_t r = 0; r < p_.n; ++r) {
          double* row = sums.data() + (j * p_.n + r) * p_.k;
          for (int64_t c = 0; c < p_.k; ++c) {
            row[c] += dy[static_cast<size_t>(i * p_.n + r)] * x[static_cast<size_t>(i * p_.k + c)];
          }
        }
      }
    }
    return sums;
  }
  int64_t depth() const override { return p_.m; }

 private:
  // Magnitudes (m, n) of an operand as it is multiplied, or a little more.
  std::vector<double> Sizes(const Rows& rows, bool blocks) const {
    std::vector<double> sizes;
    reference::Operand tiles;
    const bool codes = p_.compute == Compute::kFp8;
    if (codes) {
      tiles = reference::ColumnTiles({rows.data.data<float>(), rows.ld, rows.rows(), p_.m, rows.n, p_.ue8m0, blocks});
    }
    for (int64_t i = 0; i < p_.m; ++i) {
      for (int64_t j = 0; j < rows.n; ++j) {
        sizes.push_back(1e-15 +
                        (codes ? static_cast<double>(tiles.scales[static_cast<size_t>(i / kFp8Block * rows.n + j)]) *
                                     std::fabs(tiles.values[static_cast<size_t>(i * rows.n + j)])
                               : 1.01 * std::fabs(rows.Row(i)[j])));
      }
    }
    return sizes;
  }
  const Rows& X(int64_t j) const { return x_[static_cast<size_t>(j / 2 * 2)]; }

  LinearProblem p_;
  std::vector<Rows> dy_, x_;
};

LinearProblem Parsed(const std::string& text) { return ParseLinearProblem(text).Value(); }

constexpr const char* kSizes[] = {"m1n1k1",   "m2n3k7",    "m7n24k80",  "m8n65k130",
                                  "m9n17k33", "m16n64k96", "m33n70k31", "m40n31k200"};
constexpr const char* kTypes[] = {":f32:f32",   ":f32:bf16", ":bf16:bf16",       ":bf16:f32",
                                  ":w8a8:bf16", ":fp8:bf16", ":fp8:f8e4m3:ue8m0"};

// Small whole numbers: every sum is exact in float32, so every implementation must give the reference's bits.
TEST(LinearBackward, InputExactOnWholeNumbers) {
  uint64_t seed = 1;
  for (const char* types : kTypes) {
    for (const char* sizes : kSizes) {
      for (const char* options : {"", ":acc:j3", ":j2"}) {
        const std::string text = std::string(sizes) + types + options;
        ++seed;
        InputCase(Parsed(text), seed % 2 == 0, true, seed).Check("input " + text, true);
      }
    }
  }
}

TEST(LinearBackward, WeightExactOnWholeNumbers) {
  uint64_t seed = 1000;
  for (const char* types : {":f32:f32", ":bf16:bf16", ":fp8:f8e4m3:ue8m0"}) {
    for (const char* sizes : kSizes) {
      for (const char* options : {"", ":j3"}) {
        const std::string text = std::string(sizes) + types + options;
        ++seed;
        WeightCase(Parsed(text), seed % 2 == 0, true, seed).Check("weight " + text, true);
      }
    }
  }
}

TEST(LinearBackward, WithinTheBound) {
  uint64_t seed = 2000;
  for (const char* types :
       {":f32:f32", ":f32:bf16", ":bf16:bf16", ":fp8:f8e4m3", ":fp8:f8e4m3:ue8m0", ":fp8:f8e4m3:blocks"}) {
    for (const char* sizes : {"m100n70k150", "m5n300k40", "m64n129k96", "m1n7k24", "m129n130k80", "m300n257k20"}) {
      const std::string text = std::string(sizes) + types;
      ++seed;
      InputCase(Parsed(text + ":acc:j2"), seed % 2 == 0, false, seed).Check("input " + text, false);
      WeightCase(Parsed(text), seed % 2 != 0, false, seed).Check("weight " + text, false);
    }
  }
}

// Several blocks of rows, groups of columns and depths; few jobs and many.
TEST(LinearBackward, LargerThanABlock) {
  uint64_t seed = 3000;
  for (const char* types : {":f32:f32", ":bf16:bf16", ":fp8:f8e4m3:ue8m0"}) {
    for (const char* sizes : {"m1030n20k50", "m20n1030k50", "m50n20k1030", "m530n130k100"}) {
      const std::string text = std::string(sizes) + types;
      InputCase(Parsed(text), false, true, ++seed).Check("input " + text, true);
      WeightCase(Parsed(text), true, true, ++seed).Check("weight " + text, true);
    }
    const std::string many = std::string("m600n40k16") + types + ":j8";
    InputCase(Parsed(many), true, true, ++seed).Check("input " + many, true);
    WeightCase(Parsed(many), true, true, ++seed).Check("weight " + many, true);
  }
}

TEST(LinearBackward, NothingToDo) {
  for (const char* text : {"m0n8k8:bf16:bf16", "m0n3k5:f32:f32:acc", "m5n0k8:bf16:bf16", "m5n0k8:f32:f32:acc",
                           "m0n8k8:fp8:f8e4m3", "m5n0k8:fp8:f8e4m3"}) {
    InputCase(Parsed(text), false, true, 1).Check(text, true);
    WeightCase(Parsed(text), false, true, 1).Check(text, true);
  }
  Context ctx{Pool(2), BestIsa(), {}};
  Arena arena(1 << 10);
  LinearBackwardInput(ctx, arena, {}, Compute::kBf16);
  LinearBackwardWeight(ctx, arena, {}, Compute::kBf16);
}

TEST(LinearBackward, SameBitsForAnyThreads) {
  uint64_t seed = 4000;
  for (const char* text : {"m300n130k110:bf16:bf16", "m70n300k100:f32:f32", "m40n20k30:bf16:bf16:j20",
                           "m300n260k290:fp8:f8e4m3", "m300n260k290:fp8:f8e4m3:blocks", "m140n20k30:fp8:f8e4m3:j20"}) {
    InputCase(Parsed(text), true, false, ++seed).CheckThreads(text);
    WeightCase(Parsed(text), true, false, ++seed).CheckThreads(text);
  }
}

// Terms of both types in one job: only the bf16 weight's gradient is rounded.
TEST(LinearBackward, TermsOfSeveralTypes) {
  constexpr int64_t kM = 37, kN = 21, kK = 50;
  const Rows a(kM, kN, false, false, 1), b(kM, kN, true, false, 2);
  const TestWeight w32(kN, kK, DType::kF32, true, false, 3), w16(kN, kK, DType::kBF16, true, false, 4);
  const std::vector<LinearBackwardTerm> terms = {
      {.dy = a.data.data<float>(), .ldy = a.ld, .dy_rows = a.rows(), .w = w32.w},
      {.dy = b.data.data<float>(), .ldy = b.ld, .dy_rows = b.rows(), .w = w16.w}};
  std::vector<float> want(kM * kK), got(kM * kK);
  reference::LinearBackwardInput({.dx = want.data(), .ldx = kK, .m = kM, .terms = terms}, Compute::kBf16, 0, kM);
  for (const Target& target : Targets()) {
    Context ctx{Pool(2), Isa::kReference, {}};
    Arena arena(1 << 23);
    const LinearBackwardInputJob job{.dx = got.data(), .ldx = kK, .m = kM, .terms = terms};
    LinearBackwardInputWith(target.tiles, ctx, arena, std::span(&job, 1), Compute::kBf16);
    for (int64_t i = 0; i < kM * kK; ++i) {
      double sum_abs = 0;
      for (int64_t n = 0; n < kN; ++n) sum_abs += 4.1 * (std::fabs(a.Row(i / kK)[n]) + std::fabs(b.Row(i / kK)[n]));
      const size_t at = static_cast<size_t>(i);
      ASSERT_LE(std::fabs(got[at] - want[at]), (2 * kN + 4) * 0x1p-24 * sum_abs) << target.name << " at " << i;
    }
  }
}

// A job of FP8 and others: each term has its own arithmetic, on every unit.
TEST(LinearBackward, TermsBesideFp8) {
  constexpr int64_t kM = 37, kN = 150, kK = 50;
  const Rows a(kM, kN, false, false, 1), b(kM, kN, true, false, 2);
  const TestWeight codes(kN, kK, DType::kF8E4M3, false, false, 3);
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const TestWeight other(kN, kK, dtype, true, false, 4);
    const std::vector<LinearBackwardTerm> terms = {
        {.dy = a.data.data<float>(), .ldy = a.ld, .dy_rows = a.rows(), .w = codes.w},
        {.dy = b.data.data<float>(), .ldy = b.ld, .dy_rows = b.rows(), .w = other.w}};
    std::vector<float> want(kM * kK), got(kM * kK);
    reference::LinearBackwardInput({.dx = want.data(), .ldx = kK, .m = kM, .terms = terms}, Compute::kFp8, 0, kM);
    for (const Target& target : Targets()) {
      Context ctx{Pool(2), Isa::kReference, {}};
      Arena arena(1 << 23);
      const LinearBackwardInputJob job{.dx = got.data(), .ldx = kK, .m = kM, .terms = terms};
      LinearBackwardInputWith(target.tiles, ctx, arena, std::span(&job, 1), Compute::kFp8);
      for (int64_t i = 0; i < kM * kK; ++i) {
        double sum_abs = 0;  // codes round by less than a tenth
        for (int64_t n = 0; n < kN; ++n) {
          sum_abs += 1.1 * std::fabs(a.Row(i / kK)[n] * reference::Decode(codes.w.RowData(n), i % kK, DType::kF8E4M3) *
                                     codes.w.ScaleAt(n, i % kK)) +
                     4.1 * std::fabs(b.Row(i / kK)[n]);
        }
        const size_t at = static_cast<size_t>(i);
        ASSERT_LE(std::fabs(got[at] - want[at]), (2 * kN + 8) * 0x1p-24 * sum_abs) << target.name << " at " << i;
      }
    }
  }
}

// A non-finite gradient reaches its own row of dx and its own row of dw, and no others.
TEST(LinearBackward, NonFiniteStaysInItsRow) {
  for (const char* text : {"m21n20k37:f32:f32", "m21n19k37:bf16:bf16", "m21n19k37:fp8:f8e4m3"}) {
    const LinearProblem p = Parsed(text);
    const Rows dy(p.m, p.n, false, true, 5), x(p.m, p.k, false, true, 6);
    const TestWeight w(p.n, p.k, p.weight, true, false, 9);  // its row0 is 0
    for (int64_t j = 0; j < p.n; ++j) dy.data.data<float>()[3 * dy.ld + j] = std::numeric_limits<float>::infinity();
    const Rows finite(p.m, p.n, false, true, 5);
    for (int64_t i = 0; i < p.m; ++i) finite.data.data<float>()[i * finite.ld + 2] = NAN;
    for (const Target& target : Targets()) {
      Context ctx{Pool(2), Isa::kReference, {}};
      Arena arena(1 << 23);
      std::vector<float> dx(static_cast<size_t>(p.m * p.k)), dw(static_cast<size_t>(p.n * p.k));
      const LinearBackwardTerm term{.dy = dy.data.data<float>(), .ldy = dy.ld, .dy_rows = nullptr, .w = w.w};
      const LinearBackwardInputJob input{.dx = dx.data(), .ldx = p.k, .m = p.m, .terms = std::span(&term, 1)};
      LinearBackwardInputWith(target.tiles, ctx, arena, std::span(&input, 1), p.compute);
      const LinearBackwardWeightJob weight{.dw = dw.data(),
                                           .n = p.n,
                                           .k = p.k,
                                           .dy = finite.data.data<float>(),
                                           .ldy = finite.ld,
                                           .x = x.data.data<float>(),
                                           .ldx = x.ld,
                                           .m = p.m};
      LinearBackwardWeightWith(target.tiles, ctx, arena, std::span(&weight, 1), p.compute);
      for (int64_t i = 0; i < p.m * p.k; ++i) {
        EXPECT_EQ(std::isfinite(dx[static_cast<size_t>(i)]), i / p.k != 3) << text << " " << target.name;
      }
      for (int64_t i = 0; i < p.n * p.k; ++i) {
        EXPECT_EQ(std::isfinite(dw[static_cast<size_t>(i)]), i / p.k != 2) << text << " " << target.name;
      }
    }
  }
}

// The public functions choose the entry of the context's instruction set.
TEST(LinearBackward, ForcedInstructionSets) {
  const Rows dy(5, 8, false, true, 1), x(5, 16, false, true, 2);
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (!MachineHas(isa)) continue;
    std::string chosen;
    Context ctx{Pool(2), isa, [&](std::string_view message) {
                  if (message.find("chosen") != std::string_view::npos) chosen = message;
                }};
    Arena arena(1 << 23);
    std::vector<float> dw(8 * 16);
    const LinearBackwardWeightJob job{.dw = dw.data(),
                                      .n = 8,
                                      .k = 16,
                                      .dy = dy.data.data<float>(),
                                      .ldy = dy.ld,
                                      .x = x.data.data<float>(),
                                      .ldx = x.ld,
                                      .m = 5};
    LinearBackwardWeight(ctx, arena, std::span(&job, 1), Compute::kBf16);
    EXPECT_EQ(chosen, "LinearBackwardWeight: " + std::string(Name(isa)) + " chosen");
  }
}

}  // namespace
}  // namespace fathom::kernels
