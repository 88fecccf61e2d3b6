// Fields that ask for structured output: what they compile to, which are refused and how.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/generation_fields.h"
#include "server/structured_fields.h"
#include "server/test_error.h"
#include "server/test_model.h"

namespace fathom::server {
namespace {

using testing::HasSubstr;
using Start = ReasoningSplitter::Start;

// The grammar's verdict on a whole text, as tokens of the test model.
bool Takes(const GenerationFields& g, std::string_view text) {
  grammar::CompiledGrammar& grammar = *g.request.grammar;
  const auto state = grammar.After(grammar.Start(), {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return state != grammar::Machine::kDead && grammar.Accepts(state);
}

GenerationFields Read(const std::string& fields, Start start = Start::kAnswering) {
  const Json body = Json::parse("{" + fields + "}");
  GenerationFields g = ReadGeneration(Fields(body), Model());
  HoldToStructure(Model(), start, g);
  return g;
}

ApiError ErrorOfFields(const std::string& fields) {
  return ErrorOf([&] { Read(fields); });
}

TEST(Structured, WhatNothingFulfilsIsRefused) {
  for (const auto& start : {Start::kAnswering, Start::kMayThink, Start::kThinking}) {
    const ApiError e =
        ErrorOf([&] { Read(R"("structured_outputs": {"json": {"allOf": [{"const": 1}, {"const": 2}]}})", start); });
    EXPECT_EQ(e.status, 400);
    EXPECT_EQ(e.code, "invalid_grammar");
    EXPECT_EQ(e.param, "structured_outputs.json");
    EXPECT_THAT(e.message, HasSubstr("nothing fulfils it"));
  }
}

TEST(Structured, EveryFieldHasItsGrammar) {
  const std::pair<const char*, const char*> objects[] = {
      {R"("response_format": {"type": "json_object"})", R"({"b": [1]})"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}})",
       R"({"b":1})"},
      {R"("response_format": {"type": "json_object", "schema": {"type": "integer"}})", "12"},
      {R"("guided_json": {"type": "integer"})", "12"},
      {R"("guided_json": "{\"type\": \"integer\"}")", "12"},
      {R"("json_schema": {"type": "boolean"})", "true"},
      {R"("guided_regex": "[a-c]+")", "abc"},
      {R"("guided_choice": ["yes", "no"])", "no"},
      {R"("guided_grammar": "root ::= \"x\" root | \"y\"")", "xxy"},
      {R"("grammar": "root ::= \"x\"")", "x"},
      {R"("structured_outputs": {"json": {"const": 5}})", "5"},
      {R"("structured_outputs": {"json_object": true})", "{}"},
      {R"("structured_outputs": {"regex": "a|b"})", "b"},
      {R"("structured_outputs": {"choice": ["q"]})", "q"},
      {R"("structured_outputs": {"grammar": "root ::= [z]"})", "z"},
  };
  for (const auto& [fields, text] : objects) {
    const GenerationFields g = Read(fields);
    ASSERT_TRUE(g.request.grammar) << fields;
    EXPECT_TRUE(Takes(g, text)) << fields;
    EXPECT_FALSE(Takes(g, "something else")) << fields;
    EXPECT_EQ(g.request.grammar, Read(fields).request.grammar) << "compiled once: " << fields;
  }
}

TEST(Structured, NothingWanted) {
  for (const char* fields :
       {"\"n\": 1", R"("response_format": {"type": "text"})", R"("response_format": null, "guided_regex": "")",
        R"("guided_choice": [], "structured_outputs": {"json_object": false, "regex": null})"}) {
    EXPECT_FALSE(Read(fields).request.grammar) << fields;
  }
}

TEST(Structured, BehindThinking) {
  const char* fields = R"("guided_regex": "yes|no")";
  EXPECT_TRUE(Takes(Read(fields, Start::kThinking), "well...</think>\n\nyes"));
  EXPECT_FALSE(Takes(Read(fields, Start::kThinking), "yes"));
  EXPECT_TRUE(Takes(Read(fields, Start::kMayThink), "yes"));
  EXPECT_TRUE(Takes(Read(fields, Start::kMayThink), "<think>well</think>no"));
  EXPECT_FALSE(Takes(Read(fields), "<think>well</think>no"));
}

TEST(Structured, RefusedByName) {
  struct Case {
    const char *fields, *param, *message;
  };
  const Case cases[] = {
      {R"("response_format": {})", "response_format.type", "missing"},
      {R"("response_format": {"type": "xml"})", "response_format.type", "json_object"},
      {R"("response_format": {"type": "json_schema"})", "response_format.json_schema", "missing"},
      {R"("response_format": {"type": "json_schema", "json_schema": {}})", "response_format.json_schema.schema",
       "missing"},
      {R"("guided_json": 5)", "guided_json", "JSON Schema"},
      {R"("guided_json": {"type": "potato"})", "guided_json", "type"},
      {R"x("guided_regex": "a(?=b)")x", "guided_regex", "look-ahead"},
      {R"("guided_regex": 7)", "guided_regex", "string"},
      {R"("guided_choice": "yes")", "guided_choice", "list"},
      {R"("guided_choice": ["yes", 5])", "guided_choice", "strings"},
      {R"("grammar": "root ::= a")", "grammar", "not defined"},
      {R"("structured_outputs": {"structural_tag": {"a": 1}})", "structured_outputs.structural_tag", "not supported"},
      {R"("guided_regex": "a", "grammar": "root ::= \"a\"")", "grammar", "together with guided_regex"},
  };
  for (const Case& c : cases) {
    const ApiError e = ErrorOfFields(c.fields);
    EXPECT_EQ(e.status, 400) << c.fields;
    EXPECT_EQ(e.param, c.param) << c.fields;
    EXPECT_THAT(e.message, HasSubstr(c.message)) << c.fields;
  }
}

}  // namespace
}  // namespace fathom::server
