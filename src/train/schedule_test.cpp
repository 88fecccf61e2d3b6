#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "train/recipe.h"

namespace fathom::train {
namespace {

Segment Piece(SegmentKind kind, std::optional<double> to, int64_t tokens) {
  Segment s;
  s.kind = kind;
  s.to = to;
  s.tokens = tokens;
  return s;
}

TEST(Schedule, ValuesAtBordersAndBetween) {
  const Schedule s{{Piece(SegmentKind::kLinear, 8, 4), Piece(SegmentKind::kConstant, {}, 10),
                    Piece(SegmentKind::kCosine, 2, 6), Piece(SegmentKind::kConstant, 1, 5),
                    Piece(SegmentKind::kConstant, 0.5, 0)}};
  EXPECT_EQ(s.At(0), 0);
  EXPECT_EQ(s.At(1), 2);
  EXPECT_EQ(s.At(3), 6);
  EXPECT_EQ(s.At(4), 8);
  EXPECT_EQ(s.At(13), 8);
  EXPECT_EQ(s.At(14), 8);               // a cosine begins at its height,
  EXPECT_DOUBLE_EQ(s.At(17), 5);        // is in the middle half-way,
  EXPECT_DOUBLE_EQ(s.At(16), 2 + 4.5);  // at a third (1 + cos 60 degrees) / 2 = 3/4 of the way up
  EXPECT_NEAR(s.At(19), 2 + 6 * (0.5 + 0.5 * std::cos(M_PI * 5 / 6)), 1e-15);
  EXPECT_EQ(s.At(20), 1);  // a border belongs to the segment that begins there
  EXPECT_EQ(s.At(24), 1);
  EXPECT_EQ(s.At(25), 0.5);
  EXPECT_EQ(s.At(int64_t{1} << 60), 0.5);
  EXPECT_FALSE(s.IsConstant());
}

TEST(Schedule, TheLastValueStays) {
  const Schedule s{{Piece(SegmentKind::kLinear, 3, 2)}};
  EXPECT_EQ(s.At(2), 3);
  EXPECT_EQ(s.At(1'000'000), 3);
  EXPECT_TRUE(Schedule::Constant(4).IsConstant());
  EXPECT_EQ(Schedule::Constant(4).At(0), 4);
}

// V3 report 4.2, with 4096 tokens a sequence.
constexpr char kPaper[] = R"(
[model]
config = "deepseek-v3.json"
tokenizer = "tokenizer.json"
init_std = 0.006
[data]
sources = ["corpus"]
sequence_length = 4096
[train]
tokens = 14.8e12
micro_batch = 1
[schedule]
lr = [
  {kind = "linear", to = 2.2e-4, steps = 2000},
  {kind = "constant", until = 10e12},
  {kind = "cosine", to = 2.2e-5, tokens = 4.3e12},
  {kind = "constant", tokens = 333e9},
  {kind = "constant", to = 7.3e-6, tokens = 167e9},
]
batch_size = [{kind = "linear", from = 3072, to = 15360, tokens = 469e9}]
mtp_loss_weight = [{kind = "constant", to = 0.3, tokens = 10e12}, {kind = "constant", to = 0.1}]
bias_update_speed = [{kind = "constant", to = 0.001, tokens = 14.3e12}, {kind = "constant", to = 0}]
)";

TEST(Schedule, ThePapers) {
  constexpr int64_t kBillion = 1'000'000'000;
  const Recipe recipe = ParseRecipe(kPaper, "recipe", "/");
  Validate(recipe);
  const StepSchedule schedule(recipe);
  EXPECT_EQ(schedule.max_batch_size(), 15360);

  // Steps are walked as a run would: the warm-up's 2000 end where the schedule says.
  int64_t tokens = 0;
  double last = 0;
  for (int step = 0; step < 2000; ++step) {
    const StepValues v = schedule.At(tokens);
    EXPECT_GT(v.lr, last);
    EXPECT_EQ(v.tokens, v.batch_size * 4096);
    last = v.lr;
    tokens += v.tokens;
  }
  EXPECT_EQ(schedule.At(0).batch_size, 3072);
  EXPECT_LT(last, 2.2e-4);
  EXPECT_NEAR(last, 2.2e-4, 2.2e-4 / 2000);
  EXPECT_EQ(schedule.At(tokens).lr, 2.2e-4);
  // The batch grows by 12288 / 469e9 sequences a token, so by the factor 1 + r a step, r = 12288 * 4096 / 469e9, and
  // 2000 steps see 469e9 * 3072 / 12288 * ((1 + r)^2000 - 1) tokens. Rounding a batch moves it by half a sequence of
  // 3072 and more: less than 1/6144 of all tokens.
  const double expected = 469e9 / 4 * (std::pow(1 + 12288.0 * 4096 / 469e9, 2000) - 1);
  EXPECT_NEAR(static_cast<double>(tokens) / expected, 1, 1.0 / 6144);

  // Half-way up: 3072 + 12288 / 2.
  EXPECT_EQ(schedule.At(469 * kBillion / 2).batch_size, 9216);
  EXPECT_EQ(schedule.At(469 * kBillion).batch_size, 15360);
  EXPECT_EQ(schedule.At(14000 * kBillion).batch_size, 15360);

  const int64_t cosine = 10000 * kBillion;
  EXPECT_EQ(schedule.At(cosine - 15360 * 4096).lr, 2.2e-4);
  EXPECT_LT(schedule.At(cosine + 100 * kBillion).lr, 2.2e-4);
  EXPECT_NEAR(schedule.At(cosine + 2150 * kBillion).lr, (2.2e-4 + 2.2e-5) / 2, 1e-8);
  EXPECT_EQ(schedule.At(cosine + 4300 * kBillion).lr, 2.2e-5);
  EXPECT_EQ(schedule.At(cosine + 4632 * kBillion).lr, 2.2e-5);
  EXPECT_EQ(schedule.At(cosine + 4633 * kBillion).lr, 7.3e-6);
  EXPECT_EQ(schedule.At(20000 * kBillion).lr, 7.3e-6);

  EXPECT_EQ(schedule.At(10000 * kBillion - 15360 * 4096).mtp_loss_weight, 0.3);
  EXPECT_EQ(schedule.At(10000 * kBillion).mtp_loss_weight, 0.1);
  EXPECT_EQ(schedule.At(14300 * kBillion - 15360 * 4096).bias_update_speed, 0.001);
  EXPECT_EQ(schedule.At(14300 * kBillion).bias_update_speed, 0);
}

TEST(Schedule, FaultsAreNamed) {
  const auto fault = [](const Schedule& s) -> std::string {
    try {
      Validate(s, "schedule.lr", 0, 10);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  using K = SegmentKind;
  EXPECT_EQ(fault(Schedule::Constant(1)), "none");
  EXPECT_EQ(fault({{Piece(K::kLinear, 1, 5), Piece(K::kConstant, {}, 0)}}), "none");
  const auto says = [&](const Schedule& s, const char* part) {
    EXPECT_NE(fault(s).find(part), std::string::npos) << fault(s) << "\nlacks: " << part;
  };
  says({}, "no segments");
  says(Schedule::Constant(11), "out of range");
  says(Schedule::Constant(NAN), "out of range");
  says({{Piece(K::kLinear, {}, 5)}}, "segment 1: no to");
  says({{Piece(K::kLinear, 1, 0)}}, "segment 1: no length");
  says({{Piece(K::kConstant, 1, 0), Piece(K::kLinear, 2, 5)}}, "segment 1: no length");
  says({{Piece(K::kConstant, {}, 5)}}, "segment 1: no to");
  says({{Piece(K::kLinear, 1, -5)}}, "negative");
  says({{Piece(K::kLinear, 1, int64_t{1} << 60), Piece(K::kLinear, 2, 1)}}, "2^60");
  Segment both = Piece(K::kLinear, 1, 5), late = Piece(K::kLinear, 1, 5);
  both.steps = 3;
  says({{both}}, "several lengths");
  Segment early = Piece(K::kConstant, 1, 0);
  early.until = 5;
  says({{Piece(K::kLinear, 1, 5), early}}, "segment 2: until 5");
  late.from = 1;
  says({{Piece(K::kLinear, 1, 5), late}}, "segment 2: from");
}

TEST(Schedule, StepsBecomeTokens) {
  Segment warmup = Piece(SegmentKind::kLinear, 1, 0), hold = Piece(SegmentKind::kConstant, {}, 0);
  warmup.steps = 3;
  hold.steps = 2;
  // Steps of 10 tokens, of 20 from token 30 on.
  const Schedule s = ResolveSteps({{warmup, hold, Piece(SegmentKind::kLinear, 0, 40)}}, "lr",
                                  [](int64_t tokens) { return tokens < 30 ? 10 : 20; });
  EXPECT_EQ(s.segments[0].tokens, 30);
  EXPECT_EQ(s.segments[1].tokens, 40);
  EXPECT_EQ(s.At(15), 0.5);
  EXPECT_EQ(s.At(69), 1);
  EXPECT_EQ(s.At(90), 0.5);

  Segment early = Piece(SegmentKind::kConstant, 1, 0);
  early.until = 50;
  EXPECT_EQ(ResolveSteps({{warmup, early}}, "lr", [](int64_t) { return 10; }).At(45), 1);
  EXPECT_THROW(ResolveSteps({{warmup, early}}, "lr", [](int64_t) { return 20; }), Error);
}

}  // namespace
}  // namespace fathom::train
