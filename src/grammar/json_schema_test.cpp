// JSON schemas: what is accepted and what is not, one case of every kind; every state has a way to the end; schemas
// that would take too much are refused in time.
#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "grammar/json_tree.h"
#include "grammar/test_machine.h"

namespace fathom::grammar {
namespace {

struct SchemaCase {
  const char* schema;
  std::vector<const char*> valid, invalid;
};

const std::vector<SchemaCase>& SchemaCases() {
  static const std::vector<SchemaCase> cases = {
      {R"({"type":"object"})",
       {"{}", R"({"a":1})", R"({"a": [1, {"b": null}], "c":""})"},
       {"", "[]", "{\"a\":1", R"({"a":  1})", R"({ "a":1})", R"({"a":1,})", "{} ", R"({"a" :1})"}},
      {R"({"properties":{"a":{"type":"integer"},"b":{"enum":["x","y"]}},"required":["a"],"additionalProperties":false})",
       {R"({"a":1})", R"({"b":"x","a":-7.0})", R"({"\u0061":3e0})", "[]", "3"},
       {"{}", R"({"b":"x"})", R"({"a":1.5})", R"({"a":1,"b":"z"})", R"({"a":1,"c":1})", R"({"a":1,"a":2})"}},
      {R"({"const":1})", {"1", "1.0", "1e0", "0.1e1", "1.00e-0"}, {"2", "1.5", "-1", "true", "\"1\""}},
      {R"({"type":"integer","minimum":-5,"exclusiveMaximum":300})",
       {"-5", "0", "-0", "299", "2.5e1", "2e2"},
       {"-6", "300", "3e2", "1.5", "5000", "-51"}},
      {R"({"type":"number","exclusiveMinimum":0,"maximum":0.25})",
       {"0.25", "0.001", "2.5e-1", "1e-9", "0.2499999"},
       {"0", "-0.1", "0.26", "1", "2.6e-1"}},
      {R"({"type":"number","multipleOf":0.05,"minimum":1})", {"1", "1.05", "20.5", "1.5e1"}, {"1.01", "0.95", "1.051"}},
      {R"({"type":"integer","multipleOf":7,"minimum":10,"maximum":22})",
       {"14", "21", "2.1e1"},
       {"7", "28", "15", "1", "2"}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", "\"\\u00e4\\n\"", "\"\xF0\x9F\x98\x80z\"", "\"\\ud83d\\ude00z\""},
       {"\"a\"", "\"abcd\"", "\"\\ud83dab\"", "\"\\ude00b\"", "\"\xF0\x8F\xBF\xBF\xBF\"", "\"\xED\xA0\x80z\"",
        "\"a\nb\""}},
      {R"({"type":"string","pattern":"^a+(b|\\d{2})$","maxLength":4})",
       {"\"ab\"", "\"aa12\"", "\"\\u0061b\""},
       {"\"b\"", "\"aa1\"", "\"aaa12\"", "\"ab \""}},
      {R"({"enum":["red",{"a":[1]},null,3]})",
       {"\"red\"", R"({"a":[1.0]})", "null", "3.0"},
       {"\"re\"", R"({"a":[2]})", R"({"a":[1],"b":1})", "4", "false"}},
      {R"({"prefixItems":[{"type":"string"},{"type":"null"}],"items":{"type":"boolean"},"minItems":2,"maxItems":3})",
       {"[\"\",null]", "[\"\", null, true]"},
       {"[]", "[\"\"]", "[1,null]", "[\"\",null,1]", "[\"\",null,true,true]"}},
      {R"({"anyOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},
                    {"type":"object","properties":{"k":{"const":2},"m":{"type":"string"}},"required":["k","m"]}]})",
       {R"({"k":1,"m":3})", R"({"m":"","k":2})"},
       {R"({"k":2})", R"({"m":3,"k":2})", R"({"k":3})"}},
      {R"({"oneOf":[{"type":"integer"},{"minimum":2}]})", {"1", "2.5", "\"s\""}, {"3", "1.5"}},
      {R"({"$defs":{"list":{"anyOf":[{"type":"null"},{"type":"object","properties":{"v":{"type":"integer"},
          "next":{"$ref":"#/$defs/list"}},"required":["v","next"],"additionalProperties":false}]}},
          "$ref":"#/$defs/list"})",
       {"null", R"({"v":1,"next":{"next":null,"v":2}})"},
       {R"({"v":1})", R"({"v":1,"next":{"v":2}})", "1"}},
      {R"({"allOf":[{"properties":{"a":{"minimum":3}}},{"properties":{"a":{"maximum":4}}}],"required":["a"],
          "type":"object"})",
       {R"({"a":3.5})", R"({"b":9,"a":4})"},
       {R"({"a":2})", R"({"a":5})", "{}"}},
      {R"({"patternProperties":{"^x":{"type":"integer"},"y$":{"minimum":5}},"additionalProperties":{"type":"null"}})",
       {R"({"x":1,"y":6,"xy":7,"z":null})"},
       {R"({"x":null})", R"({"xy":3})", R"({"z":1})"}},
      {R"({"type":"object","propertyNames":{"pattern":"^[a-c]$"},"minProperties":1,"maxProperties":2})",
       {R"({"a":1})", R"({"a":1,"c":2})"},
       {"{}", R"({"d":1})", R"({"a":1,"b":1,"c":1})"}},
      {R"({"contains":{"const":0},"minContains":2,"maxContains":3,"items":{"type":"integer"}})",
       {"[0,0]", "[1,0,2,0.0,0]"},
       {"[0]", "[0,0,0,0]", "[]", "[0,0,\"\"]"}},
      {R"({"if":{"properties":{"a":{"const":1}},"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]},
          "type":"object"})",
       {R"({"a":1,"b":1})", R"({"c":1,"a":2})"},
       {R"({"a":1,"c":1})", R"({"b":1})"}},
      {R"({"not":{"type":["string","integer"]}})", {"1.5", "null", "[]"}, {"1", "1.0", "\"\""}},
      {R"({"dependentRequired":{"a":["b"]},"type":"object"})",
       {"{}", R"({"b":1,"a":1})", R"({"c":1})"},
       {R"({"a":1})"}},
      {"false", {}, {"null", "1", "{}"}},
      {"true", {"null", "-1.5E+10", "[[],{}]"}, {"nul", "01", "1.", "+1"}},
  };
  return cases;
}

TEST(JsonSchema, AcceptsWhatIsValid) {
  for (const SchemaCase& c : SchemaCases()) {
    const auto grammar = CompileJsonSchema(c.schema);
    ASSERT_TRUE(grammar.ok()) << c.schema << "\n" << grammar.error().what();
    const auto machine = grammar.Value()->MakeMachine();
    for (const char* text : c.valid) EXPECT_TRUE(Matches(*machine, text)) << c.schema << "\n" << text;
    for (const char* text : c.invalid) EXPECT_FALSE(Matches(*machine, text)) << c.schema << "\n" << text;
  }
}

TEST(JsonSchema, RefusesByTheKeyword) {
  for (const auto& [schema, keyword] : std::vector<std::pair<const char*, const char*>>{
           {R"({"uniqueItems":true})", "uniqueItems"},
           {R"({"unevaluatedProperties":false})", "unevaluatedProperties"},
           {R"({"$ref":"https://example.org/x.json"})", "$ref"},
           {R"({"$ref":"#"})", "$ref"},
           {R"({"type":"text"})", "type"},
           {R"({"pattern":"(a"})", "pattern"},
           {R"({"pattern":"(?=a)b"})", "pattern"},
           {R"({"minLength":-1})", "minLength"},
           {R"({"type":"object","minProperties":5})", "minProperties"},
           {R"({"$schema":"http://json-schema.org/draft-04/schema#"})", "$schema"},
           {R"({"oneOf":[{"additionalProperties":false},{"properties":{"a":true}}]})", "additionalProperties"}}) {
    const auto grammar = CompileJsonSchema(schema);
    ASSERT_FALSE(grammar.ok()) << schema;
    EXPECT_NE(grammar.error().summary().find('"' + std::string(keyword) + '"'), std::string::npos)
        << grammar.error().what();
  }
  EXPECT_FALSE(CompileJsonSchema("{").ok());
  EXPECT_FALSE(CompileJsonSchema("3").ok());
}

// Chooses live bytes at random, then those that end soonest; the text, or "" where that takes too long.
std::string RandomText(Machine& machine, std::mt19937& random, size_t length, std::string& unfinished) {
  static constexpr std::string_view kEnds = "}]\"", kLast = "0123456789,\\ .eE-[{";
  std::string text;
  Machine::State state = machine.Start();
  while (text.size() < 4000) {
    const bool ending = text.size() >= length;
    if (machine.Accepts(state) && (ending || random() % 4 == 0)) return text;
    std::vector<uint8_t> live, last;
    for (int byte = 255; byte >= 0; byte--) {
      if (machine.Next(state, static_cast<uint8_t>(byte)) == Machine::kDead) continue;
      if (ending && kEnds.find(static_cast<char>(byte)) != kEnds.npos) {
        live = {static_cast<uint8_t>(byte)};
        break;
      }
      const bool late = ending && (byte >= 0x80 || kLast.find(static_cast<char>(byte)) != kLast.npos);
      (late ? last : live).push_back(static_cast<uint8_t>(byte));
    }
    if (live.empty()) live = last;
    const auto is_live = [&](char byte) { return machine.Next(state, static_cast<uint8_t>(byte)) != Machine::kDead; };
    if (ending && is_live('\\') && is_live('"')) live = {'"'};  // within a string
    if (ending && std::find(live.begin(), live.end(), ',') != live.end()) live = {','};
    if (live.empty()) {
      EXPECT_TRUE(machine.Accepts(state)) << "no way on from " << text;
      return text;
    }
    const uint8_t byte = live[random() % live.size()];
    text += static_cast<char>(byte);
    state = machine.Next(state, byte);
  }
  unfinished = text.substr(0, 200);
  return "";
}

TEST(JsonSchema, EveryStateHasAWayToTheEnd) {
  std::mt19937 random(7);
  int finished = 0, all = 0;
  std::string unfinished;
  for (const SchemaCase& c : SchemaCases()) {
    const auto machine = CompileJsonSchema(c.schema).Value()->MakeMachine();
    if (machine->Start() == Machine::kDead) continue;
    for (int i = 0; i < 40; i++) {
      const std::string text = RandomText(*machine, random, random() % 60, unfinished);
      all++;
      if (text.empty()) continue;
      finished++;
      EXPECT_TRUE(ReadJsonTree(text).ok()) << c.schema << "\n" << text;
      EXPECT_TRUE(Matches(*machine, text));
    }
  }
  EXPECT_GE(finished, all * 85 / 100) << unfinished;
}

TEST(JsonSchema, PlainStringsTakeFewStates) {
  const auto machine = JsonObjectGrammar()->MakeMachine();
  const Machine::State inside = After(*machine, R"({"key":"a)");
  for (const char c : std::string("bcXYZ 0123~")) EXPECT_EQ(machine->Next(inside, static_cast<uint8_t>(c)), inside);
  EXPECT_EQ(After(*machine, "{\"key\":\"a\xC3\xA4\\n\\u00e4\\ud83d\\ude00"), inside);
  EXPECT_EQ(After(*machine, R"({"other":"b)"), inside);
}

TEST(JsonSchema, ExponentialSchemasAreRefusedInTime) {
  std::vector<std::string> schemas = {R"({"type":"string","pattern":"^(a|b)*a(a|b){30}$"})",
                                      R"({"type":"string","pattern":"^(x+x+)+y$","maxLength":1000000})",
                                      R"({"type":"array","contains":{"const":1},"minContains":200,"maxItems":100000})",
                                      std::string(5000, '[') + std::string(5000, ']'),
                                      R"({"type":"string","minLength":3000000,"pattern":"a"})"};
  std::string all = R"({"type":"object","allOf":[)", properties = R"({"oneOf":[)", doubled = R"({"$defs":{)";
  for (int i = 0; i < 40; i++) {
    const std::string n = std::to_string(i);
    all += (i > 0 ? "," : "") + std::string(R"({"anyOf":[{"required":["a)") + n + R"("]},{"required":["b)" + n +
           R"("]}]})";
    properties += (i > 0 ? "," : "") + std::string(R"({"properties":{"a)") + n + R"(":{"type":"string"},"b)" + n +
                  R"(":{"minimum":3}}})";
    doubled += (i > 0 ? "," : "") + std::string("\"d") + n + R"(":{"anyOf":[{"$ref":"#/$defs/d)" +
               std::to_string(i + 1) + R"("},{"properties":{"p)" + n + R"(":{"$ref":"#/$defs/d)" +
               std::to_string(i + 1) + R"("}}}]})";
  }
  schemas.push_back(all + "]}");
  schemas.push_back(properties + "]}");
  schemas.push_back(doubled + R"(,"d40":{"type":"object"}},"$ref":"#/$defs/d0"})");
  for (const std::string& schema : schemas) {
    const auto begin = std::chrono::steady_clock::now();
    const auto grammar = CompileJsonSchema(schema);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_LT(seconds, 20) << schema.substr(0, 80);  // far above what it takes: a machine may be busy, or sanitized
    if (!grammar.ok()) {
      EXPECT_NE(grammar.error().summary(), "");
    }
  }
  EXPECT_FALSE(CompileJsonSchema(schemas[0]).ok());
  EXPECT_FALSE(CompileJsonSchema(schemas[3]).ok());
}

TEST(JsonSchema, ALargeSchemaIsCompiled) {
  std::string schema = R"({"type":"object","additionalProperties":false,"properties":{)";
  for (int i = 0; schema.size() < 1'000'000; i++) {
    schema += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"type":"string","enum":["a","b"]})";
  }
  const auto grammar = CompileJsonSchema(schema + "}}");
  ASSERT_TRUE(grammar.ok()) << grammar.error().what();
  const auto machine = grammar.Value()->MakeMachine();
  EXPECT_TRUE(Matches(*machine, R"({"17":"a","3":"b"})"));
  EXPECT_FALSE(Matches(*machine, R"({"17":"c"})"));
}

}  // namespace
}  // namespace fathom::grammar
