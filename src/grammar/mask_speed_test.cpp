// Figures of masks over the published vocabulary: time to compile, and of each token's mask on the way through texts,
// all of whose states are new. Times are the thread's own (a machine busy with other work does not lengthen them).
// Bounds are generous (several times what is usual): they catch what has become slow in kind.
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>

#include "grammar/mask_speed_cases.h"
#include "grammar/token_mask.h"
#include "tokenizer/test_files.h"

namespace fathom::grammar {
namespace {

constexpr const char* kPublished = "deepseek-v3.tokenizer.json.gz";
constexpr int64_t kVocab = 129280;

double CpuMicroseconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) * 1e-3;
}

double At(std::vector<double> v, double share) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(share * static_cast<double>(v.size() - 1))];
}

struct Figures {
  double median, p99, most;
};

// Of several rounds: the median of each.
Figures Middle(const std::vector<std::vector<double>>& rounds) {
  std::vector<double> medians, p99s, mosts;
  for (const std::vector<double>& r : rounds) {
    medians.push_back(At(r, 0.5));
    p99s.push_back(At(r, 0.99));
    mosts.push_back(At(r, 1));
  }
  return {At(medians, 0.5), At(p99s, 0.5), At(mosts, 0.5)};
}

class MaskSpeed : public testing::Test {
 protected:
  void Measure(const std::vector<SpeedCase>& cases) {
    FATHOM_NEEDS_SHARED(kPublished);
    const auto tokenizer = tokenizer::Tokenizer::FromJson(
                               tokenizer::ReadTextFile(tokenizer::SharedTokenizerFile(kPublished), size_t{1} << 30))
                               .Value();
    double begin = CpuMicroseconds();
    auto trie = std::make_shared<const TokenTrie>(tokenizer, kVocab);
    fmt::print("trie of {} tokens: {:.0f} ms, {} nodes\n", tokenizer.vocab_size(), (CpuMicroseconds() - begin) / 1000,
               trie->nodes());
    fmt::print("{:24}{:>8}{:>8}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "microseconds", "tokens", "compile", "median", "p99",
               "most", "again", "applied");
    constexpr int kRounds = 5;
    for (const SpeedCase& c : cases) {
      const auto ids = tokenizer.Encode(c.text);
      std::vector<std::vector<double>> made, again, applied;
      std::vector<double> compiled;
      for (int round = 0; round < kRounds; ++round) {
        trie = std::make_shared<const TokenTrie>(tokenizer, kVocab);  // keeps what earlier grammars asked for
        begin = CpuMicroseconds();
        const auto grammar = std::make_shared<CompiledGrammar>(c.compile().Value(), trie);
        compiled.push_back(CpuMicroseconds() - begin);
        Matcher matcher(grammar, {1});
        std::vector<float> logits(static_cast<size_t>(kVocab), 0.0f);
        for (auto* list : {&made, &again, &applied}) list->emplace_back();
        for (int32_t id : ids) {
          for (auto* list : {&made, &again}) {
            begin = CpuMicroseconds();
            grammar->MaskOf(matcher.state());
            list->back().push_back(CpuMicroseconds() - begin);
          }
          begin = CpuMicroseconds();
          matcher.Apply(logits);
          applied.back().push_back(CpuMicroseconds() - begin);
          ASSERT_TRUE(matcher.Accept(id)) << c.name << ": " << tokenizer.TokenBytes(id) << " of " << c.text;
        }
      }
      const Figures f = Middle(made);
      fmt::print("{:24}{:8}{:8.0f}{:10.1f}{:10.1f}{:10.1f}{:10.1f}{:10.1f}\n", c.name, ids.size(), At(compiled, 0.5),
                 f.median, f.p99, f.most, Middle(again).median, Middle(applied).median);
      EXPECT_LT(At(compiled, 0.5), 500e3);
      EXPECT_LT(f.median, 500);
      EXPECT_LT(f.p99, 5000);
    }
  }
};

TEST_F(MaskSpeed, Json) { Measure(JsonSpeedCases()); }
TEST_F(MaskSpeed, Texts) { Measure(TextSpeedCases()); }

}  // namespace
}  // namespace fathom::grammar
