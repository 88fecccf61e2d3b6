// Chat templates against vectors rendered by Jinja from the published sources.
#include "tokenizer/chat_template.h"

#include "tokenizer/python_json.h"
#include "tokenizer/test_files.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

const char kBos[] = "<｜begin▁of▁sentence｜>", kEos[] = "<｜end▁of▁sentence｜>";

std::string Render(ChatTemplate t, const std::string& messages, bool generation = true, bool thinking = false) {
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

TEST(ChatTemplate, RecognisesThePublishedSources) {
  FATHOM_NEEDS_SHARED("deepseek-v3.tokenizer_config.json");
  auto source = [](const char* file) {
    return Json::parse(ReadTextFile(SharedTokenizerFile(file), 1 << 20)).at("chat_template").get<std::string>();
  };
  const std::string v3 = source("deepseek-v3.tokenizer_config.json");
  EXPECT_EQ(RecogniseChatTemplate(v3).Value(), ChatTemplate::kV3);
  EXPECT_EQ(RecogniseChatTemplate(source("deepseek-r1.tokenizer_config.json")).Value(), ChatTemplate::kR1);
  const std::string v31 = ReadTextFile(SharedTokenizerFile("deepseek-v3.1.chat_template.jinja"), 1 << 20);
  EXPECT_EQ(RecogniseChatTemplate(v31).Value(), ChatTemplate::kV31);
  EXPECT_FALSE(RecogniseChatTemplate(v3 + "x").ok());
  std::string spaced = v3;
  spaced.insert(spaced.find("'role'"), " ");
  EXPECT_FALSE(RecogniseChatTemplate(spaced).ok());
  std::string escaped;  // line ends written as \n
  for (const char c : v3) c == '\n' ? escaped += "\\n" : escaped += c;
  EXPECT_EQ(RecogniseChatTemplate(escaped).Value(), ChatTemplate::kV3);
}

TEST(ChatTemplate, ChoosesByNameOrSource) {
  EXPECT_EQ(ChooseChatTemplate("v3.1", std::nullopt).Value(), ChatTemplate::kV31);
  EXPECT_EQ(ChooseChatTemplate("r1", "{{ unknown }}").Value(), ChatTemplate::kR1);
  const auto unknown = ChooseChatTemplate(std::nullopt, "{{ messages }}");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(std::string(unknown.error().what()).find("--template"), std::string::npos);
  EXPECT_NE(unknown.error().expected().find("v3.1"), std::string::npos);
  const auto none = ChooseChatTemplate(std::nullopt, std::nullopt);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(std::string(none.error().what()).find("--template"), std::string::npos);
  EXPECT_FALSE(ChatTemplateFromName("v4").ok());
  for (const ChatTemplate t : ChatTemplates()) EXPECT_EQ(ChatTemplateFromName(Name(t)).Value(), t);
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
  for (const ChatTemplate t : ChatTemplates()) {
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
