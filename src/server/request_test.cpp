// Bodies that are no requests, fields of the wrong kind, and what becomes of the right ones.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/test_error.h"
#include "server/test_model.h"

namespace fathom::server {
namespace {

ApiError BadBody(std::string_view body) {
  return ErrorOf([&] { ParseBody(body); });
}
ApiError BadChat(const std::string& fields) {
  return ErrorOf([&] {
    ReadChat(
        ParseBody(R"({"messages": [{"role": "user", "content": "x"}])" + (fields.empty() ? "" : ", " + fields) + "}"),
        Model());
  });
}
ApiError BadMessages(const std::string& messages) {
  return ErrorOf([&] { ReadChat(ParseBody(R"({"messages": )" + messages + "}"), Model()); });
}
ApiError BadCompletion(const std::string& fields) {
  return ErrorOf([&] { ReadCompletion(ParseBody("{" + fields + "}"), Model()); });
}
ChatRequest Chat(const std::string& fields) {
  return ReadChat(ParseBody(R"({"messages": [{"role": "user", "content": "x"}], )" + fields + "}"), Model());
}
CompletionRequest Completion(const std::string& fields) {
  return ReadCompletion(ParseBody("{" + fields + "}"), Model());
}

TEST(RequestBody, MustBeOneJsonObject) {
  for (std::string_view body :
       {"", " ", "{", "[]", "null", "3", "\"text\"", "{} {}", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "{\"a\":01}",
        "{\"a\":1e999}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\x01\"}"}) {
    const ApiError e = BadBody(body);
    EXPECT_EQ(e.status, 400) << body;
    EXPECT_EQ(e.code, "invalid_json") << body;
  }
  EXPECT_EQ(BadBody("{\"a\": [1, {\"b\": null}]}").status, 0);
}

TEST(RequestBody, MustBeUtf8) {
  for (std::string_view text : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x82", "\xf5\x80\x80\x80"}) {
    EXPECT_NE(BadBody(fmt::format("{{\"a\":\"{}\"}}", text)).message.find("UTF-8"), std::string::npos);
  }
  EXPECT_EQ(BadBody("{\"a\":\"\xe2\x82\xac\"}").status, 0);
}

TEST(RequestBody, KeysAppearOnce) {
  EXPECT_NE(BadBody(R"({"a": 1, "b": 2, "a": 3})").message.find("\"a\" twice"), std::string::npos);
  EXPECT_NE(BadBody(R"({"x": [{"a": 1, "\u0061": 2}]})").message.find("\"a\" twice"), std::string::npos);
  EXPECT_EQ(BadBody(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})").status, 0);
}

TEST(RequestBody, NestingAndCountsAreBounded) {
  const auto nested = [](size_t depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(BadBody(nested(kMaxDepth)).status, 0);
  EXPECT_EQ(BadBody(nested(kMaxDepth + 1)).status, 400);
  EXPECT_EQ(BadBody(nested(10'000)).status, 400);
  EXPECT_EQ(BadBody("{\"a\":" + std::string(1'000'000, '[')).status, 400);
  std::string objects;
  for (int i = 0; i < 10'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(BadBody(objects).status, 400);
  std::string containers = "{\"a\":[[]";
  for (size_t i = 0; i < kMaxContainers; ++i) containers += ",[]";
  EXPECT_NE(BadBody(containers + "]}").message.find("objects and arrays"), std::string::npos);
}

TEST(Request, WrongTypesAndRangesNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {"temperature", R"("temperature": "hot")"},
      {"temperature", R"("temperature": -0.1)"},
      {"temperature", R"("temperature": 2.1)"},
      {"top_p", R"("top_p": 1.5)"},
      {"top_k", R"("top_k": -2)"},
      {"top_k", R"("top_k": 1.5)"},
      {"min_p", R"("min_p": 1.5)"},
      {"repetition_penalty", R"("repetition_penalty": 0)"},
      {"presence_penalty", R"("presence_penalty": 3)"},
      {"frequency_penalty", R"("frequency_penalty": [])"},
      {"n", R"("n": 0)"},
      {"n", R"("n": 129)"},
      {"n", R"("n": true)"},
      {"seed", R"("seed": "x")"},
      {"seed", R"("seed": 99999999999999999999)"},
      {"stream", R"("stream": 1)"},
      {"stream_options", R"("stream_options": {"include_usage": true})"},
      {"stream_options.include_usage", R"("stream": true, "stream_options": {"include_usage": "yes"})"},
      {"max_tokens", R"("max_tokens": 0)"},
      {"max_completion_tokens", R"("max_completion_tokens": 0)"},
      {"stop", R"("stop": 5)"},
      {"stop", R"("stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])"},
      {"stop[1]", R"("stop": ["a", ""])"},
      {"stop[0]", R"("stop": [3])"},
      {"stop_token_ids", R"("stop_token_ids": 4)"},
      {"stop_token_ids[1]", R"("stop_token_ids": [4, 4096])"},
      {"logit_bias", R"("logit_bias": [1])"},
      {"logit_bias.x", R"("logit_bias": {"x": 1})"},
      {"logit_bias.4096", R"("logit_bias": {"4096": 1})"},
      {"logit_bias.5", R"("logit_bias": {"5": 101})"},
      {"logprobs", R"("logprobs": 3)"},
      {"top_logprobs", R"("top_logprobs": 3)"},
      {"top_logprobs", R"("logprobs": true, "top_logprobs": 21)"},
      {"ignore_eos", R"("ignore_eos": "no")"},
      {"priority", R"("priority": 1e300)"},
      {"chat_template_kwargs.thinking", R"("chat_template_kwargs": {"thinking": 1})"},
      {"thinking.type", R"("thinking": {"type": "maybe"})"},
      {"model", R"("model": 5)"},
  };
  for (const auto& [field, text] : cases) {
    const ApiError e = BadChat(text);
    EXPECT_EQ(e.status, 400) << text;
    EXPECT_EQ(e.param, field) << text << ": " << e.message;
    EXPECT_NE(e.message.find(field), std::string::npos) << text << ": " << e.message;
  }
}

TEST(Request, NullIsAbsent) {
  const ChatRequest r = Chat(
      R"("temperature": null, "n": null, "stop": null, "tools": null, "max_tokens": null, "stream_options": null)");
  EXPECT_EQ(r.common.n, 1);
  EXPECT_FALSE(r.common.max_tokens);
}

TEST(Request, UnknownFieldsAreIgnoredAndUnbuiltOnesRefused) {
  EXPECT_EQ(BadChat(R"("user": "me", "metadata": {"a": []}, "tools": [], "suffix": "", "best_of": 1,
                       "tool_choice": "auto", "response_format": {"type": "text"}, "min_tokens": 0)")
                .status,
            0);
  const std::pair<const char*, const char*> cases[] = {
      {"functions", R"("functions": [{"name": "f"}])"},
      {"function_call", R"("function_call": {"name": "f"})"},
      {"response_format.type", R"("response_format": {"type": "structural_tag"})"},
      {"best_of", R"("best_of": 2)"},
      {"suffix", R"("suffix": "end")"},
      {"min_tokens", R"("min_tokens": 3)"},
      {"modalities", R"("modalities": ["text", "audio"])"},
      {"continue_final_message", R"("continue_final_message": true)"},
  };
  for (const auto& [field, text] : cases) {
    const ApiError e = BadChat(text);
    EXPECT_EQ(e.status, 400) << text;
    EXPECT_EQ(e.param, field) << text;
    EXPECT_EQ(e.code, "unsupported_parameter") << text;
  }
}

TEST(Request, Messages) {
  const std::pair<const char*, const char*> cases[] = {
      {"messages", "[]"},
      {"messages", "\"hello\""},
      {"messages[0]", "[1]"},
      {"messages[0].role", "[{\"content\": \"x\"}]"},
      {"messages[1].role", R"([{"role": "user", "content": ""}, {"role": "wizard", "content": "x"}])"},
      {"messages[0].role", R"([{"role": "function", "content": "x"}])"},
      {"messages[1].tool_call_id",
       R"([{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "a", "content": "x"}])"},
      {"messages[0].content", R"([{"role": "user"}])"},
      {"messages[0].content", R"([{"role": "user", "content": 5}])"},
      {"messages[0].content[1].type",
       R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}])"},
      {"messages[0].content[0].type", R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])"},
      {"messages[0].content[0].text", R"([{"role": "user", "content": [{"type": "text"}]}])"},
      {"messages[0].prefix", R"([{"role": "assistant", "content": "a", "prefix": true}])"},
      {"messages[0].tool_calls[0].function", R"([{"role": "assistant", "tool_calls": [{}]}])"},
      {"messages[0].tool_calls[0].function.name", R"([{"role": "assistant", "tool_calls": [{"function": {}}]}])"},
  };
  for (const auto& [field, text] : cases) EXPECT_EQ(BadMessages(text).param, field) << text;
  const ChatRequest r = ReadChat(ParseBody(R"({"messages": [
      {"role": "developer", "content": "d", "name": "x"}, {"role": "assistant", "content": null},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})"),
                                 Model());
  EXPECT_EQ(r.messages.dump(),
            R"([{"role":"system","content":"d"},{"role":"assistant","content":""},{"role":"user","content":"a\nb"}])");
}

TEST(Request, FieldsReachTheEngine) {
  const ChatRequest r =
      Chat(R"("model": "other-name", "stream": true, "stream_options": {"include_usage": true}, "n": 3,
      "seed": -1, "temperature": 0, "top_p": 0.5, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1,
      "presence_penalty": -2, "frequency_penalty": 2, "logit_bias": {"7": -100, "8": 2.5}, "stop": "end",
      "stop_token_ids": [9], "logprobs": true, "top_logprobs": 20, "max_tokens": 5, "max_completion_tokens": 6,
      "priority": 3, "cache_salt": "s", "chat_template_kwargs": {"thinking": true})");
  const GenerationFields& g = r.common;
  const engine::SamplingParams& s = g.request.sampling;
  EXPECT_EQ(g.model, "other-name");
  EXPECT_TRUE(g.stream && g.include_usage && g.seeded && r.thinking && r.logprobs);
  EXPECT_EQ(g.n, 3);
  EXPECT_EQ(s.seed, UINT64_MAX);
  EXPECT_EQ(s.temperature, 0);
  EXPECT_EQ(s.top_p, 0.5);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.min_p, 0.1);
  EXPECT_EQ(s.repetition_penalty, 1.1);
  EXPECT_EQ(s.presence_penalty, -2);
  EXPECT_EQ(s.frequency_penalty, 2);
  using Bias = std::pair<int32_t, float>;
  EXPECT_EQ(s.logit_bias, (std::vector<Bias>{{7, -100.0f}, {8, 2.5f}}));
  EXPECT_EQ(g.stop, std::vector<std::string>{"end"});
  EXPECT_EQ(g.request.eos_ids, (std::vector<int32_t>{1, 9}));
  EXPECT_EQ(g.request.logprobs, 20);
  EXPECT_EQ(g.max_tokens, 6);
  EXPECT_EQ(g.request.priority, -3);  // lower goes first here, higher in the engine
  EXPECT_NE(g.request.cache_scope, 0u);
  EXPECT_TRUE(Chat(R"("ignore_eos": true)").common.request.eos_ids.empty());
  EXPECT_NE(Chat(R"("n": 1)").common.request.sampling.seed, Chat(R"("n": 1)").common.request.sampling.seed);
}

TEST(Request, UnknownModelIs404) {
  const ApiError e = BadChat(R"("model": "gpt-4")");
  EXPECT_EQ(e.status, 404);
  EXPECT_EQ(e.code, "model_not_found");
  EXPECT_EQ(e.param, "model");
}

TEST(Request, Prompts) {
  const std::pair<const char*, const char*> cases[] = {
      {"prompt", R"("n": 1)"},
      {"prompt", R"("prompt": 5)"},
      {"prompt", R"("prompt": [])"},
      {"prompt[0]", R"("prompt": [[]])"},
      {"prompt[1]", R"("prompt": [5, "x"])"},
      {"prompt[1]", R"("prompt": [5, 4096])"},
      {"prompt[1][0]", R"("prompt": [[5], [-1]])"},
      {"prompt[1]", R"("prompt": ["a", 5])"},
      {"prompt[0]", R"("prompt": [{}])"},
      {"logprobs", R"("prompt": "x", "logprobs": 21)"},
      {"logprobs", R"("prompt": "x", "logprobs": true)"},
      {"max_tokens", R"("prompt": "x", "max_tokens": 0)"},
      {"echo", R"("prompt": "x", "echo": "yes")"},
  };
  for (const auto& [field, text] : cases) {
    const ApiError e = BadCompletion(text);
    EXPECT_EQ(e.status, 400) << text;
    EXPECT_EQ(e.param, field) << text;
  }
  EXPECT_EQ(Completion(R"("prompt": "x")").prompts, std::vector<Prompt>{std::string("x")});
  EXPECT_EQ(Completion(R"("prompt": "x")").common.max_tokens, 16);
  EXPECT_EQ(Completion(R"("prompt": [1, 2.0])").prompts, (std::vector<Prompt>{std::vector<int32_t>{1, 2}}));
  const CompletionRequest r = Completion(R"("prompt": ["a", [3]], "echo": true, "logprobs": 0, "max_tokens": 0)");
  EXPECT_EQ(r.prompts, (std::vector<Prompt>{std::string("a"), std::vector<int32_t>{3}}));
  EXPECT_TRUE(r.echo && r.is_list && r.common.request.prompt_logprobs);
  EXPECT_EQ(r.common.request.logprobs, 0);
  EXPECT_EQ(r.common.max_tokens, 0);
  std::string many = "\"n\": 128, \"prompt\": [\"a\"";
  for (int64_t i = 0; i < kMaxAnswers / 128; ++i) many += ", \"a\"";
  EXPECT_EQ(BadCompletion(many + "]").param, "prompt");
}

TEST(Request, LongTextsAreRefusedUnread) {
  const ServedModel& m = Model();
  const std::string text(static_cast<size_t>(m.longest_token * m.max_context) + 1, 'a');
  const ApiError e = ErrorOf([&] { m.Encode(text, true, "prompt"); });
  EXPECT_EQ(e.code, "context_length_exceeded");
  EXPECT_EQ(e.param, "prompt");
  EXPECT_EQ(ErrorOf([&] { m.CheckLength(65, "prompt"); }).code, "context_length_exceeded");
  EXPECT_EQ(ErrorOf([&] { m.CheckLength(64, "prompt"); }).status, 0);
}

TEST(Request, WithoutATemplateChatSaysSo) {
  ServedModel m = TestModel();
  m.chat.reset();
  m.text.chat_template.reset();
  m.Prepare(std::nullopt);
  const ApiError e = ErrorOf([&] { m.RenderChat(nlohmann::ordered_json::array(), false, true); });
  EXPECT_EQ(e.status, 400);
  EXPECT_EQ(e.code, "completion_only");
}

}  // namespace
}  // namespace fathom::server
