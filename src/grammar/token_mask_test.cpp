// Masks against the machine asked for each token alone, over vocabularies with tokens that cross characters and
// strings; what an answer may do; that masks are shared and bounded.
#include "grammar/token_mask.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/rng.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "grammar/test_machine.h"
#include "grammar/thinking.h"

namespace fathom::grammar {
namespace {

constexpr const char* kJson = R"(root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (string ": "? value (", "? string ":" value)*)? "}"
array ::= "[" (value ("," value)*)? "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?
)";

// All bytes, and random strings of pieces that JSON, letters and broken characters are made of.
std::vector<std::string> RandomTokens(uint64_t seed, int64_t count) {
  static const std::vector<std::string> pieces = {"\"",
                                                  "{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ":",
                                                  ",",
                                                  ": ",
                                                  "\\",
                                                  "\\u00",
                                                  "true",
                                                  "nu",
                                                  "ll",
                                                  "1",
                                                  "0",
                                                  "-",
                                                  ".",
                                                  " ",
                                                  " the",
                                                  " a",
                                                  "\n",
                                                  "a",
                                                  "the",
                                                  "b",
                                                  "\xC3\xA9",
                                                  "\xC3",
                                                  "\xA9",
                                                  "\xE4\xB8\xAD",
                                                  "\xE4\xB8",
                                                  "\xAD",
                                                  "\xF0\x9F\x98\x80",
                                                  "\xF0\x9F",
                                                  "\xED\xA0",
                                                  "\xE0\x80",
                                                  "\xFF",
                                                  "</think>",
                                                  "<",
                                                  "\n\n",
                                                  "yes"};
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) tokens.emplace_back(1, static_cast<char>(i));
  tokens.emplace_back();  // an id that names nothing
  Rng rng(seed, 0, 0);
  while (std::ssize(tokens) < count) {
    std::string token;
    for (int64_t n = 1 + rng.NextBelow(4); n > 0; --n)
      token += pieces[static_cast<size_t>(rng.NextBelow(std::ssize(pieces)))];
    tokens.push_back(token);
  }
  return tokens;
}

// Random walks by allowed tokens; at each state the mask is what the machine says of each token.
void ExpectMasksAgree(const std::function<std::unique_ptr<Machine>()>& make, uint64_t seed) {
  const std::vector<std::string> tokens = RandomTokens(seed, 1500);
  const auto trie = std::make_shared<const TokenTrie>(tokens);
  CompiledGrammar grammar(make(), trie);
  const std::unique_ptr<Machine> alone = make();
  Rng rng(seed, 1, 0);
  int64_t allowed = 0;
  for (int walk = 0; walk < 12; ++walk) {
    Machine::State state = grammar.Start();
    std::string text;
    for (int step = 0; step < 12; ++step) {
      const auto mask = grammar.MaskOf(state);
      std::vector<int32_t> next;
      for (int32_t id = 0; id < std::ssize(tokens); ++id) {
        const std::string& token = tokens[static_cast<size_t>(id)];
        const bool expected = !token.empty() && After(*alone, text + token) != Machine::kDead;
        ASSERT_EQ(mask->Allows(id), expected) << "token " << id << " \"" << token << "\" behind " << text;
        if (expected) next.push_back(id);
      }
      ASSERT_EQ(mask->count(), std::ssize(next));
      std::vector<float> logits(tokens.size() + 70, 1.0f);
      mask->Apply(logits, std::vector<int32_t>{static_cast<int32_t>(tokens.size())});
      for (size_t id = 0; id < logits.size(); ++id) {
        const bool open = id == tokens.size() || (id < tokens.size() && mask->Allows(static_cast<int32_t>(id)));
        ASSERT_EQ(logits[id], open ? 1.0f : -INFINITY) << id;
      }
      allowed += std::ssize(next);
      if (next.empty()) break;
      const int32_t id = next[static_cast<size_t>(rng.NextBelow(std::ssize(next)))];
      text += tokens[static_cast<size_t>(id)];
      state = grammar.After(state, id);
      ASSERT_NE(state, Machine::kDead);
    }
  }
  EXPECT_GT(allowed, 100);
}

TEST(TokenMask, AgreesWithTheMachine) {
  ExpectMasksAgree([] { return CompileGbnf(kJson).Value(); }, 1);
  ExpectMasksAgree([] { return CompileRegex("(.|\\n)*\"").Value(); }, 2);
  ExpectMasksAgree([] { return CompileRegex("[^\xC3\xA9\"]*").Value(); }, 3);  // one character of two bytes is out
  ExpectMasksAgree([] { return CompileRegex("[ -~\xE4\xB8\xAD]*x?").Value(); }, 4);  // one is in
  ExpectMasksAgree([] { return CompileRegex("[a-z]{2,5}(\\p{L}| )*").Value(); }, 5);
  ExpectMasksAgree([] { return CompileRegex(".{1,3}x").Value(); }, 8);
  ExpectMasksAgree([] { return CompileRegex("(.{2,5}\"){1,3}[^a]{40,60}").Value(); }, 9);
  ExpectMasksAgree([] { return CompileRegex("[^1]([ -~]{3}|\\p{L})+").Value(); }, 10);
  // What begins otherwise than it goes on, words behind a space, and what may be a keyword.
  ExpectMasksAgree([] { return CompileRegex("([a-z_][a-z_0-9]* ?)+").Value(); }, 11);
  ExpectMasksAgree([] { return CompileRegex("(the|[a-z]+)( ([A-Za-z][ -~]{0,3}|ab)*[.\\n])+").Value(); }, 12);
  ExpectMasksAgree([] { return AfterThinking(CompileGbnf(kJson).Value(), Thinking::kOpen); }, 6);
  ExpectMasksAgree([] { return AfterThinking(CompileRegex("yes|no|[a-z ]+").Value(), Thinking::kMayOpen); }, 7);
}

TEST(TokenMask, AgreesWithTheMachineOfASchema) {
  const auto of = [](const char* schema) {
    return [schema] { return CompileJsonSchema(schema).Value()->MakeMachine(); };
  };
  ExpectMasksAgree(of(R"({"type": "object"})"), 21);
  ExpectMasksAgree(of(R"({"type": "string", "minLength": 2, "maxLength": 9})"), 22);
  ExpectMasksAgree(of(R"({"type": "string", "maxLength": 700})"), 23);
  ExpectMasksAgree(of(R"({"type": "array", "items": {"type": "string", "pattern": "^[a-z ]{2,6}(yes|\\p{L}+)?$"}})"),
                   24);
  ExpectMasksAgree(of(R"({"properties": {"the": {"type": "integer"}, "a\u00e9": {"maxLength": 3}, "ab": true},
    "required": ["the"], "patternProperties": {"^b": {"type": "null"}}})"),
                   25);
  // Several ways at once within one text.
  ExpectMasksAgree(of(R"({"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^[^a]*$"}, {"type":
    "string", "maxLength": 4}, {"enum": ["the yes", "nu", 12]}]}})"),
                   26);
  ExpectMasksAgree(of(R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"a": {"type": "number",
    "maximum": 20}, "b": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "additionalProperties": false}}})"),
                   27);
}

TEST(Matcher, AcceptsTakesBackAndEnds) {
  const std::vector<std::string> tokens = {"a", "b", "ab", "", "c", "abc"};
  const auto trie = std::make_shared<const TokenTrie>(tokens);
  const auto grammar = std::make_shared<CompiledGrammar>(CompileRegex("(ab)+c?").Value(), trie);
  constexpr int32_t kEos = 3;
  Matcher m(grammar, {kEos});
  EXPECT_FALSE(m.Complete());
  EXPECT_FALSE(m.Accept(kEos));
  EXPECT_FALSE(m.Accept(1));
  EXPECT_FALSE(m.Accept(6));
  EXPECT_FALSE(m.Accept(-1));
  EXPECT_TRUE(m.Accept(0));
  EXPECT_TRUE(m.Accept(1));
  EXPECT_TRUE(m.Complete());
  EXPECT_FALSE(m.OnlyEnd());
  Matcher other = m;
  EXPECT_TRUE(other.Accept(4));
  EXPECT_TRUE(other.OnlyEnd());
  EXPECT_TRUE(other.Accept(kEos));
  EXPECT_TRUE(other.ended());
  EXPECT_FALSE(other.Accept(0));
  other.Rollback(2);
  EXPECT_FALSE(other.ended());
  EXPECT_TRUE(other.Accept(2));
  EXPECT_TRUE(m.Allows(kEos));
  m.Rollback(1);
  EXPECT_FALSE(m.Allows(kEos));
  std::vector<float> logits(8, 2.0f);
  m.Apply(logits);
  EXPECT_EQ(std::count(logits.begin(), logits.end(), 2.0f), 1);
  EXPECT_EQ(logits[1], 2.0f);
  EXPECT_TRUE(m.Accept(1));
  logits.assign(8, 2.0f);
  m.Apply(logits);
  EXPECT_EQ(std::count(logits.begin(), logits.end(), 2.0f), 5);  // a ab c abc and the end
  EXPECT_EQ(logits[kEos], 2.0f);
}

// A vocabulary without what the grammar wants: no token and no end.
TEST(Matcher, StuckIsSaid) {
  const std::vector<std::string> tokens = {"a", "b"};
  const auto trie = std::make_shared<const TokenTrie>(tokens);
  Matcher m(std::make_shared<CompiledGrammar>(CompileRegex("ax").Value(), trie), {});
  EXPECT_FALSE(m.Stuck());
  EXPECT_TRUE(m.Accept(0));
  EXPECT_TRUE(m.Stuck());
  Matcher none(std::make_shared<CompiledGrammar>(CompileRegex("[]").Value(), trie), {});
  EXPECT_TRUE(none.Stuck());
  EXPECT_FALSE(none.Accept(0));
}

TEST(TokenMask, KeptByStateAndBasesShared) {
  const auto trie = std::make_shared<const TokenTrie>(RandomTokens(9, 4000));
  CompiledGrammar grammar(CompileGbnf(kJson).Value(), trie);
  const auto state = [&](std::string_view text) {
    return grammar.After(grammar.Start(), {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  };
  const auto one = grammar.MaskOf(state("{\"a"));
  EXPECT_EQ(one, grammar.MaskOf(state("{\"abc\xC3\xA9")));
  const auto two = grammar.MaskOf(state("{\"a\":\"x"));
  EXPECT_NE(one, two);
  EXPECT_LT(one->bytes(), 4000 / 8 + 4 * one->count());
  EXPECT_GT(one->count(), 500);
}

}  // namespace
}  // namespace fathom::grammar
