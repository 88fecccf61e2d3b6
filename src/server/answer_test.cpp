// What becomes of tokens on their way to the client, and the small forms around it.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "server/access_log.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/choice.h"
#include "server/json_text.h"
#include "server/logprobs_json.h"
#include "server/metrics.h"
#include "server/test_model.h"
#include "server/work_queue.h"

namespace fathom::server {
namespace {

using Start = ReasoningSplitter::Start;
using nlohmann::json;

Parts Split(Start start, const std::string& text, size_t step) {
  ReasoningSplitter splitter(start);
  Parts all;
  const auto join = [&](const Parts& more) {
    all.reasoning += more.reasoning;
    all.content += more.content;
  };
  for (size_t i = 0; i < text.size(); i += step) join(splitter.Push(text.substr(i, step)));
  join(splitter.Finish());
  return all;
}

TEST(Reasoning, IsSplitHoweverTheTextIsCut) {
  struct Case {
    Start start;
    std::string text, reasoning, content;
  };
  const Case cases[] = {
      {Start::kThinking, "\nfirst </thin second</think>\n\nanswer </think>", "first </thin second", "answer </think>"},
      {Start::kThinking, "never ends </thi", "never ends </thi", ""},
      {Start::kThinking, "</think>x", "", "x"},
      {Start::kMayThink, "\n<think>\na</think>b", "a", "b"},
      {Start::kMayThink, "<thing>", "", "<thing>"},
      {Start::kMayThink, "<thi", "", "<thi"},
      {Start::kMayThink, "plain</think>", "", "plain</think>"},
      {Start::kAnswering, "\n<think>a</think>b", "", "\n<think>a</think>b"},
  };
  for (const Case& c : cases) {
    for (size_t step = 1; step <= c.text.size(); ++step) {
      const Parts parts = Split(c.start, c.text, step);
      EXPECT_EQ(parts.reasoning, c.reasoning) << c.text << " by " << step;
      EXPECT_EQ(parts.content, c.content) << c.text << " by " << step;
    }
  }
}

TEST(Reasoning, TheEndOfThePromptSaysWhereAnAnswerBegins) {
  EXPECT_EQ(ReasoningSplitter::StartOf("<|Assistant|><think>", true), Start::kThinking);
  EXPECT_EQ(ReasoningSplitter::StartOf("<|Assistant|><think>\n", true), Start::kThinking);
  EXPECT_EQ(ReasoningSplitter::StartOf("<|Assistant|></think>", true), Start::kAnswering);
  EXPECT_EQ(ReasoningSplitter::StartOf("<|Assistant|>", true), Start::kMayThink);
  EXPECT_EQ(ReasoningSplitter::StartOf("<|Assistant|><think>", false), Start::kAnswering);
}

std::vector<int32_t> Ids(std::string_view text) { return Model().text.tokenizer.Encode(text); }

engine::Token TokenOf(int32_t id) { return {.id = id, .logprob = -0.5f, .top = {{id, -0.5f}, {5, -1.5f}}}; }

TEST(Choice, TokensComeWithTheirText) {
  Choice choice(Model(), {.stop = {"STOP"}, .keep_tokens = true, .offset = 10});
  Delta all;
  std::string raw;
  for (int32_t id : Ids("An old €uro, STOP and more")) {
    raw += Model().TokenBytes(id);
    Delta d = choice.Push(TokenOf(id));
    all.content += d.content;
    all.tokens.insert(all.tokens.end(), d.tokens.begin(), d.tokens.end());
    if (choice.stopped()) break;
  }
  Delta rest = choice.Finish();
  EXPECT_TRUE(rest.empty());
  EXPECT_TRUE(choice.stopped());
  EXPECT_EQ(all.content, "An old €uro, ");
  std::string bytes;
  for (const ShownToken& t : all.tokens) {
    EXPECT_EQ(t.offset, 10 + CountCharacters(bytes));
    bytes += Model().TokenBytes(t.token.id);
  }
  // The tokens of what was cut off are not shown, but for one that begins before it.
  EXPECT_EQ(bytes.substr(0, all.content.size()), all.content);
  EXPECT_LT(bytes.size(), raw.size());
}

TEST(Choice, CountsTheTokensOfReasoning) {
  const std::vector<int32_t> ids = Ids("a b</think>c d");
  Choice thinks(Model(), {.start = Start::kThinking}), plain(Model(), {.start = Start::kMayThink});
  for (int32_t id : ids) {
    thinks.Push(TokenOf(id));
    plain.Push(TokenOf(id));
  }
  EXPECT_EQ(thinks.tokens(), static_cast<int64_t>(ids.size()));
  EXPECT_GT(thinks.reasoning_tokens(), 0);
  EXPECT_LT(thinks.reasoning_tokens(), thinks.tokens());
  EXPECT_EQ(plain.reasoning_tokens(), 0);
}

TEST(LogprobsJson, BothForms) {
  const std::vector<int32_t> ids = Ids("Once €");
  std::vector<ShownToken> tokens;
  for (int32_t id : ids) tokens.push_back({TokenOf(id), static_cast<int64_t>(tokens.size())});
  tokens[0].token.logprob = -std::numeric_limits<float>::infinity();
  std::string chat, legacy;
  AppendChatLogprobs(chat, Model(), tokens);
  AppendLegacyLogprobs(legacy, Model(), tokens);
  const json c = json::parse(chat), l = json::parse(legacy);
  ASSERT_EQ(c["content"].size(), ids.size());
  EXPECT_EQ(c["content"][0]["logprob"], -9999.0);
  EXPECT_EQ(c["content"][0]["token"], std::string(Model().TokenBytes(ids[0])));
  EXPECT_EQ(c["content"][1]["top_logprobs"].size(), 2u);
  std::string bytes;
  for (const json& entry : c["content"]) {
    for (const json& b : entry["bytes"]) bytes += static_cast<char>(b.get<int>());
  }
  EXPECT_EQ(bytes, "Once €");
  for (const char* key : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    EXPECT_EQ(l[key].size(), ids.size());
  EXPECT_EQ(l["top_logprobs"][1][l["tokens"][1].get<std::string>()], -0.5);
  EXPECT_EQ(l["text_offset"].back(), ids.size() - 1);
}

TEST(LogprobsJson, TheFirstTokenOfAPromptHasNone) {
  const std::vector<int32_t> ids = {0, 300, 301};
  const std::vector<engine::Token> known = {TokenOf(300), TokenOf(301)};
  std::string text;
  AppendLegacyLogprobs(text, Model(), PromptTokens(Model(), true, ids, known));
  const json l = json::parse(text);
  EXPECT_TRUE(l["token_logprobs"][0].is_null());
  EXPECT_TRUE(l["top_logprobs"][0].is_null());
  EXPECT_EQ(l["token_logprobs"][2], -0.5);
  EXPECT_EQ(l["text_offset"][1], 0);  // the token before it is special: no text
  EXPECT_EQ(l["text_offset"][2], CountCharacters(Model().TokenBytes(300)));
}

TEST(JsonText, IsReadBackAsItWas) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "€\U0001F600";
  EXPECT_EQ(json::parse(Quoted(all)).get<std::string>(), all);
  EXPECT_EQ(json::parse(Quoted("a\xff\xe2\x82")).get<std::string>(), "a\uFFFD\uFFFD");
  std::string numbers = "[";
  AppendLogprob(numbers, -0.1f);
  numbers += ',';
  AppendLogprob(numbers, std::numeric_limits<float>::quiet_NaN());
  const json j = json::parse(numbers + "]");
  EXPECT_EQ(j[0].get<float>(), -0.1f);
  EXPECT_TRUE(j[1].is_null());
}

TEST(ApiKeysTest, OnlyTheWholeKey) {
  const ApiKeys keys({"secret", "other"});
  for (std::string_view allowed : {"Bearer secret", "bearer other", "Bearer  secret "})
    EXPECT_TRUE(keys.Allows(allowed));
  for (std::string_view refused : {"", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets",
                                   "Bearer secretsecret", "Basic secret", "Bearer SECRET"}) {
    EXPECT_FALSE(keys.Allows(refused)) << refused;
  }
  EXPECT_TRUE(ApiKeys({}).Allows(""));
}

TEST(ApiErrorTest, HasOpenAisForm) {
  const net::HttpResponse r = ErrorResponse(BadField("messages[0]", "no \"good\"", "bad"));
  EXPECT_EQ(r.status, 400);
  const json e = json::parse(r.body)["error"];
  EXPECT_EQ(e["message"], "no \"good\"");
  EXPECT_EQ(e["type"], "invalid_request_error");
  EXPECT_EQ(e["param"], "messages[0]");
  EXPECT_EQ(e["code"], "bad");
  EXPECT_TRUE(json::parse(ErrorJson(BadField("", "x")))["error"]["param"].is_null());
  EXPECT_FALSE(net::Find(ErrorResponse(QueueFull()).headers, "Retry-After").empty());
  EXPECT_EQ(ErrorResponse(Draining()).status, 503);
}

TEST(MetricsTest, HistogramsAreCumulative) {
  Histogram h({1, 2});
  for (double v : {0.5, 1.0, 1.5, 7.0}) h.Observe(v);
  std::string text;
  h.Append(text, "x", "help", "a=\"b\"");
  EXPECT_NE(text.find("fathom:x_bucket{a=\"b\",le=\"1\"} 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("fathom:x_bucket{a=\"b\",le=\"2\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("fathom:x_bucket{a=\"b\",le=\"+Inf\"} 4\n"), std::string::npos) << text;
  EXPECT_NE(text.find("fathom:x_sum{a=\"b\"} 10\nfathom:x_count{a=\"b\"} 4\n"), std::string::npos) << text;
}

TEST(MetricsTest, EveryLineIsACommentOrASample) {
  Metrics m("a \"name\"\\");
  m.CountResponse("/v1/completions", "POST", 200);
  std::istringstream text(m.Text({}, {}, 5));
  std::string line;
  int samples = 0;
  while (std::getline(text, line)) {
    if (line.rfind("# ", 0) == 0) continue;
    ++samples;
    const size_t blank = line.rfind(' ');
    ASSERT_NE(blank, std::string::npos);
    EXPECT_NO_THROW(std::stod(line.substr(blank + 1))) << line;
    EXPECT_TRUE(line.rfind("fathom:", 0) == 0 || line.rfind("process_", 0) == 0) << line;
  }
  EXPECT_GT(samples, 100);
}

TEST(AccessLogTest, LinesAreJson) {
  std::string path = (std::filesystem::temp_directory_path() / "fathom_log_XXXXXX").string();
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  {
    AccessLog log(path);
    AccessEntry e;
    e.time = 1.25;
    e.path = "/a\"\n\xff";
    e.status = 200;
    log.Add(e);
    e.prompt_tokens = 3;
    e.finish_reason = "stop";
    log.Add(e);
  }
  std::ifstream in(path);
  std::string line;
  std::vector<json> lines;
  while (std::getline(in, line)) lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["time"], "1970-01-01T00:00:01.250Z");
  EXPECT_FALSE(lines[0].contains("prompt_tokens"));
  EXPECT_EQ(lines[1]["prompt_tokens"], 3);
  EXPECT_EQ(lines[1]["finish_reason"], "stop");
  std::filesystem::remove(path);
  EXPECT_THROW(AccessLog("/nonexistent-folder/log"), Error);
}

TEST(WorkQueueThread, DoesEverythingAndRefusesTooMuch) {
  std::atomic<int> done{0};
  std::atomic<bool> go{false};
  {
    WorkQueue queue(2, 4);
    const auto work = [&] {
      while (!go) std::this_thread::yield();
      ++done;
    };
    int posted = 0;
    while (queue.Post(work)) ++posted;
    EXPECT_GE(posted, 4);
    EXPECT_LE(posted, 6);
    go = true;
    while (done < posted) std::this_thread::yield();
    EXPECT_TRUE(queue.Post(work));
  }
  EXPECT_GE(done, 5);
}

}  // namespace
}  // namespace fathom::server
