// Linear and LinearTransposed: every instruction set of the machine (AMX emulated too) against the reference.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/linear_problem_test.h"

namespace fathom::kernels {

bool AddAmxEmulated(Tiles* tiles);

namespace {

// What is under test: a table of primitives with its name.
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

// Float32 sums of n products by any order of additions, fused or not, err by at most about n eps sum|x w|
// (Higham, Accuracy and Stability, 3.1); each scale and each addition of a partial sum adds one rounding. Products with
// subnormal results, which the bf16 units flush, are below the last term.
double Bound(int64_t k, double sum_abs) {
  constexpr double kEps = 0x1p-24;
  return static_cast<double>(k + 3 * CeilDiv(k, kFp8Block) + 8) * kEps * sum_abs + static_cast<double>(k) * 0x1p-126;
}

struct Case {
  LinearProblem p;
  bool exact;
  std::vector<TestWeight> weights;
  Guarded x;
  std::vector<float> y0;  // what y holds before (m, ldy), gaps included
  int64_t ldx, ldy;

  Case(const LinearProblem& problem, bool exact_values, uint64_t seed)
      : p(problem),
        exact(exact_values),
        x(std::max<int64_t>(0, (p.m - 1) * (p.k + 3) + p.k) * 4),
        ldx(p.k + 3),
        ldy(p.jobs * p.n + 5) {
    for (int64_t j = 0; j < p.jobs; ++j) {
      weights.emplace_back(p.n, p.k, p.weight, exact, p.ue8m0, seed + static_cast<uint64_t>(j));
    }
    Rng rng(seed, 2);
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.k; ++j) {
        x.data<float>()[i * ldx + j] =
            exact ? static_cast<float>(rng.NextBelow(7) - 3) : static_cast<float>(rng.NextNormal());
      }
    }
    y0.resize(static_cast<size_t>(std::max<int64_t>(p.m, 1) * ldy));
    for (float& v : y0) v = static_cast<float>(rng.NextBelow(100));
  }

  // Runs `run` on guarded outputs; y as float32 (m * ldy).
  template <class Run>
  std::vector<float> Output(const Run& run) const {
    const int64_t size = p.y_bf16 ? 2 : 4;
    const int64_t used = p.m == 0 ? 0 : (p.m - 1) * ldy + p.jobs * p.n;
    const Guarded y(used * size);
    for (int64_t i = 0; i < used; ++i) {
      const float v = y0[static_cast<size_t>(i)];
      if (p.y_bf16) y.data<uint16_t>()[i] = F32ToBf16(v);
      if (!p.y_bf16) y.data<float>()[i] = v;
    }
    std::vector<LinearJob> jobs;
    for (int64_t j = 0; j < p.jobs; ++j) {
      LinearJob job;
      job.y = y.data<std::byte>() + j * p.n * size;
      job.ldy = ldy;
      job.y_dtype = p.y_bf16 ? DType::kBF16 : DType::kF32;
      job.x = x.data<float>();
      job.ldx = ldx;
      job.m = p.m;
      job.w = weights[static_cast<size_t>(j)].w;
      job.accumulate = p.accumulate;
      jobs.push_back(job);
    }
    Arena arena(1 << 24);
    run(arena, LinearArgs{jobs, p.compute});
    std::vector<float> out(static_cast<size_t>(used));
    for (int64_t i = 0; i < used; ++i) {
      out[static_cast<size_t>(i)] = p.y_bf16 ? Bf16ToF32(y.data<uint16_t>()[i]) : y.data<float>()[i];
    }
    return out;
  }

  std::vector<float> Reference() const {
    Context ctx{Pool(2), Isa::kReference, {}};
    return Output([&](Arena& arena, const LinearArgs& args) { reference::Linear(ctx, arena, args); });
  }
  std::vector<float> With(const Tiles& tiles, int threads) const {
    Context ctx{Pool(threads), Isa::kReference, {}};
    return Output([&](Arena&, const LinearArgs& args) {
      Arena plan = Arena::Planner();
      LinearWith(tiles, ctx, plan, args);
      Arena exactly(plan.HighWater());
      LinearWith(tiles, ctx, exactly, args);
      EXPECT_EQ(exactly.Overflows(), 0);
    });
  }

  // sum |x| |w| of each output, as the arithmetic sees x and w: an upper bound by the plain values, which rounding and
  // quantisation change by less than 1/8.
  std::vector<double> SumAbs() const {
    std::vector<double> sums(static_cast<size_t>(p.m * p.jobs * p.n));
    for (int64_t j = 0; j < p.jobs; ++j) {
      const Weight& w = weights[static_cast<size_t>(j)].w;
      std::vector<double> row(static_cast<size_t>(p.k));
      for (int64_t n = 0; n < p.n; ++n) {
        for (int64_t k = 0; k < p.k; ++k) {
          const double scale = w.dtype == DType::kF8E4M3 ? w.ScaleAt(n, k) : 1.0;
          row[static_cast<size_t>(k)] = std::fabs(reference::Decode(w.RowData(n), k, w.dtype)) * scale;
        }
        for (int64_t i = 0; i < p.m; ++i) {
          double sum = 0;
          for (int64_t k = 0; k < p.k; ++k) {
            sum += (std::fabs(x.data<float>()[i * ldx + k]) + 1e-3) * row[static_cast<size_t>(k)];
          }
          sums[static_cast<size_t>((i * p.jobs + j) * p.n + n)] = 1.125 * sum;
        }
      }
    }
    return sums;
  }
};

void CheckProblem(const LinearProblem& p, bool exact, uint64_t seed) {
  const Case c(p, exact, seed);
  const std::vector<float> want = c.Reference();
  const std::vector<double> sum_abs = exact ? std::vector<double>() : c.SumAbs();
  for (const Target& target : Targets()) {
    SCOPED_TRACE(p.ToString() + (exact ? " exact on " : " on ") + target.name);
    const std::vector<float> got = c.With(target.tiles, 2);
    ASSERT_EQ(got.size(), want.size());
    for (int64_t at = 0; at < static_cast<int64_t>(want.size()); ++at) {
      const int64_t i = at / c.ldy, n = at % c.ldy;
      const float g = got[static_cast<size_t>(at)], w = want[static_cast<size_t>(at)];
      double bound = 0;
      if (!exact && n < p.jobs * p.n) {
        bound = Bound(p.k, sum_abs[static_cast<size_t>(i * p.jobs * p.n + n)]);
        if (p.accumulate) bound += 0x1p-23 * std::fabs(c.y0[static_cast<size_t>(at)]);
        // Two nearly equal sums may round to neighbouring bf16.
        if (p.y_bf16) bound += 0x1p-7 * (std::fabs(w) + bound);
        bound += 0x1p-23 * std::fabs(w);
      }
      ASSERT_LE(std::fabs(g - w), bound) << "row " << i << " column " << n << ": " << g << " against " << w;
    }
  }
}

LinearProblem Parsed(const std::string& text) { return ParseLinearProblem(text).Value(); }

TEST(LinearProblem, Grammar) {
  for (const char* text :
       {"m8n256k1024:bf16:f8e4m3", "m0n1k1:f32:f16:acc", "m3n4k5:w8a8:f8e4m3:ybf16:ue8m0:fixed:j4"}) {
    EXPECT_EQ(Parsed(text).ToString(), text);
  }
  for (const char* text :
       {"", "m8", "m8n8k8", "m8n8k8:bf16", "m8n8k0:f32:f32", "m-1n8k8:f32:f32", "m8n8k8:f32:f32:x", "m8n8k8:f32:f32:j0",
        "m8n8k8:f32:f32:acc:ybf16", "m8n8k8:f31:f32", "m8n8k8:f32:f32:j2x", "m99999999999999999999n8k8:f32:f32"}) {
    EXPECT_FALSE(ParseLinearProblem(text).ok()) << text;
  }
}

// Small whole numbers: every sum is exact in float32, so every implementation must give the reference's bits.
TEST(Linear, ExactOnWholeNumbers) {
  uint64_t seed = 1;
  for (const char* types : {":f32:f32", ":f32:bf16", ":f32:f16", ":f32:f8e4m3", ":bf16:bf16", ":bf16:f8e4m3",
                            ":bf16:f32", ":w8a8:f8e4m3:ue8m0", ":fp8:f8e4m3:ue8m0", ":fp8:bf16"}) {
    for (const char* sizes : {"m1n1k1", "m2n3k7", "m7n33k64", "m8n65k130", "m9n17k33", "m16n64k96", "m17n70k131",
                              "m64n31k200", "m65n129k24", "m3n130k320", "m10n66k40", "m22n35k136"}) {
      CheckProblem(Parsed(std::string(sizes) + types), true, ++seed);
    }
  }
}

TEST(Linear, WithinTheBound) {
  uint64_t seed = 100;
  for (const char* types : {":f32:f32", ":f32:bf16", ":f32:f16", ":f32:f8e4m3", ":bf16:bf16", ":bf16:f8e4m3",
                            ":w8a8:f8e4m3", ":w8a8:f8e4m3:ue8m0", ":w8a8:bf16", ":fp8:f8e4m3", ":fp8:f8e4m3:ue8m0"}) {
    for (const char* sizes : {"m1n257k129", "m4n40k1024", "m6n21k256", "m16n66k80", "m100n70k272", "m5n9k1",
                              "m140n66k418", "m12n19k333", "m24n33k64", "m51n37k260"}) {
      CheckProblem(Parsed(std::string(sizes) + types), false, ++seed);
    }
  }
}

// Deeper than one pass of the packed form, more panels than one task takes.
TEST(Linear, LargerThanABlock) {
  CheckProblem(Parsed("m40n67k4224:bf16:bf16"), true, 7);
  CheckProblem(Parsed("m33n65k2183:bf16:f8e4m3"), true, 8);
  CheckProblem(Parsed("m36n65k2100:f32:bf16"), true, 9);
  CheckProblem(Parsed("m291n70k66:bf16:bf16"), true, 10);
  CheckProblem(Parsed("m291n70k66:f32:f32"), true, 11);
  CheckProblem(Parsed("m2n2100k96:bf16:bf16"), true, 12);
  CheckProblem(Parsed("m1n1500k8192:bf16:f8e4m3"), true, 13);
  CheckProblem(Parsed("m67n65k2183:bf16:f8e4m3"), true, 17);
  CheckProblem(Parsed("m1040n70k66:bf16:f8e4m3"), true, 18);
  CheckProblem(Parsed("m33n65k2183:fp8:f8e4m3:ue8m0"), true, 14);
  CheckProblem(Parsed("m1040n70k66:fp8:f8e4m3:ue8m0"), true, 15);
  CheckProblem(Parsed("m40n600k140:fp8:f8e4m3:ue8m0"), true, 16);
}

TEST(Linear, OutputsAndJobs) {
  uint64_t seed = 300;
  for (const char* types : {":f32:f32", ":bf16:bf16", ":bf16:f8e4m3", ":w8a8:f8e4m3:ue8m0", ":fp8:f8e4m3:ue8m0"}) {
    for (const char* sizes : {"m1n40k96", "m5n17k33", "m20n70k64", "m530n70k64", "m130n41k33"}) {
      for (const char* options : {":acc", ":ybf16", ":j3", ":acc:j2"}) {
        CheckProblem(Parsed(std::string(sizes) + types + options), true, ++seed);
      }
    }
  }
  for (const char* text : {"m0n8k8:f32:f32", "m5n0k8:bf16:bf16", "m0n4k3:w8a8:f8e4m3"}) {
    CheckProblem(Parsed(text), true, 1);
  }
}

// Jobs of both forms and of several types in one call.
TEST(Linear, MixedJobs) {
  std::vector<TestWeight> weights;
  std::vector<std::vector<float>> xs, ys, wants;
  std::vector<LinearJob> jobs;
  constexpr std::array<DType, 4> kTypes = {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kF16};
  weights.reserve(24);
  for (int64_t j = 0; j < 24; ++j) {
    const int64_t m = std::array<int64_t, 6>{1, 30, 2, 0, 8, 9}[static_cast<size_t>(j / 2 % 6)];
    weights.emplace_back(33 + j, 50, kTypes[static_cast<size_t>(j / 5 % 4)], true, true, static_cast<uint64_t>(j));
    if (j % 2 == 0) {  // pairs share their x
      xs.emplace_back(static_cast<size_t>(m * 50));
      for (size_t i = 0; i < xs.back().size(); ++i) xs.back()[i] = static_cast<float>(static_cast<int>(i * 7 % 5) - 2);
    }
    ys.emplace_back(static_cast<size_t>(m * (33 + j)));
    LinearJob job;
    job.x = xs.back().data();
    job.ldx = 50;
    job.m = m;
    job.ldy = 33 + j;
    job.w = weights.back().w;
    jobs.push_back(job);
  }
  for (Compute compute : {Compute::kF32, Compute::kBf16, Compute::kW8A8}) {
    for (size_t j = 0; j < jobs.size(); ++j) jobs[j].y = ys[j].data();
    Context ctx{Pool(2), Isa::kReference, {}};
    Arena arena(1 << 22);
    reference::Linear(ctx, arena, {jobs, compute});
    wants = ys;
    for (const Target& target : Targets()) {
      for (auto& y : ys) std::fill(y.begin(), y.end(), -1.0f);
      LinearWith(target.tiles, ctx, arena, {jobs, compute});
      for (size_t j = 0; j < jobs.size(); ++j) EXPECT_EQ(ys[j], wants[j]) << target.name << " job " << j;
    }
  }
}

// Jobs that share a weight have their own rows each, also where a thread has several of them.
TEST(Linear, JobsOfOneWeight) {
  constexpr int64_t kM = 40, kN = 33, kK = 50;
  const TestWeight weight(kN, kK, DType::kF8E4M3, true, true, 1);
  std::vector<float> x(3 * kM * kK), want(3 * kM * kN), got(want.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>((i * i + i / (kM * kK)) % 5) - 2);
  const auto jobs = [&](std::vector<float>& y) {
    std::vector<LinearJob> out;
    for (int64_t j = 0; j < 3; ++j) {
      LinearJob job;
      job.y = y.data() + j * kM * kN;
      job.ldy = kN;
      job.x = x.data() + j * kM * kK;
      job.ldx = kK;
      job.m = kM;
      job.w = weight.w;
      out.push_back(job);
    }
    return out;
  };
  Context ctx{Pool(1), Isa::kReference, {}};
  Arena arena(1 << 22);
  reference::Linear(ctx, arena, {jobs(want), Compute::kFp8});
  for (const Target& target : Targets()) {
    LinearWith(target.tiles, ctx, arena, {jobs(got), Compute::kFp8});
    EXPECT_EQ(got, want) << target.name;
  }
}

TEST(Linear, SameBitsForAnyThreads) {
  uint64_t seed = 500;
  for (const char* text :
       {"m1n700k333:bf16:bf16:j3", "m5n300k256:bf16:f8e4m3", "m70n200k300:bf16:bf16", "m70n130k300:w8a8:f8e4m3",
        "m70n130k300:fp8:f8e4m3:j3", "m70n130k300:bf16:f8e4m3:j3", "m600n300k200:fp8:f8e4m3",
        "m40n20k300:fp8:f8e4m3:j20", "m33n65k130:f32:f32", "m600n100k600:bf16:bf16", "m1n515k1000:f32:bf16"}) {
    const Case c(Parsed(text), false, ++seed);
    for (const Target& target : Targets()) {
      const std::vector<float> one = c.With(target.tiles, 1);
      for (int threads : {2, 3}) {
        const std::vector<float> more = c.With(target.tiles, threads);
        EXPECT_EQ(std::memcmp(one.data(), more.data(), one.size() * sizeof(float)), 0) << text << " " << target.name;
      }
    }
  }
}

// A non-finite input must reach its own outputs and no others: padding is never multiplied with garbage.
// Rows taken by their numbers are the same product as the rows put in order first, to the bit.
TEST(Linear, RowsByNumber) {
  constexpr int64_t kK = 200, kN = 33, kRows = 7;
  std::vector<float> x(kRows * kK), w(kN * kK);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int64_t>(i * 37 % 101) - 50) * 0.03f;
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(static_cast<int64_t>(i * 53 % 97) - 48) * 0.02f;
  std::vector<uint16_t> w16(w.size());
  for (size_t i = 0; i < w.size(); ++i) w16[i] = F32ToBf16(w[i]);
  for (int64_t m : {1, 5, 40, 200}) {
    std::vector<int32_t> rows(static_cast<size_t>(m));
    std::vector<float> gathered;
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<int32_t>(i * 5 % kRows);
      gathered.insert(gathered.end(), x.begin() + rows[i] * kK, x.begin() + (rows[i] + 1) * kK);
    }
    for (Isa isa : {Isa::kReference, Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx, Isa::kNeon}) {
      if (!MachineHas(isa)) continue;
      Context ctx{.pool = Pool(2), .isa = isa, .verbose = {}};
      for (Compute compute : {Compute::kF32, Compute::kBf16}) {
        for (const Weight& weight : {Weight{.data = w.data(), .dtype = DType::kF32, .rows = kN, .cols = kK},
                                     Weight{.data = w16.data(), .dtype = DType::kBF16, .rows = kN, .cols = kK}}) {
          std::vector<float> by_number(static_cast<size_t>(m * kN)), in_order(by_number.size());
          LinearJob job{
              .y = by_number.data(), .ldy = kN, .x = x.data(), .ldx = kK, .x_rows = rows.data(), .m = m, .w = weight};
          Arena arena(1 << 22);
          Linear(ctx, arena, {std::span(&job, 1), compute});
          job.y = in_order.data();
          job.x = gathered.data();
          job.x_rows = nullptr;
          Linear(ctx, arena, {std::span(&job, 1), compute});
          EXPECT_EQ(by_number, in_order) << Name(isa) << " m " << m;
        }
      }
    }
  }
}

// Rows of y that lie far apart may be written around the caches: the same bits, and nothing beside them.
TEST(Linear, FarRowsOfOutputs) {
  constexpr int64_t kK = 96, kN = 70, kNear = 96, kFar = 1 << 16, kRows = 70;
  const TestWeight weight(kN, kK, DType::kBF16, false, false, 3);
  std::vector<float> x(kRows * kK);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int64_t>(i * 37 % 101) - 50) * 0.03f;
  Arena outputs((kRows * (kNear + kFar) + 64) * static_cast<int64_t>(sizeof(float)));
  float* near = outputs.Take<float>(kRows * kNear);
  float* far = outputs.Take<float>(kRows * kFar);
  for (const Target& target : Targets()) {
    for (int64_t m : {3, 12, 20, 32, 70}) {
      const auto run = [&](float* y, int64_t ldy) {
        for (int64_t i = 0; i < m; ++i) std::fill_n(y + i * ldy, kNear, 7.0f);
        const LinearJob job{.y = y, .ldy = ldy, .x = x.data(), .ldx = kK, .m = m, .w = weight.w};
        Arena arena(1 << 22);
        Context ctx{Pool(2), BestIsa(), {}};
        LinearWith(target.tiles, ctx, arena, {std::span(&job, 1), Compute::kBf16});
      };
      for (const int64_t first : {0, 16, 3}) {  // lines of y that begin at its columns, and that do not
        run(near, kNear);
        run(far + first, kFar);
        for (int64_t i = 0; i < m; ++i) {
          ASSERT_EQ(std::memcmp(near + i * kNear, far + first + i * kFar, kNear * sizeof(float)), 0)
              << target.name << ": row " << i << " of " << m << ", from " << first;
        }
      }
    }
  }
}

// Rows that fall to jobs otherwise than planned, as with experts: the plan is enough, and each job's rows are those
// that it has alone.
TEST(Linear, RowsDealtOtherwiseThanPlanned) {
  constexpr int64_t kK = 64, kN = 272, kJobs = 8;
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kF32}) {
    const TestWeight weight(kN, kK, dtype, false, false, 3);
    for (const auto& dealt : {std::array<int64_t, kJobs>{150, 0, 3, 9, 24, 1, 60, 9},
                              {127, 125, 1, 1, 1, 1, 0, 0},
                              {64, 25, 64, 8, 64, 13, 16, 2},
                              {256, 0, 0, 0, 0, 0, 0, 0}}) {
      const int64_t total = std::accumulate(dealt.begin(), dealt.end(), int64_t{0});
      std::vector<float> x(static_cast<size_t>(total * kK)), y(static_cast<size_t>(total * kN)), alone(y.size());
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int64_t>(i * 37 % 101) - 50) * 0.03f;
      for (const Target& target : Targets()) {
        Context ctx{Pool(2), BestIsa(), {}};
        const auto run = [&](Arena& arena, std::span<const int64_t> rows, const float* from, float* to) {
          std::vector<LinearJob> jobs;
          for (const int64_t m : rows) {
            jobs.push_back({.y = to, .ldy = kN, .x = from, .ldx = kK, .m = m, .w = weight.w});
            if (arena.planning()) continue;
            to += m * kN;
            from += m * kK;
          }
          LinearWith(target.tiles, ctx, arena, {jobs, Compute::kBf16});
        };
        Arena plan = Arena::Planner();
        run(plan, std::vector<int64_t>(kJobs, total / kJobs + 64), x.data(), y.data());
        Arena planned(plan.HighWater());
        run(planned, dealt, x.data(), y.data());
        EXPECT_EQ(planned.Overflows(), 0) << target.name;
        Arena enough(1 << 24);
        int64_t row = 0;
        for (const int64_t m : dealt) {
          run(enough, std::span(&m, 1), x.data() + row * kK, alone.data() + row * kN);
          row += m;
        }
        EXPECT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0) << target.name;
      }
    }
  }
}

TEST(Linear, NonFiniteStaysInItsRow) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const char* text : {"m3n20k37:f32:f32", "m3n20k37:bf16:bf16", "m3n20k37:bf16:f8e4m3", "m21n20k37:bf16:bf16",
                           "m21n20k37:f32:bf16", "m21n20k37:w8a8:f8e4m3", "m140n20k37:fp8:f8e4m3",
                           "m140n20k37:bf16:f8e4m3", "m140n20k37:f32:f32", "m140n20k38:bf16:bf16"}) {
    const Case c(Parsed(text), true, 9);
    for (int64_t k = 0; k < c.p.k; ++k) c.x.data<float>()[c.ldx + k] = kInf;
    for (const Target& target : Targets()) {
      const std::vector<float> y = c.With(target.tiles, 2);
      for (int64_t i = 0; i < c.p.m; ++i) {
        for (int64_t n = 0; n < c.p.n; ++n) {
          EXPECT_EQ(std::isfinite(y[static_cast<size_t>(i * c.ldy + n)]), i != 1) << text << " " << target.name;
        }
      }
    }
  }
}

TEST(LinearTransposed, AllTargets) {
  uint64_t seed = 700;
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3}) {
    for (Compute compute : {Compute::kF32, Compute::kBf16, Compute::kW8A8}) {
      for (const auto [m, rows, cols] : {std::array<int64_t, 3>{1, 128, 512},
                                         {3, 33, 40},
                                         {9, 130, 257},
                                         {70, 24, 16},
                                         {2, 1, 1},
                                         {0, 8, 8},
                                         {17, 257, 300}}) {
        for (bool exact : {true, false}) {
          std::vector<TestWeight> weights;
          std::vector<LinearTransposedJob> jobs;
          const int64_t ldx = 2 * rows + 1, ldy = 2 * cols + 3;
          std::vector<float> x(static_cast<size_t>(std::max<int64_t>(m, 1) * ldx));
          const Guarded y(std::max<int64_t>(0, (m - 1) * ldy + 2 * cols) * 4);
          Rng rng(++seed, 0);
          for (float& v : x)
            v = exact ? static_cast<float>(rng.NextBelow(7) - 3) : static_cast<float>(rng.NextNormal());
          weights.reserve(2);
          for (int64_t j = 0; j < 2; ++j) {
            weights.emplace_back(rows, cols, dtype, exact, false, seed + static_cast<uint64_t>(j));
            LinearTransposedJob job;
            job.y = y.data<float>() + j * cols;
            job.ldy = ldy;
            job.x = x.data() + j * rows;
            job.ldx = ldx;
            job.m = m;
            job.w = weights.back().w;
            jobs.push_back(job);
          }
          const int64_t used = m == 0 ? 0 : (m - 1) * ldy + 2 * cols;
          Context ctx{Pool(2), Isa::kReference, {}};
          Arena arena(1 << 22);
          std::fill(y.data<float>(), y.data<float>() + used, 42.0f);
          reference::LinearTransposed(ctx, arena, jobs, compute);
          const std::vector<float> want(y.data<float>(), y.data<float>() + used);
          std::vector<double> bounds(static_cast<size_t>(used));
          for (int64_t at = 0; at < used; ++at) {
            const int64_t i = at / ldy, n = at % ldy;
            if (exact || n >= 2 * cols) continue;
            const Weight& w = jobs[static_cast<size_t>(n / cols)].w;
            double sum = 0;
            for (int64_t r = 0; r < rows; ++r) {
              const double scale = dtype == DType::kF8E4M3 ? w.ScaleAt(r, n % cols) : 1.0;
              sum += std::fabs(x[static_cast<size_t>(i * ldx + n / cols * rows + r)] *
                               reference::Decode(w.RowData(r), n % cols, dtype) * scale);
            }
            bounds[static_cast<size_t>(at)] = Bound(rows, 1.125 * sum);
          }
          for (const Target& target : Targets()) {
            SCOPED_TRACE(testing::Message() << target.name << " " << Name(dtype) << " " << Name(compute) << " m" << m
                                            << " rows " << rows << " cols " << cols << (exact ? " exact" : ""));
            std::vector<float> first;
            for (int threads : {1, 3}) {
              Context threaded{Pool(threads), Isa::kReference, {}};
              std::fill(y.data<float>(), y.data<float>() + used, 42.0f);
              LinearTransposedWith(target.tiles, threaded, arena, jobs, compute);
              const std::vector<float> got(y.data<float>(), y.data<float>() + used);
              if (threads == 1) first = got;
              ASSERT_TRUE(got.empty() || std::memcmp(first.data(), got.data(), got.size() * sizeof(float)) == 0);
              for (int64_t at = 0; at < used; ++at) {
                const int64_t i = at / ldy, n = at % ldy;
                const double bound = bounds[static_cast<size_t>(at)];
                const float g = got[static_cast<size_t>(at)], e = want[static_cast<size_t>(at)];
                ASSERT_LE(std::fabs(g - e), bound) << "at " << i << ", " << n << ": " << g << " against " << e;
              }
            }
          }
        }
      }
    }
  }
}

// The public functions choose the entry of the context's instruction set.
TEST(Linear, ForcedInstructionSets) {
  const Case c(Parsed("m20n40k100:bf16:bf16"), true, 3);
  const std::vector<float> want = c.Reference();
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (!MachineHas(isa)) continue;
    std::string chosen;
    Context ctx{Pool(2), isa, [&](std::string_view message) {
                  if (message.find("chosen") != std::string_view::npos) chosen = message;
                }};
    EXPECT_EQ(c.Output([&](Arena& arena, const LinearArgs& args) { Linear(ctx, arena, args); }), want);
    EXPECT_EQ(chosen, "Linear: " + std::string(Name(isa)) + " chosen");
  }
}

// With fixed_form a row of y is the same to the bit however many rows stand beside it: alone, as one of few (dot form
// or panels), of some, or of so many that blocks are taken. m is over all thresholds; k with and without whole lines,
// over one piece of sums and several; n with a remainder.
TEST(Linear, FixedFormDoesNotKnowHowManyRows) {
  constexpr int64_t kRows = 400;
  for (const char* types : {"bf16:bf16", "bf16:f8e4m3", "w8a8:f8e4m3", "f32:f32", "f32:bf16", "f32:f16", "bf16:f32"}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{72, 256}, {50, 1160}, {17, 95}}) {
      for (const char* option : {"", ":ybf16", ":acc"}) {
        if (k > 256 && *option) continue;
        const auto parsed = ParseLinearProblem(fmt::format("m{}n{}k{}:{}{}", kRows, n, k, types, option));
        const Case c(parsed.Value(), false, 5);
        for (const Target& t : Targets()) {
          const auto run = [&](int64_t first, int64_t rows) {
            return c.Output([&](Arena& arena, const LinearArgs& args) {
              LinearJob job = args.jobs[0];
              job.x += first * job.ldx;
              job.y = static_cast<std::byte*>(job.y) + first * job.ldy * SizeOf(job.y_dtype);
              job.m = rows;
              Context ctx{Pool(2), BestIsa(), {}};
              LinearWith(t.tiles, ctx, arena, {std::span(&job, 1), args.compute, true});
            });
          };
          const std::vector<float> all = run(0, kRows);
          for (const auto& [first, rows] :
               {std::pair<int64_t, int64_t>{0, 1}, {399, 1}, {5, 3}, {1, 7}, {8, 8}, {2, 11}, {4, 17}, {20, 130}}) {
            const std::vector<float> some = run(first, rows);
            ASSERT_EQ(std::memcmp(&some[static_cast<size_t>(first * c.ldy)], &all[static_cast<size_t>(first * c.ldy)],
                                  static_cast<size_t>((rows - 1) * c.ldy + n) * sizeof(float)),
                      0)
                << t.name << " " << c.p.ToString() << ": rows from " << first << ", " << rows << " of them";
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
