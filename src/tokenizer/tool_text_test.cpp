// Conversations with tools: the wire formats, and that each prompt begins with the one before it and its answer.
#include "tokenizer/tool_text.h"

#include "tokenizer/test_files.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

const char kBegin[] = "<｜begin▁of▁sentence｜>", kEnd[] = "<｜end▁of▁sentence｜>";

Json Tools() {
  return Json::parse(R"([{"type": "function", "function": {"name": "get_weather", "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "now"}}])");
}

Json Call(const std::string& name, const std::string& arguments) {
  return {{"type", "function"}, {"id", "c1"}, {"function", {{"name", name}, {"arguments", arguments}}}};
}

std::string Prompt(const ChatTemplate& t, const Json& messages, const Json& tools, bool thinking = false) {
  return RenderToolChat(t, messages, {.bos_token = kBegin, .eos_token = kEnd, .thinking = thinking, .tools = &tools})
      .Value();
}

TEST(ToolText, Calls) {
  const Json calls = Json::array({Call("f", "{\"x\":  1}"), Call("g", "{}")});
  EXPECT_EQ(CallsText(ToolFormat::kV3, calls),
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"x\":  "
            "1}\n```<｜tool▁call▁end｜>\n"
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  EXPECT_EQ(CallsText(ToolFormat::kV31, calls),
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\":  1}<｜tool▁call▁end｜>"
            "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  const Json object = Json::parse(R"([{"function": {"name": "f", "arguments": {"x": [1, 2.0]}}}])");
  EXPECT_NE(CallsText(ToolFormat::kV31, object).find(R"({"x": [1, 2.0]})"), std::string::npos);
}

TEST(ToolText, TheSystemPromptNamesEveryTool) {
  for (const ChatTemplate& t :
       {ChatTemplate(ChatTemplate::kV3), ChatTemplate(ChatTemplate::kR1), ChatTemplate(ChatTemplate::kV31)}) {
    const std::string text =
        Prompt(t, Json::parse(R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}])"), Tools());
    EXPECT_TRUE(text.starts_with(std::string(kBegin) + "Be brief.\n\n## Tools\n")) << text;
    for (const char* part : {"get_weather", "The weather.", "\"city\"", "now", "<｜User｜>Hi<｜Assistant｜>"})
      EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

// What the model is asked and answers, turn by turn; the next prompt holds it all to the byte.
TEST(ToolText, EachPromptBeginsWithTheOneBeforeAndItsAnswer) {
  struct Case {
    ChatTemplate chat;
    ToolFormat format;
  };
  for (const Case& c : {Case{ChatTemplate::kV3, ToolFormat::kV3}, Case{ChatTemplate::kR1, ToolFormat::kV3},
                        Case{ChatTemplate::kV31, ToolFormat::kV31}}) {
    Json messages = Json::parse(R"([{"role":"user","content":"Weather in A and B?"}])");
    const auto answer = [&](const Json& content, const Json& calls) {
      const std::string before = Prompt(c.chat, messages, Tools());
      Json m = {{"role", "assistant"}, {"content", content}};
      if (!calls.empty()) m["tool_calls"] = calls;
      messages.push_back(m);
      const std::string text = before + (content.is_string() ? content.get<std::string>() : "") +
                               (calls.empty() ? "" : CallsText(c.format, calls)) + kEnd;
      const std::string after = Prompt(c.chat, messages, Tools());
      EXPECT_TRUE(after.starts_with(text)) << after << "\nshould begin with\n" << text;
    };
    answer(nullptr, Json::array({Call("get_weather", "{\"city\":\"A\"}"), Call("get_weather", "{\"city\": \"B\"}")}));
    messages.push_back({{"role", "tool"}, {"content", "21"}});
    messages.push_back({{"role", "tool"}, {"content", "22"}});
    answer("Let me see.", Json::array({Call("now", "{}")}));
    messages.push_back({{"role", "tool"}, {"content", "noon"}});
    answer("Warm.", Json::array());
    messages.push_back({{"role", "user"}, {"content", "Thanks"}});
    answer("", Json::array({Call("now", "{ }")}));
    messages.push_back({{"role", "tool"}, {"content", "one"}});
    answer("Bye.", Json::array());
  }
}

TEST(ToolText, ThinkingAndErrors) {
  const Json user = Json::parse(R"([{"role":"user","content":"x"}])");
  EXPECT_TRUE(Prompt(ChatTemplate::kV31, user, Tools(), true).ends_with("<｜Assistant｜><think>"));
  EXPECT_TRUE(Prompt(ChatTemplate::kV31, user, Tools()).ends_with("<｜Assistant｜><think></think>"));
  const Json tools = Tools();
  EXPECT_FALSE(RenderToolChat(ChatTemplate::kV2, user, {.tools = &tools}).ok());
  for (const char* bad :
       {R"([{"role":"wizard","content":"x"}])", R"([{"role":"tool"}])", R"([{"role":"assistant","tool_calls":[{}]}])"})
    EXPECT_FALSE(RenderToolChat(ChatTemplate::kV3, Json::parse(bad), {.tools = &tools}).ok()) << bad;
}

// A template that says nothing of tools but has the format in its history: the tools are told of as for that format.
TEST(ToolText, AJinjaTemplateWithoutTools) {
  FATHOM_NEEDS_SHARED("deepseek-v3.tokenizer_config.json");
  const std::string source =
      Json::parse(ReadTextFile(SharedTokenizerFile("deepseek-v3.tokenizer_config.json"), 1 << 20)).at("chat_template");
  const ChatTemplate t = ReadChatTemplate(source + " ").Value(), changed = ReadChatTemplate(source + "{# x #}").Value();
  EXPECT_EQ(t, ChatTemplate::kV3);
  ASSERT_EQ(changed.kind(), ChatTemplate::kJinja);
  const Json user = Json::parse(R"([{"role":"user","content":"x"}])");
  EXPECT_EQ(Prompt(changed, user, Tools()), Prompt(t, user, Tools()));
}

}  // namespace
}  // namespace fathom::tokenizer
