// Answers of a grammar, by a tiny random model: whatever the temperature, penalties and drafts, they are texts of it;
// drafts change neither answers with a seed nor the distribution; other requests do not notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_folder.h"
#include "core/rng.h"
#include "engine/draws_test.h"
#include "engine/engine.h"
#include "grammar/gbnf.h"
#include "grammar/regex.h"
#include "grammar/test_machine.h"

namespace fathom::engine {
namespace {

using grammar::CompiledGrammar;
using grammar::Machine;

constexpr int32_t kEos = 1;
constexpr int64_t kGrammarContext = 256;

// 40 tokens, as many as the tiny model has; the first three are no text.
const std::vector<std::string>& Vocabulary() {
  static const std::vector<std::string> tokens = {
      "",    "",    "",     "a",  "b",  "c",  "d",  "e",  "f",  "\"",   "{",    "}",       "[",   "]",
      ":",   ",",   "0",    "1",  "2",  "-",  ".",  " ",  "\\", "\n",   "x",    "y",       "\":", "\",\"",
      "{\"", "\"}", "true", "nu", "ll", "ab", "bc", "10", "]}", "\xC3", "\xA9", "\xC3\xA9"};
  return tokens;
}

constexpr const char* kJsonText = R"(root ::= object
value ::= object | array | string | number | "true" | "null"
object ::= "{" (string ":" value ("," string ":" value)*)? "}"
array ::= "[" (value ("," value)*)? "]"
string ::= "\"" [^"\\\x00-\x1F]* "\""
number ::= "-"? ("0" | [1-9] [0-9]*)
)";

std::unique_ptr<Machine> MachineOf(const std::string& name) {
  if (name == "json") return grammar::CompileGbnf(kJsonText).Value();
  return grammar::CompileRegex(name).Value();
}

class EngineGrammar : public checkpoint::FolderTest {
 protected:
  EngineGrammar() : pool_(2), ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}} {
    model::ModelConfig config = checkpoint::TinyConfig();
    config.initializer_range = 0.2;  // so that tokens differ in their logits
    checkpoint::InitCheckpoint(config, Path("model"), {.seed = 4}, pool_);
    checkpoint_.emplace(checkpoint::Open(Path("model")));
    transformer_.emplace(checkpoint_->config(), checkpoint_->params(), kGrammarContext);
  }

  static std::shared_ptr<CompiledGrammar> Grammar(const std::string& name) {
    static const auto trie = std::make_shared<const grammar::TokenTrie>(Vocabulary());
    return std::make_shared<CompiledGrammar>(MachineOf(name), trie);
  }
  static EngineOptions Options(int64_t drafts, Verification how = Verification::kRejection) {
    return {.max_context = kGrammarContext,
            .cache_tokens = 8 * kGrammarContext,
            .max_running = 8,
            .drafts = drafts,
            .verification = how,
            .always_draft = true,
            .block_store = nullptr,
            .model_identity = ""};
  }
  static Request Ask(const std::shared_ptr<CompiledGrammar>& grammar, uint64_t seed, double temperature = 1) {
    Request r;
    Rng rng(seed % 7, 2);
    for (int i = 0; i < 9; ++i) r.prompt.push_back(3 + static_cast<int32_t>(rng.NextBelow(37)));
    r.max_tokens = 40;
    r.sampling.temperature = temperature;
    r.sampling.seed = seed;
    r.eos_ids = {kEos};
    r.grammar = grammar;
    return r;
  }
  static std::string TextOf(const Answer& a) {
    std::string text;
    for (int32_t id : a.ids) text += Vocabulary()[static_cast<size_t>(id)];
    return text;
  }

  ThreadPool pool_;
  Context ctx_;
  std::optional<checkpoint::Checkpoint> checkpoint_;
  std::optional<model::Transformer> transformer_;
};

TEST_F(EngineGrammar, EveryAnswerIsOfTheGrammar) {
  int64_t complete = 0, cut = 0, accepted = 0;
  for (const std::string name : {"json", "(ab|c)+d?", "[a-f]{3,20}", "[^x]*x", "(true|null),-?\\d+"}) {
    const std::unique_ptr<Machine> machine = MachineOf(name);
    const auto grammar = Grammar(name);
    for (const int64_t drafts : {0, 1, 3}) {
      for (const Verification how : {Verification::kRejection, Verification::kCoupled}) {
        Engine engine(ctx_, *transformer_, Options(drafts, how));
        std::vector<Request> requests;
        for (uint64_t i = 0; i < 12; ++i) {
          Request r = Ask(grammar, i, std::array{0.0, 0.7, 1.0, 5.0}[i % 4]);
          if (i % 3 == 1) r.sampling.top_p = 0.8;
          if (i % 3 == 2) r.sampling.top_k = 5;
          if (i % 5 == 1) r.sampling.min_p = 0.05;
          if (i % 2 == 1) {
            r.sampling.repetition_penalty = 1.3;
            r.sampling.presence_penalty = 1;
            r.sampling.logit_bias = {{25, 100.0f}, {23, 50.0f}, {kEos, 3.0f}};  // mostly forbidden
          }
          r.logprobs = i % 4 == 0 ? 2 : -1;
          requests.push_back(r);
        }
        for (const Answer& a : engine.Run(requests)) {
          const std::string text = TextOf(a);
          const Machine::State state = grammar::After(*machine, text);
          ASSERT_NE(state, Machine::kDead) << name << ": " << text;
          if (a.finish_reason == FinishReason::kStop) {
            EXPECT_TRUE(machine->Accepts(state)) << name << ": " << text;
            ++complete;
          } else {
            EXPECT_EQ(a.finish_reason, FinishReason::kLength);
            ++cut;
          }
          accepted += a.accepted;
        }
      }
    }
  }
  EXPECT_GT(complete, 100);
  EXPECT_GT(cut, 10);
  EXPECT_GT(accepted, 100);  // drafts were kept
}

// Coupled drafts, batches and preemption leave an answer with a seed as it is.
TEST_F(EngineGrammar, DraftsAndCompanyDoNotChangeAnswers) {
  for (const std::string name : {"json", "[a-f ]{3,60}"}) {
    const auto grammar = Grammar(name);
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 10; ++i) requests.push_back(Ask(grammar, i, i % 3 == 0 ? 0 : 1.2));
    std::vector<std::vector<int32_t>> plain;
    for (const Request& r : requests) {
      EngineOptions o = Options(0);
      o.batch_invariant = true;
      plain.push_back(Engine(ctx_, *transformer_, o).Run(std::span(&r, 1)).front().ids);
    }
    for (const int64_t drafts : {0, 1, 3}) {
      EngineOptions o = Options(drafts);
      o.batch_invariant = true;
      o.cache_tokens = kGrammarContext;  // so that sequences are preempted
      Engine engine(ctx_, *transformer_, o);
      const std::vector<Answer> answers = engine.Run(requests);
      for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].ids, plain[i]) << name << " " << drafts;
    }
  }
}

// Two letters and the end: probabilities of all texts from the model's own, masked, against what is drawn.
TEST_F(EngineGrammar, DraftsKeepTheDistribution) {
  const std::string first = "abc", second = "def";
  const auto id_of = [](char c) { return static_cast<int32_t>(c - 'a') + 3; };
  Request base = Ask(nullptr, 1);
  base.sampling.temperature = 0;
  base.max_tokens = 1;
  base.logprobs = static_cast<int64_t>(Vocabulary().size());
  Engine plain(ctx_, *transformer_, Options(0));
  const auto shares = [&](const std::vector<int32_t>& prompt, const std::string& letters) {
    Request r = base;
    r.prompt = prompt;
    r.eos_ids.clear();
    std::vector<double> p(letters.size());
    double sum = 0;
    plain.Run(std::span(&r, 1), [&](size_t, const Token& t) {
      for (const auto& [id, logprob] : t.top) {
        for (size_t i = 0; i < letters.size(); ++i) {
          if (id == id_of(letters[i])) sum += p[i] = std::exp(static_cast<double>(logprob));
        }
      }
      return true;
    });
    for (double& x : p) x /= sum;
    return p;
  };
  std::vector<double> expected;
  const std::vector<double> begin = shares(base.prompt, first);
  for (size_t i = 0; i < first.size(); ++i) {
    std::vector<int32_t> prompt = base.prompt;
    prompt.push_back(id_of(first[i]));
    for (double p : shares(prompt, second)) expected.push_back(begin[i] * p);
  }
  const auto grammar = Grammar("[abc][def]");
  for (const int64_t drafts : {0, 1, 2}) {
    Engine engine(ctx_, *transformer_, Options(drafts));
    std::vector<int64_t> counts(expected.size());
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 4000; ++i) {
      Request r = Ask(grammar, 1);
      r.sampling.seed = 1000 + i;
      requests.push_back(r);
    }
    int64_t drafted = 0;
    for (const Answer& a : engine.Run(requests)) {
      EXPECT_EQ(a.finish_reason, FinishReason::kStop);
      ASSERT_EQ(a.ids.size(), 2u);
      const size_t i = first.find(Vocabulary()[static_cast<size_t>(a.ids[0])]);
      const size_t j = second.find(Vocabulary()[static_cast<size_t>(a.ids[1])]);
      ++counts[i * second.size() + j];
      drafted += a.drafted;
    }
    EXPECT_EQ(drafted > 0, drafts > 0);
    ExpectFollows(counts, expected, fmt::format("{} drafts", drafts));
  }
}

TEST_F(EngineGrammar, EndsWhereNothingFollows) {
  Engine engine(ctx_, *transformer_, Options(2));
  for (const bool eos : {true, false}) {
    for (const int64_t most : {3, 40}) {
      Request r = Ask(Grammar("abc|a[de]f"), 5);
      if (!eos) r.eos_ids.clear();
      r.max_tokens = most;
      const Answer a = engine.Run(std::span(&r, 1)).front();
      EXPECT_EQ(a.finish_reason, FinishReason::kStop) << TextOf(a);
      EXPECT_THAT(TextOf(a), testing::AnyOf("abc", "adf", "aef"));
    }
  }
  Request empty = Ask(Grammar(""), 5);
  const Answer a = engine.Run(std::span(&empty, 1)).front();
  EXPECT_EQ(a.finish_reason, FinishReason::kStop);
  EXPECT_TRUE(a.ids.empty());
  Request shown = Ask(Grammar("a+"), 5);
  shown.eos_ids.clear();
  shown.grammar_ends = {kEos};
  shown.sampling.logit_bias = {{kEos, 100.0f}};
  const Answer s = engine.Run(std::span(&shown, 1)).front();
  EXPECT_EQ(s.ids[0], 3);
  EXPECT_EQ(s.ids[1], kEos);
}

// Log-probabilities stay the model's own.
TEST_F(EngineGrammar, LogprobsAreTheModels) {
  Engine engine(ctx_, *transformer_, Options(0));
  Request r = Ask(nullptr, 3, 0);
  r.max_tokens = 1;
  r.logprobs = static_cast<int64_t>(Vocabulary().size());
  std::map<int32_t, float> all;
  engine.Run(std::span(&r, 1), [&](size_t, const Token& t) {
    all.insert(t.top.begin(), t.top.end());
    return true;
  });
  r.grammar = Grammar("[d-f]x");
  engine.Run(std::span(&r, 1), [&](size_t, const Token& t) {
    EXPECT_GE(t.id, 6);
    EXPECT_LE(t.id, 8);
    EXPECT_EQ(t.logprob, all.at(t.id));
    EXPECT_EQ(t.top.size(), Vocabulary().size());
    return true;
  });
}

TEST_F(EngineGrammar, ErrorsAreOfOneRequest) {
  Engine engine(ctx_, *transformer_, Options(1));
  Request other = Ask(nullptr, 1);
  other.grammar = std::make_shared<CompiledGrammar>(
      MachineOf("a"), std::make_shared<const grammar::TokenTrie>(std::vector<std::string>{"a"}));
  EXPECT_THROW(engine.Check(other), Error);
  Request none = Ask(Grammar("q"), 1);  // no token begins with it
  EXPECT_THROW(engine.Check(none), Error);

  // One gets stuck behind its first letter, one is fine.
  const std::vector<Request> requests = {Ask(Grammar("aq"), 1), Ask(Grammar("[ab]{5}"), 2)};
  std::vector<Answer> answers(2);
  for (size_t i = 0; i < 2; ++i) {
    engine.Add(requests[i],
               {.on_token = {}, .on_prompt = {}, .on_finish = [&, i](const Answer& a) { answers[i] = a; }});
  }
  while (engine.Step()) {
  }
  EXPECT_EQ(answers[0].finish_reason, FinishReason::kError);
  EXPECT_THAT(answers[0].error->what(), testing::HasSubstr("no token"));
  EXPECT_EQ(answers[1].finish_reason, FinishReason::kStop);
  EXPECT_EQ(TextOf(answers[1]).size(), 5u);
}

}  // namespace
}  // namespace fathom::engine
