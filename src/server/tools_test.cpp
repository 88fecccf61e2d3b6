// Tools of requests, calls in answers however they are cut, and answers that come back as the tokens they were.
#include "server/tools.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "server/answer_memory.h"
#include "server/call_parser.h"
#include "server/json_body.h"
#include "server/ordered_json.h"
#include "server/test_error.h"
#include "server/test_model.h"
#include "server/tool_grammar.h"

namespace fathom::server {
namespace {

using tokenizer::ToolFormat;
using Ordered = nlohmann::ordered_json;

ToolRequest ReadTools(const std::string& body) {
  const Json json = ParseBody(body);
  return ReadTools(Fields(json), Model(), body);
}

std::string Function(const std::string& name, const std::string& more = "") {
  return R"({"type": "function", "function": {"name": ")" + name + "\"" + more + "}}";
}

TEST(Tools, AreReadInTheirOrder) {
  const ToolRequest r = ReadTools(
      R"({"x": {"tools": 1}, "tools": [)" +
      Function("f", R"(, "parameters": {"type": "object", "b": {"z": 1, "a": [2.5, {"k": null}]}, "a": true})") + "," +
      Function("g", R"(, "strict": true)") + R"(], "parallel_tool_calls": false})");
  ASSERT_EQ(r.tools.size(), 2u);
  EXPECT_EQ(r.tools[0].name, "f");
  EXPECT_TRUE(!r.tools[0].strict && r.tools[1].strict && !r.parallel && r.forced());
  EXPECT_EQ(r.shown[0]["function"]["parameters"].dump(),
            R"({"type":"object","b":{"z":1,"a":[2.5,{"k":null}]},"a":true})");
  EXPECT_EQ(r.parsing(ToolFormat::kV3).names, (std::vector<std::string>{"f", "g"}));
  EXPECT_FALSE(ReadTools("{}").any());
  EXPECT_FALSE(ReadTools(R"({"tools": []})").any());
  EXPECT_TRUE(ReadTools(R"({"tools": [)" + Function("f") + R"(], "tool_choice": "none"})")
                  .parsing(ToolFormat::kV3)
                  .names.empty());
  const ToolRequest named = ReadTools(R"({"tools": [)" + Function("f") + "," + Function("g") +
                                      R"(], "tool_choice": {"type": "function", "function": {"name": "g"}}})");
  EXPECT_EQ(named.choice, ToolChoice::kNamed);
  EXPECT_EQ(named.parsing(ToolFormat::kV3).names, std::vector<std::string>{"g"});
}

TEST(Tools, OrderedMemberIsLinearInKeys) {
  std::string body = "{\"tools\": {";
  for (int i = 0; i < 200'000; ++i) body += fmt::format("{}\"k{}\":{}", i ? "," : "", i, i);
  const Ordered member = OrderedMember(body + "}, \"b\": 1}", "tools");
  EXPECT_EQ(member.size(), 200'000u);
  EXPECT_EQ(OrderedMember("{\"a\": {\"b\": 1}}", "b"), nullptr);
  EXPECT_EQ(OrderedMember("{\"a\": [[], {}, \"x\"], \"b\": -1}", "b"), -1);
}

TEST(Tools, WhatIsWrongIsNamed) {
  const std::string f = Function("f");
  const std::pair<const char*, std::string> cases[] = {
      {"tools", R"({"tools": {}})"},
      {"tools[0]", R"({"tools": [1]})"},
      {"tools[0].type", R"({"tools": [{}]})"},
      {"tools[0].type", R"({"tools": [{"type": "web_search"}]})"},
      {"tools[0].function", R"({"tools": [{"type": "function"}]})"},
      {"tools[0].function.name", R"({"tools": [{"type": "function", "function": {}}]})"},
      {"tools[0].function.name", R"({"tools": [)" + Function("") + "]}"},
      {"tools[0].function.name", R"({"tools": [)" + Function("a b") + "]}"},
      {"tools[0].function.name", R"({"tools": [)" + Function(std::string(65, 'x')) + "]}"},
      {"tools[1].function.name", R"({"tools": [)" + f + "," + f + "]}"},
      {"tools[0].function.parameters", R"({"tools": [)" + Function("f", R"(, "parameters": [])") + "]}"},
      {"tools[0].function.strict", R"({"tools": [)" + Function("f", R"(, "strict": 1)") + "]}"},
      {"tool_choice", R"({"tools": [)" + f + R"(], "tool_choice": "maybe"})"},
      {"tool_choice", R"({"tools": [)" + f + R"(], "tool_choice": 1})"},
      {"tool_choice", R"({"tool_choice": "required"})"},
      {"tool_choice.type", R"({"tools": [)" + f + R"(], "tool_choice": {}})"},
      {"tool_choice.function", R"({"tools": [)" + f + R"(], "tool_choice": {"type": "function"}})"},
      {"tool_choice.function.name",
       R"({"tools": [)" + f + R"(], "tool_choice": {"type": "function", "function": {"name": "g"}}})"},
      {"parallel_tool_calls", R"({"parallel_tool_calls": "x"})"},
  };
  for (const auto& [field, body] : cases) {
    const ApiError e = ErrorOf([&, &b = body] { ReadTools(b); });
    EXPECT_EQ(e.status, 400) << body;
    EXPECT_EQ(e.param, field) << body << ": " << e.message;
  }
  std::string many;
  for (size_t i = 0; i <= kMaxTools; ++i) many += (i ? "," : "") + Function(fmt::format("f{}", i));
  EXPECT_EQ(ErrorOf([&] { ReadTools("{\"tools\": [" + many + "]}"); }).param, "tools");
  ServedModel v2 = TestModel();
  v2.chat = tokenizer::ChatTemplate::kV2;
  const Json json = ParseBody(R"({"tools": [)" + f + "]}");
  const ApiError e = ErrorOf([&] { ReadTools(Fields(json), v2); });
  EXPECT_EQ(e.param, "tools");
  EXPECT_EQ(e.code, "unsupported_parameter");
}

TEST(Tools, ResultsComeInTheOrderOfTheirCalls) {
  Ordered messages = Ordered::parse(
      R"([{"role": "assistant", "content": null, "tool_calls": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}])");
  const auto add = [&](const std::string& message) {
    const Json json = Json::parse(message);
    AddToolResult(Fields(json, "m"), json.value("content", ""), messages);
  };
  add(R"({"tool_call_id": "c", "content": "3"})");
  add(R"({"tool_call_id": "a", "content": "1"})");
  add(R"({"tool_call_id": "b", "content": "2"})");
  EXPECT_EQ(messages[1]["content"], "1");
  EXPECT_EQ(messages[2]["content"], "2");
  EXPECT_EQ(messages[3]["content"], "3");
  EXPECT_EQ(ErrorOf([&] { add(R"({"tool_call_id": "a"})"); }).param, "m.tool_call_id");
  EXPECT_EQ(ErrorOf([&] { add(R"({"tool_call_id": "z"})"); }).param, "m.tool_call_id");
}

struct Parsed {
  std::string content;
  std::vector<CallDelta> calls;  // put together
  size_t pieces = 0;
  bool complete = false;
};

Parsed Parse(ToolFormat format, const std::string& text, size_t step, bool parallel = true) {
  CallParser parser({.format = format, .names = {"f", "get_weather", "get"}, .parallel = parallel});
  Parsed all;
  std::vector<CallDelta> more;
  const auto join = [&] {
    for (const CallDelta& d : more) {
      all.pieces += d.arguments.empty() ? 0 : 1;
      if (d.index == all.calls.size()) {
        EXPECT_FALSE(d.id.empty());
        EXPECT_FALSE(d.name.empty());
        all.calls.push_back(d);
      } else {
        EXPECT_TRUE(d.id.empty() && d.name.empty());
        all.calls.at(d.index).arguments += d.arguments;
      }
    }
    more.clear();
  };
  for (size_t i = 0; i < text.size() && !parser.complete(); i += step) {
    parser.Push(text.substr(i, step), all.content, more);
    join();
  }
  parser.Finish(all.content, more);
  join();
  all.complete = parser.complete();
  EXPECT_EQ(parser.calls(), all.calls.size());
  return all;
}

Ordered Calls(const std::vector<std::pair<std::string, std::string>>& calls) {
  Ordered out = Ordered::array();
  for (const auto& [name, arguments] : calls) out.push_back({{"function", {{"name", name}, {"arguments", arguments}}}});
  return out;
}

TEST(CallParser, CallsHoweverTheTextIsCut) {
  const std::vector<std::pair<std::string, std::string>> calls = {
      {"get_weather", R"({"city": "北京", "x": "a\n``` <｜tool▁call"})"}, {"get", "{}"}, {"f", ""}};
  for (const ToolFormat format : {ToolFormat::kV3, ToolFormat::kV31}) {
    const std::string text = "Let me see.\n<｜tool" + tokenizer::CallsText(format, Calls(calls)) + "ignored";
    std::string first;
    for (size_t step = 1; step <= text.size(); step += step < 20 ? 1 : 13) {
      const Parsed p = Parse(format, text, step);
      EXPECT_EQ(p.content, "Let me see.\n<｜tool") << step;
      ASSERT_EQ(p.calls.size(), 3u) << step;
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(p.calls[i].name, calls[i].first);
        EXPECT_EQ(p.calls[i].arguments, calls[i].second) << step;
      }
      EXPECT_TRUE(p.complete);
      EXPECT_NE(p.calls[0].id, p.calls[1].id);
      EXPECT_TRUE(step > 1 || p.pieces > 20);  // as they come
    }
    EXPECT_EQ(Parse(format, text, 7, /*parallel=*/false).calls.size(), 1u);
  }
}

TEST(CallParser, WhatIsNoCallIsContent) {
  const std::string begin = "<｜tool▁calls▁begin｜>", call = "<｜tool▁call▁begin｜>", sep = "<｜tool▁sep｜>",
                    end = "<｜tool▁call▁end｜>", all = "<｜tool▁calls▁end｜>";
  const std::string texts[] = {
      "no call",
      "<｜tool▁calls",
      begin,
      begin + "hello",
      begin + call,
      begin + call + "get_wea",
      begin + call + "unknown" + sep + "{}" + end + all,
      begin + call + "f f" + sep + "{}",
      begin + call + std::string(200, 'f'),
      begin + begin,
      "a" + begin + "b" + begin + "c",
      sep + end + all,
  };
  for (const std::string& text : texts) {
    for (const size_t step : {size_t{1}, size_t{5}, text.size()}) {
      const Parsed p = Parse(ToolFormat::kV31, text, step);
      EXPECT_EQ(p.content, text) << step;
      EXPECT_TRUE(p.calls.empty()) << text;
    }
  }
  // Behind a good call, and behind a bad one.
  const std::string good = call + "f" + sep + "{}" + end;
  const Parsed after = Parse(ToolFormat::kV31, begin + good + "hm", 3);
  EXPECT_EQ(after.calls.size(), 1u);
  EXPECT_EQ(after.content, "hm");
  const Parsed before = Parse(ToolFormat::kV31, begin + "oh " + begin + good + all, 3);
  EXPECT_EQ(before.calls.size(), 1u);
  EXPECT_EQ(before.content, begin + "oh ");
  // An answer that is cut off within arguments.
  const Parsed cut = Parse(ToolFormat::kV31, begin + call + "f" + sep + "{\"a\": 1<｜to", 2);
  ASSERT_EQ(cut.calls.size(), 1u);
  EXPECT_EQ(cut.calls[0].arguments, "{\"a\": 1<｜to");
  EXPECT_FALSE(cut.complete);
  // Or within a character of the mark behind the list.
  const Parsed within = Parse(ToolFormat::kV31, begin + good + all.substr(0, 1) + "\xEF\xBF\xBD", 3);
  EXPECT_EQ(within.calls.size(), 1u);
  EXPECT_EQ(within.content, "");
  // Without a format nothing is looked for.
  EXPECT_EQ(Parse(ToolFormat::kNone, begin + good, 4).content, begin + good);
}

bool Fits(grammar::Machine& machine, std::string_view text) {
  grammar::Machine::State s = machine.Start();
  for (const char c : text) s = machine.Next(s, static_cast<uint8_t>(c));
  return machine.Accepts(s);
}

TEST(ToolGrammar, CallsByName) {
  const std::string tools = Function("get") + "," +
                            Function("get_weather", R"(, "strict": true, "parameters": {"type": "object", "properties":
      {"city": {"enum": ["A", "B"]}}, "required": ["city"], "additionalProperties": false})");
  const std::string good = R"({"city": "A"})", bad = R"({"city": "C"})";
  for (const ToolFormat format : {ToolFormat::kV3, ToolFormat::kV31}) {
    const auto text = [&](const std::vector<std::pair<std::string, std::string>>& calls) {
      return tokenizer::CallsText(format, Calls(calls));
    };
    const auto required =
        MakeToolMachine(ReadTools("{\"tools\": [" + tools + R"(], "tool_choice": "required"})"), format);
    EXPECT_TRUE(Fits(*required, text({{"get_weather", good}})));
    EXPECT_TRUE(Fits(*required, text({{"get", "{}"}, {"get_weather", good}, {"get", R"({"x": [1]})"}})));
    for (const std::string& wrong : {text({{"get_weather", bad}}), text({{"get", "1"}}), text({{"ge", "{}"}}),
                                     std::string(), std::string("text"), text({{"get", "{}"}}) + " ", text({})})
      EXPECT_FALSE(Fits(*required, wrong)) << wrong;
    const auto named = MakeToolMachine(ReadTools("{\"tools\": [" + tools + R"(], "parallel_tool_calls": false,
               "tool_choice": {"type": "function", "function": {"name": "get"}}})"),
                                       format);
    EXPECT_TRUE(Fits(*named, text({{"get", "{}"}})));
    EXPECT_FALSE(Fits(*named, text({{"get_weather", good}})));
    EXPECT_FALSE(Fits(*named, text({{"get", "{}"}, {"get", "{}"}})));
    const auto automatic = MakeToolMachine(ReadTools("{\"tools\": [" + tools + "]}"), format);
    for (const std::string& right :
         {std::string(), std::string("text <｜tool▁calls <<｜tool▁calls▁begin"), text({{"get_weather", good}}),
          "First <<｜" + text({{"get_weather", good}, {"get", "{}"}})})
      EXPECT_TRUE(Fits(*automatic, right)) << right;
    EXPECT_FALSE(Fits(*automatic, "so: " + text({{"get_weather", bad}})));
    EXPECT_FALSE(Fits(*automatic, text({{"get", "{}"}}) + "more"));
  }
}

TEST(ToolGrammar, SchemasThatCannotBeAreNamed) {
  const auto error = [](const std::string& schema) {
    const ToolRequest r =
        ReadTools(R"({"tools": [)" + Function("f", R"(, "strict": true, "parameters": )" + schema) + "]}");
    return ErrorOf([&] { MakeToolMachine(r, ToolFormat::kV3); });
  };
  EXPECT_EQ(error(R"({"type": "string"})").param, "tools[0].function.parameters");
  EXPECT_EQ(error(R"({"type": "objekt"})").param, "tools[0].function.parameters");
  EXPECT_EQ(error(R"({"type": "object"})").status, 0);
}

TEST(AnswerMemory, TokensComeBack) {
  const tokenizer::Tokenizer& t = Model().text.tokenizer;
  AnswerMemory memory(1000);
  const std::string text = "Once there was a fox.";
  const std::vector<int32_t> usual = t.Encode(text);
  std::vector<int32_t> spelled;  // a token a byte
  for (const char c : text) {
    for (const int32_t id : t.Encode(std::string(1, c))) spelled.push_back(id);
  }
  ASSERT_NE(usual, spelled);
  ASSERT_EQ(t.Decode(spelled), text);
  memory.Remember(t, usual);
  EXPECT_EQ(memory.tokens(), 0u);
  memory.Remember(t, spelled);
  memory.Remember(t, spelled);
  EXPECT_EQ(memory.tokens(), spelled.size());
  EXPECT_EQ(memory.Find(text), spelled);
  EXPECT_FALSE(memory.Find("another"));
  const std::string eos = Model().text.eos_token, prompt = "<｜User｜>Tell.<｜Assistant｜>";
  std::vector<int32_t> expected = t.Encode(prompt);
  expected.insert(expected.end(), spelled.begin(), spelled.end());
  const std::vector<int32_t> rest = t.Encode(eos + "<｜User｜>More.");
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(EncodeConversation(t, &memory, prompt + text + eos + "<｜User｜>More.", eos, {text}), expected);
  // One that the template wrote otherwise keeps its usual tokens.
  const std::string other = prompt + "Another." + eos + "<｜User｜>More.";
  EXPECT_EQ(EncodeConversation(t, &memory, other, eos, {text}), t.Encode(other));
  AnswerMemory small(spelled.size() + 1);
  small.Remember(t, spelled);
  std::vector<int32_t> twice = spelled;
  twice.push_back(spelled.back());
  small.Remember(t, twice);
  EXPECT_FALSE(small.Find(text));
  EXPECT_EQ(small.tokens(), twice.size());
}

}  // namespace
}  // namespace fathom::server
