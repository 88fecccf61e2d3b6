// Grammars: what they match, against a parser by dynamic programming over the rules as they were read (left recursion
// included); what is refused by name; bounds.
#include "grammar/gbnf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/rng.h"
#include "grammar/test_machine.h"
#include "grammar/thinking.h"

namespace fathom::grammar {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Machine> Grammar(std::string_view text) { return CompileGbnf(text).Value(); }

std::string GbnfError(std::string_view text) {
  const auto r = CompileGbnf(text);
  return r.ok() ? "taken" : r.error().what();
}

// Whether rules match a text: spans (rule, begin, end) that are known to match, until none is new.
class SpanParser {
 public:
  SpanParser(const Rules& rules, std::string_view text) : rules_(rules), text_(text) {
    for (size_t known = 1; known != spans_.size();) {
      known = spans_.size();
      for (size_t r = 0; r < rules.rules.size(); ++r) {
        for (size_t begin = 0; begin <= text.size(); ++begin) {
          for (size_t end : Ends(rules.rules[r].body, begin)) spans_.insert({static_cast<int32_t>(r), begin, end});
        }
      }
      if (spans_.empty()) break;
    }
  }
  bool Matches() const { return spans_.count({0, 0, text_.size()}) > 0; }

 private:
  std::set<size_t> Ends(const Node& node, size_t at) const {
    switch (node.kind) {
      case Node::Kind::kSet:
        if (at < text_.size() && Contains(node.set, static_cast<uint8_t>(text_[at]))) return {at + 1};
        return {};
      case Node::Kind::kRule: {
        std::set<size_t> ends;
        for (auto it = spans_.lower_bound({node.rule, at, 0}); it != spans_.end(); ++it) {
          if (std::get<0>(*it) != node.rule || std::get<1>(*it) != at) break;
          ends.insert(std::get<2>(*it));
        }
        return ends;
      }
      case Node::Kind::kChoice: {
        std::set<size_t> ends;
        for (const Node& child : node.children) ends.merge(Ends(child, at));
        return ends;
      }
      case Node::Kind::kSequence:
      case Node::Kind::kRepeat: {
        const bool repeat = node.kind == Node::Kind::kRepeat;
        const int64_t rounds = !repeat                         ? std::ssize(node.children)
                               : node.most == Node::kUnbounded ? node.least + std::ssize(text_) + 1
                                                               : node.most;
        std::set<size_t> ends{at}, all;
        if (repeat && node.least == 0) all = ends;
        for (int64_t i = 0; i < rounds; ++i) {
          std::set<size_t> next;
          for (size_t e : ends) next.merge(Ends(node.children[repeat ? 0 : static_cast<size_t>(i)], e));
          ends = next;
          if (repeat && i + 1 >= node.least) all.insert(ends.begin(), ends.end());
        }
        return repeat ? all : ends;
      }
      default:
        return {at};
    }
  }

  const Rules& rules_;
  std::string_view text_;
  std::set<std::tuple<int32_t, size_t, size_t>> spans_;
};

void ExpectAgrees(std::string_view grammar, std::string_view alphabet, size_t length, bool varied = true) {
  const Rules rules = ParseGbnf(grammar).Value().rules;
  const std::unique_ptr<Machine> machine = Grammar(grammar);
  int64_t matches = 0;
  ForEachText(alphabet, length, [&](const std::string& text) {
    const bool expected = SpanParser(rules, text).Matches();
    EXPECT_EQ(Matches(*machine, text), expected) << grammar << "\non " << text;
    matches += expected;
  });
  if (varied) {
    EXPECT_GT(matches, 0) << grammar;
  }
}

TEST(Gbnf, AgreesWithSpans) {
  ExpectAgrees(R"(root ::= "a" root "b" | "")", "ab", 7);
  ExpectAgrees(R"g(root ::= expr
expr ::= term ("+" term)*   # sums
term ::= "a" | "(" expr ")")g",
               "a+()", 5);
  ExpectAgrees("root ::= root \"+\" \"a\" | \"a\"", "a+", 7);                 // left recursion
  ExpectAgrees("root ::= (root \"+\" root | \"a\") | \"b\" root", "ab+", 5);  // ambiguous, in a group
  ExpectAgrees("root ::= x{2,3} y\nx ::= [ab]?\ny ::= \"b\"*", "ab", 6);
  ExpectAgrees("root ::= pal\npal ::= \"a\" pal \"a\" | \"b\" pal \"b\" | [ab]?", "ab", 6);
  ExpectAgrees("root ::= (\"a\"? \"b\"?)* \"a\"", "ab", 6);
  ExpectAgrees("root ::= list\nlist ::= item | item \",\" list\nitem ::= [ab]+", "ab,", 5);
  ExpectAgrees("root ::= a | b\na ::= \"a\" a\nb ::= \"b\"", "ab", 4);  // a never ends
}

// Random grammars of three rules.
TEST(Gbnf, AgreesWithSpansAtRandom) {
  Rng rng(3, 0, 0);
  const auto pick = [&](int64_t n) { return rng.NextBelow(n); };
  int64_t compiled = 0, refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string grammar;
    for (const char* rule : {"root", "x", "y"}) {
      grammar += std::string(rule) + " ::=";
      for (int64_t a = 0, n = 1 + pick(3); a < n; ++a) {
        if (a > 0) grammar += " |";
        for (int64_t e = 0, m = pick(4); e < m; ++e) {
          static constexpr const char* kElements[] = {" \"a\"", " \"b\"", " x", " y", " root", " [ab]", " (\"a\" x)"};
          static constexpr const char* kCounts[] = {"", "", "", "", "?", "*", "{1,2}"};
          grammar += kElements[pick(7)];
          grammar += kCounts[pick(7)];
        }
      }
      grammar += "\n";
    }
    if (!CompileGbnf(grammar).ok()) {
      EXPECT_THAT(GbnfError(grammar), testing::AnyOf(HasSubstr("left recursion"), HasSubstr("no text matches")));
      ++refused;
      continue;
    }
    ++compiled;
    ExpectAgrees(grammar, "ab", 4, false);
  }
  EXPECT_GT(compiled, 50);
  EXPECT_GT(refused, 20);
}

TEST(Gbnf, Syntax) {
  const std::unique_ptr<Machine> json = Grammar(R"(root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
)");
  EXPECT_TRUE(Matches(*json, R"({"a": [1, -2.5e3, {"b": "\u00e9\n"}], "c": null})"));
  EXPECT_FALSE(Matches(*json, R"({"a": [1, }])"));
  EXPECT_NE(After(*json, R"({"a": [[[[{"x)"), Machine::kDead);
  EXPECT_TRUE(Matches(*Grammar("root ::= 'it\\'s' \"\\u4e2d\" \"\\U0001F600\" \"\\x41\" .\r\n"),
                      "it's\xE4\xB8\xAD\xF0\x9F\x98\x80"
                      "A!"));
  EXPECT_TRUE(Matches(*Grammar("a-b_2 ::= \"x\"\n# only this\nroot ::= a-b_2\n  | \"y\"\n  a-b_2"), "yx"));
  EXPECT_TRUE(Matches(*Grammar("root ::= [a-c]{2} [^a-c]{,2} \"-\"{1,} [\\]x]?"), "bbzz--]"));
  EXPECT_THAT(ParseGbnf("root ::= \"a\"\nu ::= v\nv ::= u").Value().unreachable, ElementsAre("u", "v"));
}

TEST(Gbnf, RefusedByName) {
  EXPECT_THAT(GbnfError("root ::= a"), HasSubstr("rule a is not defined"));
  EXPECT_THAT(GbnfError("a ::= \"x\""), HasSubstr("no rule named root"));
  EXPECT_THAT(GbnfError(""), HasSubstr("no rule named root"));
  EXPECT_THAT(GbnfError("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("defined twice"));
  EXPECT_THAT(GbnfError("root ::= a\na ::= b \"x\" | \"y\"\nb ::= a \"z\""), HasSubstr("a -> b -> a"));
  EXPECT_THAT(GbnfError("root ::= \"x\"? root \"y\" | \"z\""), HasSubstr("root -> root"));
  EXPECT_THAT(GbnfError("root ::= \"a\" root"), HasSubstr("no text matches"));
  EXPECT_THAT(GbnfError("start: \"a\""), HasSubstr("::="));
  EXPECT_THAT(GbnfError("root ::= /a+/"), HasSubstr("/.../"));
  EXPECT_THAT(GbnfError("root ::= <think>"), HasSubstr("token elements"));
  EXPECT_THAT(GbnfError("root ::= (\"a\""), HasSubstr("not closed"));
  EXPECT_THAT(GbnfError("root ::= \"a"), HasSubstr("not closed"));
  EXPECT_THAT(GbnfError("root ::= [a"), HasSubstr("not closed"));
  EXPECT_THAT(GbnfError("root ::= [b-a]"), HasSubstr("wrong order"));
  EXPECT_THAT(GbnfError("root ::= \"\\q\""), HasSubstr("escape"));
  EXPECT_THAT(GbnfError("root ::= \"a\"{3,1}"), HasSubstr("wrong order"));
  EXPECT_THAT(GbnfError("root ::= (\"a\"{1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(GbnfError("root ::= " + std::string(5000, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(GbnfError(std::string("root ::= \"\xFF\"")), HasSubstr("UTF-8"));
  EXPECT_THAT(GbnfError("root ::= \"a\"\n)"), HasSubstr("line 2"));
  EXPECT_THAT(GbnfError(std::string(kMaxGrammarBytes + 1, ' ')), HasSubstr("too long"));
}

// Right recursion as long as a text is does not grow states; nesting does, up to a bound.
TEST(Gbnf, StatesAndDepth) {
  const std::unique_ptr<Machine> list = Grammar("root ::= item root | \"\"\nitem ::= \"ab\"");
  EXPECT_EQ(After(*list, "abababab"), After(*list, "ab"));
  const std::unique_ptr<Machine> nested = Grammar("root ::= \"(\" root \")\" | \"\"");
  EXPECT_TRUE(Matches(*nested, std::string(5000, '(') + std::string(5000, ')')));
  EXPECT_THROW(After(*nested, std::string(3'000'000, '(')), Error);
}

// Ambiguity that doubles with each character is one set of places or an error, never a long wait.
TEST(Gbnf, AmbiguityIsBounded) {
  const std::unique_ptr<Machine> machine = Grammar("root ::= \"a\" root root | \"\"");
  try {
    EXPECT_TRUE(Matches(*machine, std::string(3000, 'a')));
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("ambiguous"));
  }
}

TEST(Choice, OneOfTheTexts) {
  const std::unique_ptr<Machine> machine = CompileChoice({"positive", "negative", "pos", "", "\xC3\xA9"}).Value();
  for (const char* text : {"positive", "negative", "pos", "", "\xC3\xA9"}) EXPECT_TRUE(Matches(*machine, text));
  for (const char* text : {"posi", "neg", "x"}) EXPECT_FALSE(Matches(*machine, text));
  EXPECT_FALSE(CompileChoice({}).ok());
  EXPECT_FALSE(CompileChoice({"\xFF"}).ok());
}

TEST(ThinkingMachine, ThinksFirst) {
  const auto make = [](Thinking thinking) { return AfterThinking(Grammar("root ::= \"yes\" | \"<no>\""), thinking); };
  const auto open = make(Thinking::kOpen), may = make(Thinking::kMayOpen), none = make(Thinking::kNone);
  EXPECT_TRUE(Matches(*none, "yes"));
  EXPECT_FALSE(Matches(*none, "</think>yes"));
  for (const char* thought : {"</think>", "a <</think>", "x\xFF</thi</think>\n", "yes</think>\n\n"}) {
    EXPECT_TRUE(Matches(*open, std::string(thought) + "yes")) << thought;
    EXPECT_FALSE(Matches(*open, std::string(thought) + "ye")) << thought;
    EXPECT_EQ(After(*open, std::string(thought) + "maybe"), Machine::kDead) << thought;
    EXPECT_TRUE(Matches(*may, " \n<think>" + std::string(thought) + "<no>")) << thought;
  }
  EXPECT_FALSE(Matches(*open, "yes"));
  EXPECT_FALSE(Matches(*open, "</think>\n\n\nyes"));
  EXPECT_TRUE(Matches(*may, "yes"));
  EXPECT_TRUE(Matches(*may, "<no>"));
  EXPECT_EQ(After(*may, "<nothing"), Machine::kDead);
  EXPECT_EQ(After(*make(Thinking::kOpen), "x</think>\nyes!"), Machine::kDead);
}

}  // namespace
}  // namespace fathom::grammar
