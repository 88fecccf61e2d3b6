#include "data/chat.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/batches.h"
#include "data/test_files.h"
#include "tokenizer/model_files.h"

namespace fathom::data {
namespace {

std::string Line(const nlohmann::ordered_json& messages) {
  return nlohmann::ordered_json{{"messages", messages}}.dump() + "\n";
}

const nlohmann::ordered_json kTwoTurns = {{{"role", "system"}, {"content", "Be kind."}},
                                          {{"role", "user"}, {"content", "Who is there?"}},
                                          {{"role", "assistant"}, {"content", "The fox."}},
                                          {{"role", "user"}, {"content", "And where?"}},
                                          {{"role", "assistant"}, {"content", "In the wood."}}};

// What is learned, with a bar between runs, and the whole.
std::pair<std::string, std::string> Texts(const std::vector<int32_t>& stored) {
  std::vector<int32_t> all, run;
  std::string learned;
  for (size_t i = 0; i <= stored.size(); ++i) {
    if (i < stored.size()) all.push_back(IdOf(stored[i]));
    if (i < stored.size() && Learned(stored[i])) {
      run.push_back(stored[i]);
    } else if (!run.empty()) {
      learned += StoryTokenizer().Decode(run) + "|";
      run.clear();
    }
  }
  return {learned, StoryTokenizer().Decode(all)};
}

TEST(ChatData, LearnsTheAssistantsTurnsOnly) {
  const ChatEncoder encoder(StoryTokenizer(), tokenizer::ChatTemplate::kV3);
  const auto [learned, whole] = Texts(encoder.Encode(kTwoTurns).Value());
  const std::string bos(StoryTokenizer().TokenBytes(*StoryTokenizer().bos_id()));
  const std::string eos(StoryTokenizer().TokenBytes(*StoryTokenizer().eos_id()));
  EXPECT_EQ(learned, "The fox." + eos + "|In the wood." + eos + "|");
  EXPECT_EQ(whole, tokenizer::RenderChat(tokenizer::ChatTemplate::kV3, kTwoTurns,
                                         {.bos_token = bos, .eos_token = eos, .add_generation_prompt = false})
                       .Value());
}

TEST(ChatData, IdsBeforeAnAnswerAreThoseOfItsPrompt) {
  const ChatEncoder encoder(StoryTokenizer(), tokenizer::ChatTemplate::kV3);
  const std::vector<int32_t> stored = encoder.Encode(kTwoTurns).Value();
  const std::string bos(StoryTokenizer().TokenBytes(*StoryTokenizer().bos_id()));
  const std::string eos(StoryTokenizer().TokenBytes(*StoryTokenizer().eos_id()));
  const nlohmann::ordered_json first(kTwoTurns.begin(), kTwoTurns.begin() + 2);
  const std::vector<int32_t> prompt =
      StoryTokenizer().Encode(tokenizer::RenderChat(tokenizer::ChatTemplate::kV3, first,
                                                    {.bos_token = bos, .eos_token = eos, .add_generation_prompt = true})
                                  .Value());
  ASSERT_GT(stored.size(), prompt.size());
  for (size_t i = 0; i < prompt.size(); ++i) EXPECT_EQ(stored[i], Unlearned(prompt[i])) << i;
  EXPECT_TRUE(Learned(stored[prompt.size()]));
}

TEST(ChatData, WhereTheTemplateTakesThoughtsOutOnlyTheTurnsBehindAreLearned) {
  nlohmann::ordered_json messages = kTwoTurns;
  messages[2]["content"] = "<think>\nhm\n</think>\n\nThe fox.";
  messages[4]["content"] = "<think>\nso\n</think>\n\nIn the wood.";
  const ChatEncoder r1(StoryTokenizer(), tokenizer::ChatTemplate::kR1);
  const auto [learned, whole] = Texts(r1.Encode(messages).Value());
  const std::string eos(StoryTokenizer().TokenBytes(*StoryTokenizer().eos_id()));
  EXPECT_EQ(learned, "<think>\nso\n</think>\n\nIn the wood." + eos + "|");
  EXPECT_EQ(whole.find("hm"), std::string::npos) << whole;
  EXPECT_NE(whole.find("The fox."), std::string::npos) << whole;

  // The prompt of V3.1 opens the thought itself.
  const auto [thought, all] =
      Texts(ChatEncoder(StoryTokenizer(), tokenizer::ChatTemplate::kV31).Encode(messages).Value());
  EXPECT_EQ(thought, "\nso\n</think>\n\nIn the wood." + eos + "|") << all;
  // Without thoughts the published V3.1 template repeats turns as they were.
  const ChatEncoder v31(StoryTokenizer(), tokenizer::ChatTemplate::kV31);
  const auto [both, text] = Texts(v31.Encode(kTwoTurns).Value());
  EXPECT_EQ(both, "The fox." + eos + "|In the wood." + eos + "|") << text;
}

TEST(ChatData, BadLinesAreNamed) {
  const auto why = [](std::string_view line) { return MessagesOfLine(line).error().summary(); };
  EXPECT_EQ(why("{"), "no JSON object");
  EXPECT_EQ(why("[1]"), "no JSON object");
  EXPECT_EQ(why("{}"), "no list \"messages\"");
  EXPECT_EQ(why(R"({"messages": [{"role": "user"}]})"), "messages[0] has no role or no content");
  EXPECT_EQ(why(R"({"messages": [3]})"), "messages[0] has no role or no content");
  EXPECT_EQ(why(R"({"messages": [{"role": "user", "content": "x"}]})"), "no turn of the assistant");
  EXPECT_EQ(why("{\"messages\": " + std::string(200000, '[')), "nested too deeply");
}

class ChatStreamTest : public DataTest {};

TEST_F(ChatStreamTest, BatchesSayWhatIsLearned) {
  std::string lines, plain;
  for (int i = 0; i < 40; ++i) {
    lines += Line({{{"role", "user"}, {"content", "Question " + std::to_string(i)}},
                   {{"role", "assistant"}, {"content", "Answer " + std::to_string(i) + " is yes."}}});
    plain += "{\"text\": \"Plain text number " + std::to_string(i) + ".\"}\n";
  }
  lines += "{\"messages\": 1}\n";
  const std::string chat = Write("chat.jsonl", lines);
  const std::string text = Write("plain.jsonl", plain);
  DataOptions options;
  options.sources.resize(2);
  options.sources[0].path = chat;
  options.sources[0].format = "chat";
  options.sources[1].path = text;
  options.sequence_length = 31;
  options.fim_rate = 0;
  options.chat_template = "v3";
  std::vector<Notice> notices;
  BatchStream stream(options, StoryTokenizer(), Split::kTrain, [&](const Notice& n) { notices.push_back(n); });
  const Batch batch = stream.Next(16);
  ASSERT_EQ(batch.learned.size(), batch.ids.size());
  for (size_t s = 0; s < 16; ++s) {
    // A document that begins here is learned wholly, or from behind its prompt on; of the rest of a cut conversation
    // nothing is.
    for (size_t p = 0; p < batch.starts[s].size(); ++p) {
      const size_t begin = s * 32 + static_cast<size_t>(batch.starts[s][p]);
      const size_t end =
          p + 1 < batch.starts[s].size() ? s * 32 + static_cast<size_t>(batch.starts[s][p + 1]) : (s + 1) * 32;
      std::vector<int32_t> learned, all;
      for (size_t i = begin; i < end; ++i) {
        all.push_back(batch.ids[i]);
        if (batch.learned[i] != 0) learned.push_back(batch.ids[i]);
      }
      const std::string whole = StoryTokenizer().Decode(all), answer = StoryTokenizer().Decode(learned, true);
      EXPECT_EQ(answer.find("Question"), std::string::npos) << whole;
      const bool question = whole.find("Question") != std::string::npos;
      if (question && whole.find("yes") != std::string::npos) {
        EXPECT_EQ(answer.substr(0, 7), "Answer ") << whole;
      } else if (!question && whole.find("Answer") != std::string::npos) {
        EXPECT_EQ(answer, "") << whole;
      } else if (whole.find("Plain") != std::string::npos) {
        EXPECT_EQ(learned.size(), all.size()) << whole;
      }
    }
  }
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].kind, NoticeKind::kNoText);

  const std::string cursor = stream.Cursor();
  const Batch next = stream.Next(8);
  BatchStream resumed(options, StoryTokenizer());
  resumed.Restore(cursor);
  const Batch again = resumed.Next(8);
  EXPECT_EQ(again.ids, next.ids);
  EXPECT_EQ(again.learned, next.learned);
}

TEST_F(ChatStreamTest, ExcludedTextsAreFoundInConversations) {
  const std::string secret = "This sentence of the test set \"quoted\" must never be seen by any model in training.";
  const std::string chat = Write(
      "chat.jsonl", Line({{{"role", "user"}, {"content", "Say it."}}, {{"role", "assistant"}, {"content", secret}}}) +
                        Line({{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hello."}}}));
  const std::string exclude = Write("exclude.jsonl", nlohmann::json{{"text", secret}}.dump() + "\n");
  DataOptions options;
  options.sources.resize(1);
  options.sources[0].path = chat;
  options.sources[0].format = "chat";
  options.sequence_length = 15;
  options.chat_template = "v3";
  options.exclude = exclude;
  BatchStream stream(options, StoryTokenizer());
  const Batch batch = stream.Next(16);
  EXPECT_EQ(StoryTokenizer().Decode(batch.ids).find("sentence of the test"), std::string::npos);
}

TEST_F(ChatStreamTest, ATemplateIsNeeded) {
  const std::string chat = Write("chat.jsonl", Line(kTwoTurns));
  DataOptions options;
  options.sources.resize(1);
  options.sources[0].path = chat;
  options.sources[0].format = "chat";
  options.sequence_length = 15;
  EXPECT_THROW(BatchStream(options, StoryTokenizer()), Error);
  options.chat_template = "v9";
  EXPECT_THROW(BatchStream(options, StoryTokenizer()), Error);
  options.chat_template = "v3";
  options.sources[0].text_key = "x";
  EXPECT_THROW(BatchStream(options, StoryTokenizer()), Error);
}

}  // namespace
}  // namespace fathom::data
