#include "op_cases.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"

namespace fathom::bench {
namespace {

constexpr double kCold = 1e5;  // a few copies are enough here

class OpCases : public ::testing::Test {
 protected:
  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}};
};

TEST_F(OpCases, EveryOpRunsOnEveryCopy) {
  const std::vector<std::pair<std::string, std::string>> small = {{"linear", "m2n300k40:bf16:f8e4m3:j2"},
                                                                  {"linear_backward_input", "m5n30k40:bf16:bf16:j2"},
                                                                  {"linear_backward_weight", "m5n30k40:bf16:bf16:j2"},
                                                                  {"linear_backward_input", "m40n130k40:fp8:f8e4m3:j2"},
                                                                  {"linear_backward_weight", "m40n130k40:fp8:f8e4m3"},
                                                                  {"experts", "m40n30k130:fp8:f8e4m3:ue8m0:j2"},
                                                                  {"transposed", "m2n48k200:bf16:bf16"},
                                                                  {"attention", "t5l9h2dn8dr4dv8:bf16"},
                                                                  {"latent", "q2l70h2r16dr8:f32"},
                                                                  {"latent", "q2l70h2r16dr8:bf16:f8e4m3"},
                                                                  {"bounds", "m3n100k64"},
                                                                  {"norm", "t3n64"},
                                                                  {"swiglu", "t3n64"},
                                                                  {"gate", "t3e16k4g4p2"},
                                                                  {"rope", "t3h2d8"},
                                                                  {"combine", "t3n64k2"},
                                                                  {"embed", "t3n64"},
                                                                  {"cache", "t70n24:bf16"},
                                                                  {"quantize", "t3n200"},
                                                                  {"attention_backward", "t70h2s2dn8dr4dv8:bf16"},
                                                                  {"norm_backward", "t3n64"},
                                                                  {"swiglu_backward", "t3n64"},
                                                                  {"gate_backward", "t3e16k4"},
                                                                  {"cross_entropy", "t3n64"},
                                                                  {"embed_backward", "t3n64"},
                                                                  {"adamw", "n1000:bf16"},
                                                                  {"sum_of_squares", "n1000"}};
  std::set<std::string> seen;
  for (const auto& [op, problem] : small) {
    SCOPED_TRACE(op);
    seen.insert(op);
    const OpCase c = MakeCase(ctx_, op, problem, kCold);
    ASSERT_GE(c.copies, op == "linear" || op == "transposed" || op == "latent" || op == "bounds" ? 2 : 1);
    EXPECT_GT(c.bytes, 0);
    for (int64_t copy : {int64_t{0}, c.copies - 1}) {
      c.run(copy);
      EXPECT_GT(kernels::TotalBytes(c.spans(copy)), 0);
    }
  }
  EXPECT_EQ(seen.size(), OpNames().size());
}

TEST_F(OpCases, CountsByHand) {
  const OpCase linear = MakeCase(ctx_, "linear", "m3n400k50:bf16:bf16:j2", kCold);
  EXPECT_EQ(linear.operations, 2.0 * 3 * 400 * 50 * 2);
  EXPECT_EQ(linear.bytes, 2.0 * 400 * 50 * 2 + 4 * 3 * 50 + 4.0 * 3 * 400 * 2);
  EXPECT_EQ(kernels::TotalBytes(linear.spans(0)), 2 * 400 * 50 * 2);
  EXPECT_EQ(linear.unit, Unit::kBf16);
  EXPECT_EQ(MakeCase(ctx_, "linear", "m1n400k50:bf16:f32", kCold).unit, Unit::kF32);
  const OpCase input = MakeCase(ctx_, "linear_backward_input", "m3n40k50:bf16:bf16:j2", kCold);
  EXPECT_EQ(input.operations, 2.0 * 3 * 40 * 50 * 2);
  EXPECT_EQ(input.bytes, 2.0 * 40 * 50 * 2 + 4.0 * 3 * (40 + 50) * 2);
  const OpCase weight = MakeCase(ctx_, "linear_backward_weight", "m3n40k50:bf16:bf16:j2", kCold);
  EXPECT_EQ(weight.operations, 2.0 * 3 * 40 * 50 * 2);
  EXPECT_EQ(weight.bytes, 2 * 4.0 * 40 * 50 * 2 + 4.0 * 3 * (40 + 50) * 2);  // dw is read and written
  // Queries at positions 4 .. 6 see 5 + 6 + 7 keys.
  EXPECT_EQ(MakeCase(ctx_, "attention", "t3l7h2dn8dr4dv6:f32", kCold).operations, 2.0 * 2 * (8 + 4 + 6) * 18);
  // 1 + 2 + 3 pairs; scores, dQ and dK of 8 + 4, dP and dV of 6.
  EXPECT_EQ(MakeCase(ctx_, "attention_backward", "t3h2s5dn8dr4dv6:f32", kCold).operations,
            2.0 * 6 * 2 * 5 * (3 * 12 + 2 * 6));
  // Read and written: weight, gradient and two moments; written: the copy.
  EXPECT_EQ(MakeCase(ctx_, "adamw", "n100:bf16", kCold).bytes, 100 * (2 * (4 + 4 + 2 + 2) + 2.0));
  EXPECT_EQ(MakeCase(ctx_, "latent", "q2l70h3r16dr8:f32", kCold).operations, 2.0 * 2 * 3 * (16 + 16 + 8) * 70);
}

TEST_F(OpCases, BadProblemsAreRefused) {
  for (const auto& [op, problem] : std::vector<std::pair<std::string, std::string>>{{"nothing", "t1n1"},
                                                                                    {"norm", ""},
                                                                                    {"norm", "t1"},
                                                                                    {"norm", "t0n4"},
                                                                                    {"norm", "t1n4x2"},
                                                                                    {"norm", "t1n"},
                                                                                    {"norm", "t99999999999999999999n4"},
                                                                                    {"attention", "t5l3h2"},
                                                                                    {"attention", "t1l1h1:f64"},
                                                                                    {"gate", "t1e10k4"},
                                                                                    {"gate", "t1e16k17"},
                                                                                    {"linear", "m1n2"}}) {
    EXPECT_THROW(MakeCase(ctx_, op, problem, kCold), Error) << op << " " << problem;
  }
}

TEST_F(OpCases, TheDefaultSuiteNamesKnownOps) {
  const std::set<std::string> known(OpNames().begin(), OpNames().end());
  std::set<std::string> used;
  for (const auto& [op, problem] : DefaultSuite()) {
    EXPECT_TRUE(known.count(op)) << op;
    used.insert(op);
  }
  EXPECT_EQ(used, known);
}

}  // namespace
}  // namespace fathom::bench
