// Expressions against a matcher that backtracks over the tree, all texts of a small alphabet each; what is refused; and
// that a machine's states are dead exactly where no text can be completed.
#include "grammar/regex.h"
#include "core/utf8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/rng.h"
#include "grammar/test_machine.h"
#include "grammar/utf8_machine.h"

namespace fathom::grammar {
namespace {

using testing::HasSubstr;

// The ends of all matches of `node` that begin at `at`.
std::set<size_t> EndsOf(const Node& node, std::u32string_view text, size_t at) {
  switch (node.kind) {
    case Node::Kind::kEmpty:
      return {at};
    case Node::Kind::kBegin:
      return at == 0 ? std::set<size_t>{at} : std::set<size_t>{};
    case Node::Kind::kEnd:
      return at == text.size() ? std::set<size_t>{at} : std::set<size_t>{};
    case Node::Kind::kSet:
      return at < text.size() && Contains(node.set, text[at]) ? std::set<size_t>{at + 1} : std::set<size_t>{};
    case Node::Kind::kChoice: {
      std::set<size_t> all;
      for (const Node& child : node.children) all.merge(EndsOf(child, text, at));
      return all;
    }
    case Node::Kind::kSequence: {
      std::set<size_t> ends{at};
      for (const Node& child : node.children) {
        std::set<size_t> next;
        for (size_t e : ends) next.merge(EndsOf(child, text, e));
        ends = next;
      }
      return ends;
    }
    case Node::Kind::kRepeat: {
      std::set<size_t> ends{at}, all;
      if (node.least == 0) all = ends;
      // More rounds than the text has characters reach no other places.
      const int64_t most = node.most == Node::kUnbounded ? node.least + std::ssize(text) + 1 : node.most;
      for (int64_t i = 1; i <= most; ++i) {
        std::set<size_t> next;
        for (size_t e : ends) next.merge(EndsOf(node.children.front(), text, e));
        ends = next;
        if (i >= node.least) all.insert(ends.begin(), ends.end());
      }
      return all;
    }
    case Node::Kind::kRule:
      break;
  }
  return {};
}

std::u32string Wide(std::string_view text) { return {text.begin(), text.end()}; }

bool Expected(const Node& node, std::string_view text, RegexScope scope) {
  const std::u32string wide = Wide(text);
  if (scope == RegexScope::kWhole) return EndsOf(node, wide, 0).count(wide.size()) > 0;
  for (size_t begin = 0; begin <= wide.size(); ++begin) {
    if (!EndsOf(node, wide, begin).empty()) return true;
  }
  return false;
}

std::unique_ptr<Machine> Compiled(std::string_view expression, RegexScope scope = RegexScope::kWhole) {
  return CompileRegex(expression, scope).Value();
}

// Random expressions over a and b.
std::string RandomExpression(Rng& rng, int depth) {
  const auto pick = [&](uint64_t n) { return rng.NextU64() % n; };
  if (depth == 0) {
    static constexpr const char* kAtoms[] = {"a", "b", "[ab]", "[^a]", ".", "", "^", "$"};
    return kAtoms[pick(8)];
  }
  switch (pick(5)) {
    case 0:
      return "(?:" + RandomExpression(rng, depth - 1) + "|" + RandomExpression(rng, depth - 1) + ")";
    case 1: {
      static constexpr const char* kCounts[] = {"*", "+", "?", "{2}", "{1,}", "{0,2}", "{1,3}", "*?"};
      return "(" + RandomExpression(rng, depth - 1) + ")" + kCounts[pick(8)];
    }
    default:
      return RandomExpression(rng, depth - 1) + RandomExpression(rng, depth - 1);
  }
}

TEST(Regex, AgreesWithBacktracking) {
  Rng rng(7, 0, 0);
  int64_t matches = 0, texts = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string expression = RandomExpression(rng, 4);
    const Node node = ParseRegex(expression).Value();
    for (RegexScope scope : {RegexScope::kWhole, RegexScope::kSearch}) {
      const std::unique_ptr<Machine> machine = Compiled(expression, scope);
      ForEachText("ab", 5, [&](const std::string& text) {
        const bool expected = Expected(node, text, scope);
        EXPECT_EQ(Matches(*machine, text), expected) << expression << " on " << text;
        matches += expected;
        ++texts;
      });
    }
  }
  EXPECT_GT(matches, texts / 10);
  EXPECT_LT(matches, texts * 9 / 10);
}

// From a state that is not dead a shortest way to the end is found; no more than so many bytes long for these.
TEST(Regex, EveryStateCanBeCompleted) {
  Rng rng(11, 0, 0);
  for (int i = 0; i < 300; ++i) {
    const std::string expression = RandomExpression(rng, 4);
    const std::unique_ptr<Machine> machine = Compiled(expression);
    std::set<Machine::State> seen{machine->Start()};
    std::vector<Machine::State> order{machine->Start()};
    if (machine->Start() == Machine::kDead) continue;
    std::vector<std::pair<size_t, size_t>> edges;  // of places in `order`
    for (size_t at = 0; at < order.size(); ++at) {
      for (int byte = 0; byte < 256; ++byte) {
        const Machine::State next = machine->Next(order[at], static_cast<uint8_t>(byte));
        if (next == Machine::kDead) continue;
        if (seen.insert(next).second) order.push_back(next);
        edges.push_back({at, static_cast<size_t>(std::find(order.begin(), order.end(), next) - order.begin())});
      }
    }
    std::vector<bool> ends(order.size());
    for (size_t at = 0; at < order.size(); ++at) ends[at] = machine->Accepts(order[at]);
    for (size_t round = 0; round < order.size(); ++round) {
      for (const auto& [from, to] : edges) ends[from] = ends[from] || ends[to];
    }
    for (size_t at = 0; at < order.size(); ++at) EXPECT_TRUE(ends[at]) << expression << ", state " << at;
  }
}

TEST(Regex, ClassesAndEscapes) {
  const auto matches = [](std::string_view expression, std::string_view text) {
    return Matches(*Compiled(expression), text);
  };
  EXPECT_TRUE(matches(R"(\d{4}-\d\d-\d\d)", "2024-12-27"));
  EXPECT_FALSE(matches(R"(\d{4}-\d\d-\d\d)", "2024-1-27"));
  EXPECT_TRUE(matches(R"([\w.+-]+@\w+\.com)", "a.b+c@site.com"));
  EXPECT_TRUE(matches(R"([^\s"\\]*)", "ab\xC3\xA9"));
  EXPECT_FALSE(matches(R"([^\s"\\]*)", "a b"));
  EXPECT_TRUE(matches(R"(\x41\u0042\u{43}\t\cJ\/\.)", "ABC\t\n/."));
  EXPECT_TRUE(matches(R"(\uD83D\uDE00)", "\xF0\x9F\x98\x80"));
  EXPECT_TRUE(matches("[\xC3\xA0-\xC3\xBF]+", "\xC3\xA9\xC3\xA8"));
  EXPECT_FALSE(matches("[\xC3\xA0-\xC3\xBF]+", "e"));
  EXPECT_TRUE(matches(R"(\p{L}+\P{Letter})",
                      "\xD0\xB6\xE4\xB8\xAD"
                      "1"));
  EXPECT_TRUE(matches("a{,2}b", "aab"));
  EXPECT_TRUE(matches("{a}", "{a}"));
  EXPECT_TRUE(matches("(?<year>x)(?P<y>y)", "xy"));
  EXPECT_FALSE(matches("[]", ""));
  EXPECT_TRUE(matches("[^]", "\n"));
  EXPECT_FALSE(matches(".", "\n"));
  EXPECT_TRUE(matches("^(yes|no)$", "no"));
  EXPECT_TRUE(matches(".", "\xE4\xB8\xAD"));
  EXPECT_FALSE(matches(".", "\xE4\xB8"));          // cut off
  EXPECT_FALSE(matches(".", "\xC0\x80"));          // overlong
  EXPECT_FALSE(matches(".", "\xED\xA0\x80"));      // a surrogate
  EXPECT_FALSE(matches(".", "\xF4\x90\x80\x80"));  // above 10FFFF
}

// All characters at once, against the encoder.
TEST(Regex, EveryCharacterAsUtf8) {
  const std::unique_ptr<Machine> machine = Compiled(R"(\p{L})");
  const CharSet letters = UnicodeClass("L").value();
  for (uint32_t c = 0; c <= kMaxChar; c += c < 0x3000 ? 1 : 17) {
    std::string text;
    AppendUtf8(c, text);
    ASSERT_EQ(Matches(*machine, text), Contains(letters, c)) << c;
  }
}

// What has not begun to differ is one state: few of them for many characters.
TEST(Regex, FewStatesForManyCharacters) {
  auto chars = RegexOverChars("[^\"\\\\]*", RegexScope::kWhole).Value();
  Utf8Machine machine(std::move(chars));
  const Machine::State start = machine.Start();
  for (uint32_t c = 0x80; c < 0x20000; c += 7) {
    std::string text;
    AppendUtf8(c, text);
    if (c >= 0xD800 && c < 0xE000) continue;
    ASSERT_EQ(After(machine, text), start);
  }
  EXPECT_LE(machine.states(), 10);
}

TEST(Regex, RefusedByName) {
  const auto error = [](std::string_view expression) {
    const auto r = CompileRegex(expression);
    return r.ok() ? std::string("taken") : std::string(r.error().what());
  };
  EXPECT_THAT(error("a(?=b)"), HasSubstr("look-ahead"));
  EXPECT_THAT(error("a(?!b)"), HasSubstr("look-ahead"));
  EXPECT_THAT(error("(?<=b)a"), HasSubstr("look-behind"));
  EXPECT_THAT(error(R"((a)\1)"), HasSubstr("back-reference"));
  EXPECT_THAT(error(R"((?<x>a)\k<x>)"), HasSubstr("back-reference"));
  EXPECT_THAT(error(R"(\bword)"), HasSubstr("word boundary"));
  EXPECT_THAT(error("a++"), HasSubstr("possessive"));
  EXPECT_THAT(error("(?>a)"), HasSubstr("atomic"));
  EXPECT_THAT(error("(?i)a"), HasSubstr("flags"));
  EXPECT_THAT(error("[[:alpha:]]"), HasSubstr("POSIX"));
  EXPECT_THAT(error(R"(\p{Greek})"), HasSubstr("\\p{Greek}"));
  EXPECT_THAT(error(R"(\q)"), HasSubstr("\\q"));
  EXPECT_THAT(error("(a"), HasSubstr("not closed"));
  EXPECT_THAT(error("a)"), HasSubstr("closing parenthesis"));
  EXPECT_THAT(error("[a"), HasSubstr("not closed"));
  EXPECT_THAT(error("*a"), HasSubstr("nothing before it"));
  EXPECT_THAT(error("a{3,2}"), HasSubstr("wrong order"));
  EXPECT_THAT(error("[b-a]"), HasSubstr("wrong order"));
  EXPECT_THAT(error("\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(error(std::string(1000, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(error("(a{1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(error("((((a{90}){90}){90}){90}){90}"), HasSubstr("too large"));
  EXPECT_THAT(error(std::string(kMaxRegexBytes + 1, 'a')), HasSubstr("too long"));
}

TEST(Regex, NoTextAtAll) {
  for (const char* expression : {"a^b", "$a", "[]", "a[]b"}) {
    EXPECT_EQ(Compiled(expression)->Start(), Machine::kDead) << expression;
  }
  EXPECT_TRUE(Matches(*Compiled("a|[]"), "a"));
  EXPECT_TRUE(Matches(*Compiled("^$"), ""));
  EXPECT_TRUE(Matches(*Compiled("$^"), ""));
}

// Exponentially many states, of which a text reaches few.
TEST(Regex, BlowUpIsBounded) {
  const std::unique_ptr<Machine> machine = Compiled("(a|b)*a(a|b){18}");
  EXPECT_TRUE(Matches(*machine, "bba" + std::string(18, 'b')));
  EXPECT_FALSE(Matches(*machine, "bbb" + std::string(18, 'b')));
  const std::unique_ptr<Machine> large = Compiled("(a|b)*a(a|b){4000}");
  Rng rng(1, 0, 0);
  std::string text;
  for (int i = 0; i < 20000; ++i) text += rng.NextU64() % 2 ? 'a' : 'b';
  EXPECT_THROW(After(*large, text), Error);
}

}  // namespace
}  // namespace fathom::grammar
