// Chat templates against vectors rendered by Jinja from the published sources.
#include "tokenizer/chat_template.h"

#include <chrono>
#include <map>

#include "tokenizer/jinja_chat.h"
#include "tokenizer/python_json.h"
#include "tokenizer/test_files.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

const char kBos[] = "<｜begin▁of▁sentence｜>", kEos[] = "<｜end▁of▁sentence｜>";

std::string Render(const ChatTemplate& t, const std::string& messages, bool generation = true, bool thinking = false) {
  return RenderChat(t, Json::parse(messages),
                    {.bos_token = kBos, .eos_token = kEos, .add_generation_prompt = generation, .thinking = thinking})
      .Value();
}

// Rows {template, messages, thinking, add_generation_prompt} with "rendered", or with "error" where Jinja raises one.
void CheckRows(const std::string& file, const std::string& prefix, size_t least) {
  const auto rows = ReadJsonLines(file);
  ASSERT_GE(rows.size(), least);
  for (const Json& row : rows) {
    std::string name = row.at("template");
    if (!prefix.empty()) name = name.substr(prefix.size(), 2);  // deepseek_v3, deepseek_r1_...
    const ChatTemplate t = ChatTemplateFromName(name).Value();
    const Result<std::string> got = RenderChat(t, row.at("messages"),
                                               {.bos_token = kBos,
                                                .eos_token = kEos,
                                                .add_generation_prompt = row.value("add_generation_prompt", false),
                                                .thinking = row.value("thinking", false)});
    if (row.contains("error")) {
      EXPECT_FALSE(got.ok()) << row;
    } else {
      ASSERT_TRUE(got.ok()) << got.error().what() << row;
      ASSERT_EQ(got.Value(), row.at("rendered").get<std::string>()) << row;
    }
  }
}

TEST(ChatTemplate, GoldenRows) { CheckRows(FATHOM_SOURCE_DIR "/tests/golden/tokenizer/chat.jsonl", "", 200); }

TEST(ChatTemplate, PublishedRows) {
  FATHOM_NEEDS_SHARED("vectors/chat.jsonl.gz");
  CheckRows(SharedTokenizerFile("vectors/chat.jsonl.gz"), "", 1000);
  CheckRows(SharedTokenizerFile("vectors/chat_template_vectors.jsonl"), "deepseek_", 20);
}

TEST(ChatTemplate, RenderedTextEncodesToThePublishedIds) {
  FATHOM_NEEDS_SHARED("vectors/chat_template_vectors.jsonl");
  const ModelText v3 = LoadModelText(SharedTokenizerFile("deepseek-v3.tokenizer.json.gz"));
  const ModelText r1 = LoadModelText(SharedTokenizerFile("deepseek-r1.tokenizer.json.gz"));
  for (const Json& row : ReadJsonLines(SharedTokenizerFile("vectors/chat_template_vectors.jsonl"))) {
    const ModelText& model = row.at("template") == "deepseek_v3" ? v3 : r1;
    EXPECT_EQ(model.tokenizer.Encode(row.at("rendered").get<std::string>()), row.at("ids").get<std::vector<TokenId>>())
        << row;
  }
}

std::string TemplateSource(const char* file) {
  const std::string text = ReadTextFile(SharedTokenizerFile(file), 1 << 20);
  return std::string(file).ends_with(".jinja") ? text : Json::parse(text).at("chat_template").get<std::string>();
}

TEST(ChatTemplate, RecognisesThePublishedSources) {
  FATHOM_NEEDS_SHARED("deepseek-v3.tokenizer_config.json");
  const std::string v3 = TemplateSource("deepseek-v3.tokenizer_config.json");
  EXPECT_EQ(ReadChatTemplate(v3).Value(), ChatTemplate::kV3);
  EXPECT_EQ(ReadChatTemplate(TemplateSource("deepseek-r1.tokenizer_config.json")).Value(), ChatTemplate::kR1);
  EXPECT_EQ(ReadChatTemplate(TemplateSource("deepseek-v3.1.chat_template.jinja")).Value(), ChatTemplate::kV31);
  EXPECT_EQ(ReadChatTemplate(v3 + "x").Value().kind(), ChatTemplate::kJinja);
  std::string spaced = v3;
  spaced.insert(spaced.find("'role'"), " ");
  EXPECT_EQ(ReadChatTemplate(spaced).Value().kind(), ChatTemplate::kJinja);
  std::string escaped;  // line ends written as \n
  for (const char c : v3) c == '\n' ? escaped += "\\n" : escaped += c;
  EXPECT_EQ(ReadChatTemplate(escaped).Value(), ChatTemplate::kV3);
}

// The interpreter runs the published sources to the bytes that Jinja2 gave, or fails where it did.
TEST(ChatTemplate, PublishedSourcesThroughTheInterpreter) {
  FATHOM_NEEDS_SHARED("vectors/chat.jsonl.gz");
  const std::map<std::string, jinja::Template> programs = {
      {"v3", jinja::Template::Parse(TemplateSource("deepseek-v3.tokenizer_config.json")).Value()},
      {"r1", jinja::Template::Parse(TemplateSource("deepseek-r1.tokenizer_config.json")).Value()},
      {"v3.1", jinja::Template::Parse(TemplateSource("deepseek-v3.1.chat_template.jinja")).Value()}};
  const auto rows = ReadJsonLines(SharedTokenizerFile("vectors/chat.jsonl.gz"));
  ASSERT_GE(rows.size(), 1000u);
  for (const Json& row : rows) {
    Json messages = row.at("messages");
    if (row.at("template") == "v3.1") {  // the vectors were made from arguments as objects
      for (Json& m : messages) {
        if (!m.contains("tool_calls") || !m["tool_calls"].is_array()) continue;
        for (Json& call : m["tool_calls"]) {
          Json& arguments = call["function"]["arguments"];
          if (arguments.is_string()) arguments = Json::parse(arguments.get<std::string>());
        }
      }
    }
    const Result<std::string> got = programs.at(row.at("template"))
                                        .Render({{"messages", messages},
                                                 {"bos_token", kBos},
                                                 {"eos_token", kEos},
                                                 {"thinking", row.value("thinking", false)},
                                                 {"add_generation_prompt", row.value("add_generation_prompt", false)}});
    ASSERT_EQ(got.ok(), !row.contains("error")) << row << (got.ok() ? "" : got.error().what());
    ASSERT_EQ(got.ok() ? got.Value() : "", row.value("rendered", "")) << row;
  }
}

// The template that the shipped tokenizer carries, on the rows that are shipped too.
TEST(ChatTemplate, ShippedSourceThroughTheInterpreter) {
  const jinja::Template v3 = jinja::Template::Parse(StoryModel().chat_template.value()).Value();
  size_t n = 0;
  for (const Json& row : ReadJsonLines(FATHOM_SOURCE_DIR "/tests/golden/tokenizer/chat.jsonl")) {
    if (row.at("template") != "v3" || row.contains("error")) continue;
    ++n;
    const Json variables = {{"messages", row.at("messages")},
                            {"bos_token", kBos},
                            {"add_generation_prompt", row.value("add_generation_prompt", false)}};
    ASSERT_EQ(v3.Render(variables).Value(), row.at("rendered").get<std::string>()) << row;
  }
  EXPECT_GT(n, 30u);
}

// A request of 100 messages costs less than a millisecond of rendering; the bound has room for a busy machine.
TEST(ChatTemplate, TheInterpreterIsFast) {
  const jinja::Template v3 = jinja::Template::Parse(StoryModel().chat_template.value()).Value();
  Json messages = Json::array();
  for (int i = 0; i < 50; ++i) {
    messages.push_back({{"role", "user"}, {"content", std::string(400, 'q')}});
    messages.push_back({{"role", "assistant"}, {"content", std::string(400, 'a')}});
  }
  const Json variables = {{"messages", messages}, {"bos_token", kBos}, {"add_generation_prompt", true}};
  double best = 1;
  for (int i = 0; i < 20; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(v3.Render(variables).ok());
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  RecordProperty("microseconds", static_cast<int>(best * 1e6));
  EXPECT_LT(best, 20e-3);
}

constexpr char kChatMl[] =
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for t in tools %}{{- t | tojson }}{%- endfor %}{{- "
    "'<|im_end|>\\n' "
    "}}{%- endif %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') + '<|im_end|>' + "
    "'\\n' "
    "}}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

TEST(ChatTemplate, AnyOtherTemplateIsRun) {
  const ChatTemplate t = ReadChatTemplate(kChatMl).Value();
  EXPECT_EQ(t.kind(), ChatTemplate::kJinja);
  EXPECT_EQ(Name(t), "jinja");
  EXPECT_TRUE(t.writes_tools());
  EXPECT_FALSE(t.may_think());
  EXPECT_EQ(t.tool_format(), ToolFormat::kNone);
  EXPECT_EQ(Render(t, R"([{"role":"user","content":"Hi"}])"),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(ChatTemplateFromName(t.spelling()).Value().kind(), ChatTemplate::kJinja);
  EXPECT_EQ(ChatTemplateFromName(ChatTemplate(ChatTemplate::kR1).spelling()).Value(), ChatTemplate::kR1);
  const auto bad = ReadChatTemplate("{% if x %}\n{{ y");
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().summary().find("line 2"), std::string::npos) << bad.error().what();
  EXPECT_FALSE(ReadChatTemplateFile("/no/such/file.jinja").ok());
}

TEST(ChatTemplate, WhatATemplateWantsIsFoundOut) {
  FATHOM_NEEDS_SHARED("deepseek-v3.1.chat_template.jinja");
  const auto probed = [](const char* file) { return JinjaChat::Read(TemplateSource(file)).Value(); };
  const JinjaChat v3 = probed("deepseek-v3.tokenizer_config.json"), r1 = probed("deepseek-r1.tokenizer_config.json"),
                  v31 = probed("deepseek-v3.1.chat_template.jinja");
  EXPECT_FALSE(v3.object_arguments || r1.object_arguments);
  EXPECT_TRUE(v31.object_arguments);
  EXPECT_EQ(v3.format, ToolFormat::kV3);
  EXPECT_EQ(r1.format, ToolFormat::kV3);
  EXPECT_EQ(v31.format, ToolFormat::kV31);
  EXPECT_TRUE(v3.null_content);
  EXPECT_FALSE(v3.writes_tools || r1.writes_tools || v31.writes_tools);
  EXPECT_FALSE(v3.may_think);
  EXPECT_TRUE(r1.may_think && v31.may_think);
}

TEST(ChatTemplate, ChoosesByNameOrSource) {
  EXPECT_EQ(ChooseChatTemplate("v3.1", std::nullopt).Value(), ChatTemplate::kV31);
  EXPECT_EQ(ChooseChatTemplate("r1", "{{ unknown }}").Value(), ChatTemplate::kR1);
  EXPECT_EQ(ChooseChatTemplate(std::nullopt, "{{ messages }}").Value().kind(), ChatTemplate::kJinja);
  EXPECT_FALSE(ChooseChatTemplate(std::nullopt, "{{ messages").ok());
  const auto none = ChooseChatTemplate(std::nullopt, std::nullopt);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(std::string(none.error().what()).find("--template"), std::string::npos);
  const auto unknown = ChatTemplateFromName("v4");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().expected().find("v3.1"), std::string::npos);
  for (const ChatTemplate& t : ChatTemplates()) EXPECT_EQ(ChatTemplateFromName(Name(t)).Value(), t);
}

TEST(ChatTemplate, V2) {
  const std::string talk = R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},
                               {"role":"assistant","content":"Hello."},{"role":"user","content":"Bye"}])";
  EXPECT_EQ(Render(ChatTemplate::kV2, talk),
            std::string(kBos) + "Be brief.\n\nUser: Hi\n\nAssistant: Hello." + kEos + "User: Bye\n\nAssistant:");
  EXPECT_EQ(Render(ChatTemplate::kV2, talk, false),
            std::string(kBos) + "Be brief.\n\nUser: Hi\n\nAssistant: Hello." + kEos + "User: Bye\n\n");
  EXPECT_THROW(Render(ChatTemplate::kV2, R"([{"role":"tool","content":"x"}])"), Error);
}

TEST(ChatTemplate, RefusesMessagesOfTheWrongForm) {
  const char* bad[] = {"{}",
                       "[1]",
                       "[{}]",
                       R"([{"role":"developer","content":"x"}])",
                       R"([{"role":"user"}])",
                       R"([{"role":"user","content":null}])",
                       R"([{"role":"user","content":["x"]}])",
                       R"([{"role":"system","content":7}])",
                       R"([{"role":"tool","content":null}])"};
  for (const ChatTemplate& t : ChatTemplates()) {
    for (const char* m : bad) EXPECT_FALSE(RenderChat(t, Json::parse(m), {}).ok()) << Name(t) << " " << m;
  }
  const char* arguments = R"([{"role":"user","content":"x"},{"role":"assistant","content":null,
    "tool_calls":[{"type":"function","function":{"name":"f","arguments":"{not json"}}]}])";
  EXPECT_FALSE(RenderChat(ChatTemplate::kV31, Json::parse(arguments), {}).ok());
  EXPECT_TRUE(RenderChat(ChatTemplate::kV3, Json::parse(arguments), {}).ok());  // printed as they are
}

TEST(PythonJson, PrintsAsPythonDoes) {
  // Right column: json.dumps(json.loads(left), ensure_ascii=False) of Python 3.11.
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":1,"b":[1,2,{}],"c":[]})", R"({"a": 1, "b": [1, 2, {}], "c": []})"},
      {R"({"b":1,"a":2,"b":3})", R"({"b": 3, "a": 2})"},
      {"[1.0,1e5,1e15,1e16,1e22,0.0001,0.00001,1.5e-7,123456.789,-0.0,-0,100]",
       "[1.0, 100000.0, 1000000000000000.0, 1e+16, 1e+22, 0.0001, 1e-05, 1.5e-07, 123456.789, -0.0, 0, 100]"},
      {"[123456789012345678901234567890,-9223372036854775809,18446744073709551615]",
       "[123456789012345678901234567890, -9223372036854775809, 18446744073709551615]"},
      {"\"\\u00e9\\u4e2d \\ud83d\\ude00 \\/ \\\\ \\\" \\n\\t\\r\\b\\f\\u0001\\u007f\"",
       "\"é中 😀 / \\\\ \\\" \\n\\t\\r\\b\\f\\u0001\x7f\""},
      {" [ true , false , null ] ", "[true, false, null]"},
  };
  for (const auto& [in, want] : cases) EXPECT_EQ(PythonJson(in).Value(), want);
  EXPECT_FALSE(PythonJson("{").ok());
  EXPECT_FALSE(PythonJson("NaN").ok());
  EXPECT_FALSE(PythonJson(std::string(1000, '[') + std::string(1000, ']')).ok());
}

}  // namespace
}  // namespace fathom::tokenizer
