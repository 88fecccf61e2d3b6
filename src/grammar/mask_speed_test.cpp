// Figures of masks over the published vocabulary: time to compile, and of each token's mask on the way through texts.
// Bounds are generous (ten times what an idle machine shows): they catch what has become slow in kind.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "grammar/token_mask.h"
#include "tokenizer/test_files.h"

namespace fathom::grammar {
namespace {

using Clock = std::chrono::steady_clock;
double Microseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

constexpr const char* kPublished = "deepseek-v3.tokenizer.json.gz";

struct Case {
  const char* name;
  std::function<Result<std::unique_ptr<Machine>>()> compile;
  std::string text;
};

std::vector<Case> Cases() {
  static constexpr const char* kJsonGrammar = R"g(root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (string ": "? value (", "? string ":" value)*)? "}"
array ::= "[" (value (", "? value)*)? "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?
)g";
  std::string json =
      "{\"name\": \"The quick brown fox jumps over the lazy dog\", \"tags\":[\"a\", \"caf\xC3\xA9\", 12.5, true]";
  for (int i = 0; i < 30; ++i) json += fmt::format(", \"field {}\":\"value {}, and some more text to read\"", i, i * 7);
  json += "}";
  std::string person = "Name: Ada Lovelace\nBorn: 1815-12-10\nNotes: ";
  for (int i = 0; i < 40; ++i) person += "wrote the first program; ";
  static constexpr const char* kSchema = R"g({"type": "object", "properties": {
    "name": {"type": "string"}, "email": {"type": "string", "maxLength": 60}, "age": {"type": "integer", "minimum": 0},
    "street": {"type": "string", "minLength": 2, "maxLength": 40}, "city": {"enum": ["Paris", "London", "Rome"]},
    "notes": {"type": "array", "items": {"type": "string"}}, "active": {"type": "boolean"},
    "phone": {"type": "string", "pattern": "^[0-9 +-]{5,20}$"}},
    "required": ["name", "email"], "additionalProperties": false})g";
  const std::string record =
      R"g({"name":"Ada Lovelace of London","street":"12 Great George Street, near the park","age":36,"city":"London",)g"
      R"g("phone":"+44 20 7946","notes":["wrote the first program","translated a paper, with notes of her own"],)g"
      R"g("email":"ada.lovelace@analytical-engine.example","active":true})g";
  return {
      {"json schema",
       [] { return Result<std::unique_ptr<Machine>>(CompileJsonSchema(kSchema).Value()->MakeMachine()); }, record},
      {"json grammar", [] { return CompileGbnf(kJsonGrammar); }, json},
      {"expression",
       [] { return CompileRegex("Name: [A-Z][a-z]+ [A-Z][a-z]+\\nBorn: \\d{4}-\\d\\d-\\d\\d\\nNotes: .*"); }, person},
      {"bounded text", [] { return CompileRegex("Name: .{1,2000}"); },
       person.substr(0, 18) + " " + std::string(person.size() - 40, 'x')},
      {"words", [] { return CompileRegex("([\\w ]{1,12}[,;.] ?)+"); },
       "one, two words; three. four, five and; six, seven. eight, nine, ten; eleven."}};
}

TEST(MaskSpeed, PublishedVocabulary) {
  FATHOM_NEEDS_SHARED(kPublished);
  const auto tokenizer = tokenizer::Tokenizer::FromJson(
                             tokenizer::ReadTextFile(tokenizer::SharedTokenizerFile(kPublished), size_t{1} << 30))
                             .Value();
  Clock::time_point begin = Clock::now();
  const auto trie = std::make_shared<const TokenTrie>(tokenizer, 129280);
  fmt::print("trie of {} tokens: {:.0f} ms, {} nodes\n", tokenizer.vocab_size(), Microseconds(begin) / 1000,
             trie->nodes());
  for (const Case& c : Cases()) {
    begin = Clock::now();
    const auto grammar = std::make_shared<CompiledGrammar>(c.compile().Value(), trie);
    const double compile = Microseconds(begin);
    for (const char* round : {"new", "again"}) {
      Matcher matcher(grammar, {1});
      std::vector<float> logits(129280, 0.0f);
      std::vector<double> masks, applied;
      for (int32_t id : tokenizer.Encode(c.text)) {
        begin = Clock::now();
        grammar->MaskOf(matcher.state());
        masks.push_back(Microseconds(begin));
        begin = Clock::now();
        matcher.Apply(logits);
        applied.push_back(Microseconds(begin));
        ASSERT_TRUE(matcher.Accept(id)) << c.name << ": " << tokenizer.TokenBytes(id);
      }
      std::sort(masks.begin(), masks.end());
      std::sort(applied.begin(), applied.end());
      const auto at = [](const std::vector<double>& v, double share) {
        return v[static_cast<size_t>(share * static_cast<double>(v.size() - 1))];
      };
      fmt::print(
          "{:13} {:5}: compiled in {:.2f} ms; {} masks, us: median {:.1f}, p99 {:.1f}, most {:.1f}; put on logits "
          "{:.1f}\n",
          c.name, round, compile / 1000, masks.size(), at(masks, 0.5), at(masks, 0.99), masks.back(), at(applied, 0.5));
      EXPECT_LT(compile, 500e3);
      EXPECT_LT(at(masks, 0.5), 500);
      EXPECT_LT(at(masks, 0.99), 20e3);
    }
  }
}

}  // namespace
}  // namespace fathom::grammar
