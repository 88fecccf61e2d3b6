// DeepSeek's, Anthropic's and OpenAI's other requests: what is read from them, what is refused, and in whose words.
#include <gtest/gtest.h>

#include <algorithm>

#include "server/chat_reply.h"
#include "server/completion_reply.h"
#include "server/messages_request.h"
#include "server/responses_request.h"
#include "server/test_error.h"
#include "server/test_model.h"

namespace fathom::server {
namespace {

using nlohmann::json;

ServedModel ModelWith(const std::string& chat_template) {
  ServedModel m = TestModel();
  m.Prepare(chat_template);
  m.max_context = 512;
  return m;
}

std::string PromptOf(const ServedModel& m, const ChatRequest& r) {
  return m.text.tokenizer.Decode(EncodeChat(m, r).ids, false);
}
ReasoningSplitter::Start StartOf(const ServedModel& m, const ChatRequest& r) { return EncodeChat(m, r).start; }

ChatRequest BetaChat(const ServedModel& m, const std::string& last) {
  return ReadChat(ParseBody(R"({"messages": [{"role": "user", "content": "Write."}, )" + last + "]}"), m, true);
}

TEST(Prefix, TheAnswerGoesOnFromIt) {
  const ServedModel v3 = ModelWith("v3"), r1 = ModelWith("r1"), v31 = ModelWith("v3.1");
  const std::string content = R"({"role": "assistant", "prefix": true, "content": "```python\n"})";
  const std::string thought = R"({"role": "assistant", "prefix": true, "content": "", "reasoning_content": "Well"})";
  const std::string both = R"({"role": "assistant", "prefix": true, "content": "So", "reasoning_content": "Well"})";
  const auto ends = [](const std::string& text, const std::string& end) {
    return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
  };
  for (const ServedModel* m : {&v3, &r1}) {
    const ChatRequest r = BetaChat(*m, content);
    EXPECT_TRUE(ends(PromptOf(*m, r), "Write.<｜Assistant｜>```python\n")) << PromptOf(*m, r);
    EXPECT_EQ(StartOf(*m, r), ReasoningSplitter::Start::kAnswering);
  }
  EXPECT_TRUE(ends(PromptOf(v31, BetaChat(v31, content)), "<｜Assistant｜><think></think>```python\n"));
  EXPECT_TRUE(ends(PromptOf(r1, BetaChat(r1, thought)), "<｜Assistant｜><think>\nWell"));
  EXPECT_EQ(StartOf(r1, BetaChat(r1, thought)), ReasoningSplitter::Start::kThinking);
  EXPECT_TRUE(ends(PromptOf(r1, BetaChat(r1, both)), "<think>\nWell\n</think>\n\nSo"));
  EXPECT_TRUE(ends(PromptOf(v31, BetaChat(v31, thought)), "<｜Assistant｜><think>Well"));
  EXPECT_TRUE(ends(PromptOf(v31, BetaChat(v31, both)), "<think>Well</think>So"));
  EXPECT_EQ(StartOf(v31, BetaChat(v31, both)), ReasoningSplitter::Start::kAnswering);
  EXPECT_EQ(ErrorOf([&] { EncodeChat(v3, BetaChat(v3, thought)); }).status, 400);
}

TEST(Prefix, IsTheLastMessageOfTheAssistantUnderBeta) {
  const auto refused = [](const std::string& messages, bool beta) {
    return ErrorOf([&] { ReadChat(ParseBody(R"({"messages": )" + messages + "}"), Model(), beta); });
  };
  const std::string user = R"({"role": "user", "content": "x"})";
  const std::string prefix = R"({"role": "assistant", "content": "x", "prefix": true})";
  EXPECT_EQ(refused("[" + user + "," + prefix + "]", true).status, 0);
  const ApiError stable = refused("[" + user + "," + prefix + "]", false);
  EXPECT_EQ(stable.param, "messages[1].prefix");
  EXPECT_NE(stable.message.find("/beta"), std::string::npos);
  EXPECT_EQ(refused("[" + prefix + "," + user + "]", true).param, "messages[0].prefix");
  EXPECT_EQ(refused(R"([{"role": "user", "content": "x", "prefix": true}])", true).param, "messages[0].role");
  EXPECT_EQ(refused("[" + prefix + "]", true).param, "messages[0].role");
}

TEST(Completion, SuffixFillsInTheMiddle) {
  const ServedModel& m = Model();
  const CompletionRequest r =
      ReadCompletion(ParseBody(R"({"prompt": "def f():", "suffix": "<｜fim▁end｜> return", "echo": true})"), m, true);
  EXPECT_EQ(r.common.max_tokens, 4096);
  const std::vector<PromptIds> prompts = EncodePrompts(m, r);
  const tokenizer::Tokenizer& t = m.text.tokenizer;
  ASSERT_EQ(prompts.size(), 1u);
  const std::vector<int32_t>& ids = prompts.front().ids;
  EXPECT_EQ(t.Decode(ids, false),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>def f():<｜fim▁hole｜><｜fim▁end｜> return<｜fim▁end｜>");
  const int32_t end = *t.IdOf("<｜fim▁end｜>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 1) << "a name within the suffix is text";
  EXPECT_EQ(ids.back(), end);
  EXPECT_EQ(prompts.front().echo, "def f():");
  EXPECT_EQ(ErrorOf([&] {
              ReadCompletion(ParseBody(R"({"prompt": "a", "suffix": "b", "echo": true, "logprobs": 1})"), m);
            }).param,
            "echo");
  EXPECT_EQ(ErrorOf([&] { ReadCompletion(ParseBody(R"({"prompt": "a", "suffix": 5})"), m); }).param, "suffix");
  EXPECT_EQ(ReadCompletion(ParseBody(R"({"prompt": "a", "suffix": ""})"), m).common.max_tokens, 16);
}

TEST(Request, DeepSeeksTemperatureIsMapped) {
  ServedModel m = TestModel();
  m.deepseek_temperature = true;
  m.defaults.temperature = 0.9;
  const auto temperature = [&](const std::string& fields) {
    return ReadCompletion(ParseBody(R"({"prompt": "x")" + fields + "}"), m).common.request.sampling.temperature;
  };
  EXPECT_DOUBLE_EQ(temperature(""), 0.3);
  EXPECT_DOUBLE_EQ(temperature(R"(, "temperature": 0)"), 0);
  EXPECT_DOUBLE_EQ(temperature(R"(, "temperature": 0.5)"), 0.15);
  EXPECT_DOUBLE_EQ(temperature(R"(, "temperature": 1)"), 0.3);
  EXPECT_DOUBLE_EQ(temperature(R"(, "temperature": 1.5)"), 0.8);
  m.deepseek_temperature = false;
  EXPECT_DOUBLE_EQ(temperature(""), 0.9);
  EXPECT_DOUBLE_EQ(temperature(R"(, "temperature": 1.5)"), 1.5);
}

TEST(Request, UsersHaveCachesOfTheirOwn) {
  const auto scope = [](const std::string& fields) {
    return ReadCompletion(ParseBody(R"({"prompt": "x")" + fields + "}"), Model()).common.request.cache_scope;
  };
  EXPECT_EQ(scope(""), 0u);
  EXPECT_EQ(scope(R"(, "user_id": "")"), 0u);
  EXPECT_NE(scope(R"(, "user_id": "a")"), scope(R"(, "user_id": "b")"));
  EXPECT_NE(scope(R"(, "user_id": "a")"), scope(R"(, "cache_salt": "a")"));
  EXPECT_EQ(ErrorOf([&] { scope(R"(, "user_id": "a b")"); }).param, "user_id");
  EXPECT_EQ(ErrorOf([&] { scope(R"(, "user_id": ")" + std::string(513, 'a') + "\""); }).param, "user_id");
}

ChatRequest MessagesOf(const std::string& fields, const std::string& messages = R"([{"role":"user","content":"x"}])") {
  return ReadMessagesRequest(ParseBody(R"({"max_tokens": 5, "messages": )" + messages + fields + "}"), Model(), true);
}

TEST(Messages, AreReadAsAConversation) {
  const ChatRequest r = MessagesOf(
      R"(, "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
      {"type": "text", "text": "b"}], "stop_sequences": ["END"], "temperature": 0.5, "top_k": 3, "stream": true,
      "metadata": {"user_id": "u"}, "thinking": {"type": "enabled", "budget_tokens": 1024})",
      R"([{"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""},
                                        {"type": "text", "text": "e"}]},
      {"role": "user", "content": "f"}])");
  EXPECT_EQ(r.messages.dump(),
            R"([{"role":"system","content":"a\nb"},{"role":"user","content":"c\nd"},)"
            R"({"role":"assistant","content":"e","reasoning_content":"t"},{"role":"user","content":"f"}])");
  EXPECT_EQ(r.common.stop, std::vector<std::string>{"END"});
  EXPECT_EQ(r.common.max_tokens, 5);
  EXPECT_EQ(r.common.request.sampling.top_k, 3);
  EXPECT_TRUE(r.common.stream && r.thinking);
  EXPECT_TRUE(r.prefix.content.empty());
  const ChatRequest prefilled =
      MessagesOf("", R"([{"role": "user", "content": "x"}, {"role": "assistant", "content": "It"}])");
  EXPECT_EQ(prefilled.prefix.content, "It");
  EXPECT_EQ(prefilled.messages.size(), 1u);
}

TEST(Messages, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> fields[] = {
      {"system", R"(, "system": 5)"},
      {"system[0].type", R"(, "system": [{"type": "image"}])"},
      {"stop_sequences[0]", R"(, "stop_sequences": [5])"},
      {"temperature", R"(, "temperature": 3)"},
      {"thinking.type", R"(, "thinking": {"type": "loud"})"},
      {"thinking.budget_tokens", R"(, "thinking": {"type": "enabled", "budget_tokens": 0})"},
      {"mcp_servers", R"(, "mcp_servers": [{"type": "url"}])"},
      {"n", R"(, "n": 2)"},
  };
  for (const auto& [field, text] : fields) EXPECT_EQ(ErrorOf([&] { MessagesOf(text); }).param, field) << text;
  const std::pair<const char*, const char*> messages[] = {
      {"messages", "[]"},
      {"messages[0].role", R"([{"role": "system", "content": "x"}])"},
      {"messages[0].content", R"([{"role": "user"}])"},
      {"messages[0].content[0].type", R"([{"role": "user", "content": [{"type": "image", "source": {}}]}])"},
      {"messages[0].content[0].type", R"([{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}])"},
      {"messages[0].content[0].text", R"([{"role": "user", "content": [{"type": "text"}]}])"},
  };
  for (const auto& [field, text] : messages) EXPECT_EQ(ErrorOf([&] { MessagesOf("", text); }).param, field) << text;
  const json body = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  EXPECT_EQ(ErrorOf([&] { ReadMessagesRequest(body, Model(), true); }).param, "max_tokens");
  EXPECT_EQ(ErrorOf([&] { ReadMessagesRequest(body, Model(), false); }).status, 0);
}

// Schemas are compiled when the prompt is there, and named as they were sent.
TEST(Messages, SchemasThatAreWrongAreNamed) {
  const auto error = [](const std::string& fields) {
    return ErrorOf([&] {
      ChatRequest r = MessagesOf(fields);
      HoldToForm(Model(), ReasoningSplitter::Start::kAnswering, r);
    });
  };
  const std::string elsewhere = R"({"$ref": "http://elsewhere/"})";
  const ApiError format =
      error(R"(, "output_config": {"format": {"type": "json_schema", "schema": )" + elsewhere + "}}");
  EXPECT_EQ(format.param, "output_config.format.schema");
  EXPECT_EQ(format.message.find("response_format"), std::string::npos) << format.message;
  const ApiError tool = error(R"(, "tools": [{"name": "f", "strict": true, "input_schema": )" + elsewhere +
                              R"(}], "tool_choice": {"type": "any"})");
  EXPECT_EQ(tool.param, "tools[0].input_schema");
  EXPECT_EQ(tool.message.find("function"), std::string::npos) << tool.message;
}

constexpr const char* kWeather =
    R"({"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {"b": {}, "a": {}}}})";

TEST(Messages, ToolsAreFunctions) {
  const std::string body = std::string(R"({"max_tokens": 5, "tools": [)") + kWeather + R"(],
      "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true}, "messages": [
      {"role": "user", "content": "x"},
      {"role": "assistant", "content": [{"type": "text", "text": "t"},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"b": 1, "a": [2]}},
        {"type": "tool_use", "id": "c2", "name": "weather", "input": {}}]},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c2", "content": "two"},
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "one"}]},
        {"type": "text", "text": "and?"}]}]})";
  const ChatRequest r = ReadMessagesRequest(ParseBody(body), Model(), true, body);
  EXPECT_EQ(r.tools.shown.dump(), R"([{"type":"function","function":{"name":"weather","description":"d",)"
                                  R"("parameters":{"type":"object","properties":{"b":{},"a":{}}}}}])");
  EXPECT_EQ(r.tools.choice, ToolChoice::kNamed);
  EXPECT_EQ(r.tools.named, "weather");
  EXPECT_FALSE(r.tools.parallel);
  ASSERT_EQ(r.messages.size(), 5u) << r.messages.dump();
  EXPECT_EQ(r.messages[1]["content"], "t");
  EXPECT_EQ(r.messages[1]["tool_calls"][0]["function"]["arguments"], R"({"b":1,"a":[2]})");
  EXPECT_EQ(r.messages[1]["tool_calls"][1]["id"], "c2");
  EXPECT_EQ(r.messages[2]["content"], "one") << "in the order of the calls";
  EXPECT_EQ(r.messages[3]["content"], "two");
  EXPECT_EQ(r.messages[4].dump(), R"({"role":"user","content":"and?"})");
}

TEST(Messages, WhatIsWrongWithToolsIsNamed) {
  const std::string tools = std::string(R"(, "tools": [)") + kWeather;
  const std::pair<std::string, std::string> fields[] = {
      {"tools[0].name", R"(, "tools": [{"input_schema": {}}])"},
      {"tools[0].input_schema", R"(, "tools": [{"name": "f", "input_schema": 5}])"},
      {"tools[0].type", R"(, "tools": [{"type": "web_search_20250305", "name": "web_search"}])"},
      {"tools[1].name", tools + ", " + kWeather + "]"},
      {"tool_choice.type", tools + R"(], "tool_choice": {"type": "maybe"})"},
      {"tool_choice.name", tools + R"(], "tool_choice": {"type": "tool", "name": "other"})"},
      {"output_config.format.type", R"(, "output_config": {"format": {"type": "poem"}})"},
  };
  for (const auto& [field, text] : fields) EXPECT_EQ(ErrorOf([&] { MessagesOf(text); }).param, field) << text;
  const std::pair<const char*, const char*> messages[] = {
      {"messages[0].content[0].name",
       R"([{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "a b", "input": {}}]}])"},
      {"messages[0].content[0].input",
       R"([{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f"}]}])"},
      {"messages[0].content[0].type",
       R"([{"role": "user", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}])"},
      {"messages[1].content[0].tool_use_id",
       R"([{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
           {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "d", "content": "x"}]}])"},
  };
  for (const auto& [field, text] : messages) EXPECT_EQ(ErrorOf([&] { MessagesOf("", text); }).param, field) << text;
}

ResponsesRequest ResponsesOf(const std::string& fields) {
  return ReadResponses(ParseBody("{" + fields + "}"), Model());
}

TEST(Responses, AreReadAsAConversation) {
  EXPECT_EQ(ResponsesOf(R"("input": "x", "instructions": "i")").chat.messages.dump(),
            R"([{"role":"system","content":"i"},{"role":"user","content":"x"}])");
  const ResponsesRequest r = ResponsesOf(
      R"("input": [{"role": "developer", "content": "a"},
      {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
      {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
      {"role": "user", "content": "d"}], "max_output_tokens": 7, "reasoning": {"effort": "low"}, "store": true,
      "include": ["message.output_text.logprobs"], "top_logprobs": 2, "metadata": {"k": "v"})");
  EXPECT_EQ(r.chat.messages.dump(),
            R"([{"role":"system","content":"a"},{"role":"user","content":"b"},)"
            R"({"role":"assistant","content":"c","reasoning_content":"t"},{"role":"user","content":"d"}])");
  EXPECT_EQ(r.chat.common.max_tokens, 7);
  EXPECT_TRUE(r.chat.thinking);
  EXPECT_EQ(r.chat.common.request.logprobs, 2);
  EXPECT_EQ(r.shown["metadata"]["k"], "v");
  EXPECT_EQ(r.shown["store"], false);
  EXPECT_EQ(r.shown["max_output_tokens"], 7);
}

TEST(Responses, ToolsAndFormats) {
  const ResponsesRequest r = ResponsesOf(R"("input": [{"role": "user", "content": "x"},
      {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
      {"type": "function_call_output", "call_id": "c1", "output": "one"}],
      "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
      "tool_choice": "required", "parallel_tool_calls": false)");
  EXPECT_EQ(r.chat.tools.choice, ToolChoice::kRequired);
  EXPECT_TRUE(r.chat.tools.tools.front().strict);
  EXPECT_FALSE(r.chat.tools.parallel);
  ASSERT_EQ(r.chat.messages.size(), 3u);
  EXPECT_EQ(r.chat.messages[1]["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
  EXPECT_EQ(r.chat.messages[2]["content"], "one");
  EXPECT_EQ(r.shown["tool_choice"], "required");
  EXPECT_FALSE(r.chat.common.structured);
  EXPECT_TRUE(ResponsesOf(R"("input": "x", "text": {"format": {"type": "json_schema", "name": "n",
      "schema": {"type": "object"}, "strict": true}})")
                  .chat.common.structured);
  EXPECT_TRUE(ResponsesOf(R"("input": "x", "text": {"format": {"type": "json_object"}})").chat.common.structured);
  EXPECT_FALSE(ResponsesOf(R"("input": "x", "text": {"format": {"type": "text"}})").chat.common.structured);
}

TEST(Responses, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"input", R"("model": "story")"},
      {"input", R"("input": 5)"},
      {"input", R"("input": [])"},
      {"input[0].type", R"("input": [{"type": "item_reference", "id": "x"}])"},
      {"input[0].role", R"("input": [{"role": "wizard", "content": "x"}])"},
      {"input[0].content[0].type", R"("input": [{"role": "user", "content": [{"type": "input_image"}]}])"},
      {"previous_response_id", R"("input": "x", "previous_response_id": "resp_1")"},
      {"conversation", R"("input": "x", "conversation": "conv_1")"},
      {"background", R"("input": "x", "background": true)"},
      {"truncation", R"("input": "x", "truncation": "auto")"},
      {"max_output_tokens", R"("input": "x", "max_output_tokens": 0)"},
      {"store", R"("input": "x", "store": "no")"},
      {"prompt", R"("input": "x", "prompt": {"id": "p"})"},
      {"top_logprobs", R"("input": "x", "top_logprobs": 21)"},
      {"tools[0].type", R"("input": "x", "tools": [{"type": "web_search"}])"},
      {"tools[0].name", R"("input": "x", "tools": [{"type": "function", "name": "a b"}])"},
      {"tools[0].parameters", R"("input": "x", "tools": [{"type": "function", "name": "f", "parameters": []}])"},
      {"input[0].call_id", R"("input": [{"type": "function_call", "name": "f", "arguments": "{}"}])"},
      {"text.format.type", R"("input": "x", "text": {"format": {"type": "poem"}})"},
  };
  for (const auto& [field, text] : cases) {
    const ApiError e = ErrorOf([&] { ResponsesOf(text); });
    EXPECT_EQ(e.status, 400) << text;
    EXPECT_EQ(e.param, field) << text;
  }
}

TEST(ApiErrorTest, EachApiHasItsForm) {
  struct Case {
    ApiError error;
    int deepseek, anthropic;
    const char *deepseek_type, *anthropic_type;
  };
  ApiError unknown = BadField("model", "no such model", "model_not_found"), key = BadField("", "no key");
  unknown.status = 404;
  key.status = 401;
  const Case cases[] = {
      {BadField("top_p", "top_p is 3"), 422, 400, "invalid_request_error", "invalid_request_error"},
      {BadField("", "no JSON", "invalid_json"), 400, 400, "invalid_request_error", "invalid_request_error"},
      {BadField("messages", "long", "context_length_exceeded"), 400, 400, "invalid_request_error",
       "invalid_request_error"},
      {unknown, 400, 404, "invalid_request_error", "not_found_error"},
      {key, 401, 401, "authentication_error", "authentication_error"},
      {InsufficientBalance(), 402, 402, "unknown_error", "billing_error"},
      {QueueFull(), 429, 429, "rate_limit_error", "rate_limit_error"},
      {ServerFault("x"), 500, 500, "server_error", "api_error"},
      {Overloaded(), 503, 529, "server_error", "overloaded_error"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(ErrorResponse(c.error).status, c.error.status);
    const net::HttpResponse d = ErrorResponse(c.error, Dialect::kDeepSeek);
    EXPECT_EQ(d.status, c.deepseek) << c.error.message;
    const json of_deepseek = json::parse(d.body)["error"];
    EXPECT_EQ(of_deepseek["type"], c.deepseek_type) << c.error.message;
    EXPECT_EQ(of_deepseek["code"], "invalid_request_error");
    EXPECT_EQ(of_deepseek["message"], c.error.message);
    const net::HttpResponse a = ErrorResponse(c.error, Dialect::kAnthropic);
    EXPECT_EQ(a.status, c.anthropic) << c.error.message;
    const json of_anthropic = json::parse(a.body);
    EXPECT_EQ(of_anthropic["type"], "error");
    EXPECT_EQ(of_anthropic["error"]["type"], c.anthropic_type) << c.error.message;
    EXPECT_EQ(of_anthropic["error"]["message"], c.error.message);
  }
}

}  // namespace
}  // namespace fathom::server
