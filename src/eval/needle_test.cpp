// Needle maps: the haystacks' properties, the map of an answerer that is known, and the engine on a small model.
#include "eval/needle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "core/error.h"
#include "report/svg.h"
#include "tokenizer/model_files.h"

namespace fathom::eval {
namespace {

using ::testing::HasSubstr;

constexpr char kStory[] = FATHOM_SOURCE_DIR "/models/fathom-16m";

const tokenizer::Tokenizer& Words() {
  static const tokenizer::ModelText text = tokenizer::LoadModelText(kStory);
  return text.tokenizer;
}

TEST(Needle, HaystacksHaveTheirLengthAndDepth) {
  NeedleOptions o{.lengths = {128, 500}, .depths = 5, .samples = 2};
  for (const corpus::RecallForm form : {corpus::RecallForm::kNotes, corpus::RecallForm::kSentences}) {
    o.form = form;
    for (int64_t l = 0; l < 2; ++l) {
      const int64_t length = o.lengths[static_cast<size_t>(l)];
      for (int64_t d = 0; d < o.depths; ++d) {
        const NeedlePrompt p = MakeNeedlePrompt(o, Words(), l, d, 1);
        const auto tokens = static_cast<int64_t>(p.prompt.size() + p.answer.size());
        EXPECT_LE(tokens, length + 1);
        EXPECT_GT(tokens, length - 20);  // a sentence of filler has 10 tokens
        EXPECT_EQ(p.prompt[0], *Words().bos_id());
        // The fact stands where it should, to within half a sentence: 30 bytes of some 4 a token.
        const std::string begin = form == corpus::RecallForm::kNotes ? "Note: " : "The secret word of ";
        const size_t at = p.text.find(begin);
        ASSERT_NE(at, std::string::npos);
        const std::string key =
            p.text.substr(at + begin.size(), p.text.find(' ', at + begin.size()) - at - begin.size());
        const size_t question = p.text.rfind(form == corpus::RecallForm::kNotes ? "Recall: " : "What is the");
        EXPECT_THAT(p.text.substr(question), HasSubstr(key));
        const double fact_bytes = form == corpus::RecallForm::kNotes ? 20 : 40;
        const double depth = static_cast<double>(at) / (static_cast<double>(question) - fact_bytes);
        EXPECT_NEAR(depth, static_cast<double>(d) / 4, 60.0 / static_cast<double>(question)) << p.text;
        // And says the answer.
        const std::string answer = Words().Decode(p.answer);
        EXPECT_EQ(p.text.find(answer + ".", at), p.text.find(". ", at) - answer.size());
        EXPECT_EQ(MakeNeedlePrompt(o, Words(), l, d, 1).prompt, p.prompt);
        EXPECT_NE(MakeNeedlePrompt(o, Words(), l, d, 0).prompt, p.prompt);
      }
    }
  }
  o.others = 4;
  const NeedlePrompt p = MakeNeedlePrompt(o, Words(), 1, 2, 0);
  size_t facts = 0;
  for (size_t at = p.text.find("The secret word of "); at != std::string::npos;
       at = p.text.find("The secret word of ", at + 1))
    ++facts;
  EXPECT_EQ(facts, 1u + 4 + 1);  // the question's answer begins like one
  EXPECT_LE(p.prompt.size() + p.answer.size(), 501u);
  o.lengths = {20};
  EXPECT_THROW(MakeNeedlePrompt(o, Words(), 0, 0, 0), Error);
}

// An answerer that finds what is shorter than 300 tokens, and beyond that only in the later half.
TEST(Needle, TheMapIsWhatWasAnswered) {
  const NeedleOptions o{.lengths = {100, 400}, .depths = 3, .samples = 200};
  int64_t asked = 0, told = 0;
  const NeedleMap map = RunNeedles(
      o, Words(),
      [&](const std::vector<NeedlePrompt>& prompts) {
        std::vector<NeedleResult> results;
        for (const NeedlePrompt& p : prompts) {
          const bool found = p.prompt.size() < 300 || p.depth == 2 || (p.depth == 1 && asked % 4 == 0);
          results.push_back({found, found ? 0.5 : 2.0});
          ++asked;
        }
        return results;
      },
      [&](int64_t done, int64_t all) {
        EXPECT_GT(done, told);
        told = done;
        EXPECT_EQ(all, 1200);
      });
  EXPECT_EQ(asked, 1200);
  EXPECT_EQ(told, 1200);
  ASSERT_EQ(map.found.size(), 6u);
  const std::vector<double> found = {1, 1, 1, 0, 0.25, 1};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(map.found[i], found[i], 1e-9) << i;
    EXPECT_NEAR(map.nll[i], 0.5 * found[i] + 2.0 * (1 - found[i]), 1e-9) << i;
  }
  EXPECT_EQ(map.depths, (std::vector<double>{0, 0.5, 1}));
  EXPECT_NEAR(map.FoundAt(1), 1.25 / 3, 1e-9);

  const std::string table = NeedleTable(map);
  EXPECT_THAT(table, HasSubstr("    0 %     100       0\n"));
  EXPECT_THAT(table, HasSubstr("   50 %     100      25\n"));
  EXPECT_THAT(table, HasSubstr("found   100.0    41.7"));
  const nlohmann::json j = nlohmann::json::parse(NeedleJson(map));
  EXPECT_EQ(j["cells"].size(), 6u);
  EXPECT_EQ(j["cells"][5]["length"], 400);
  EXPECT_EQ(j["cells"][5]["found"], map.found[5]);
  const std::string svg = report::Standalone(NeedleSvg(map, "a < b", 100));
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, HasSubstr(">25</text>"));
  EXPECT_EQ(NeedlePng(map).substr(1, 3), "PNG");
}

// The likelihood of an answer, given or forced token by token, is that of one pass over prompt and answer.
TEST(Needle, TheEngineAnswers) {
  const checkpoint::Checkpoint story = checkpoint::Open(kStory);
  ThreadPool pool(2);
  Context ctx{.pool = pool, .isa = BestIsa(), .verbose = {}};
  const model::Transformer transformer(story.config(), story.params(), 256);
  engine::EngineOptions options;
  options.max_context = 256;
  options.cache_tokens = 2048;
  options.max_running = 8;
  engine::Engine engine(ctx, transformer, options);
  const NeedleAnswerer answerer = EngineAnswerer(engine);
  const NeedleOptions o{.lengths = {64, 128}, .depths = 2, .samples = 2};
  std::vector<NeedlePrompt> prompts;
  for (int64_t l = 0; l < 2; ++l) {
    for (int64_t d = 0; d < 2; ++d) prompts.push_back(MakeNeedlePrompt(o, Words(), l, d, 0));
  }
  const std::vector<NeedleResult> results = answerer(prompts);
  ASSERT_EQ(results.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    // The same by one pass over prompt and answer.
    engine::Request r;
    r.prompt = prompts[i].prompt;
    r.prompt.insert(r.prompt.end(), prompts[i].answer.begin(), prompts[i].answer.end());
    r.prompt_logprobs = true;
    r.logprobs = 0;
    std::vector<engine::Token> tokens;
    bool finished = false;
    engine.Add(r,
               {.on_token = {},
                .on_prompt =
                    [&](std::span<const engine::Token> some) { tokens.insert(tokens.end(), some.begin(), some.end()); },
                .on_finish = [&](const engine::Answer&) { finished = true; }});
    while (!finished) engine.Step();
    double nll = 0;
    for (size_t k = 0; k < prompts[i].answer.size(); ++k) nll -= tokens[tokens.size() - 1 - k].logprob;
    EXPECT_NEAR(results[i].nll, nll, 1e-3 * (1 + nll)) << i;  // float32, other shapes of the same products
    // Answering with what the model itself says is finding it.
    r.prompt = prompts[i].prompt;
    r.max_tokens = 2;
    r.prompt_logprobs = false;
    r.sampling.temperature = 0;
    const std::vector<engine::Answer> own = engine.Run(std::vector<engine::Request>{r});
    NeedlePrompt easy = prompts[i];
    easy.answer = own[0].ids;
    if (easy.answer.size() == 2) {
      EXPECT_TRUE(answerer({easy})[0].found);
    }
  }
}

}  // namespace
}  // namespace fathom::eval
