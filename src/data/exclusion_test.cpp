#include "data/exclusion.h"

#include <algorithm>

#include "data/test_files.h"

namespace fathom::data {
namespace {

using Parts = std::vector<std::string>;

// Words that are nowhere else, about 7 bytes each.
std::string Unique(uint64_t seed, int words) {
  Rng rng(seed, 17);
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += ' ';
    text += std::to_string(100'000 + rng.NextBelow(900'000));
  }
  return text;
}

TEST(Exclusion, EqualDocumentsHoweverShort) {
  Exclusion exclusion;
  exclusion.Add("  A short one.\n");
  exclusion.Add(Unique(1, 100));
  Parts rest = {"left from before"};
  EXPECT_TRUE(exclusion.Cut("A short\none. ", &rest));
  EXPECT_TRUE(rest.empty());
  EXPECT_TRUE(exclusion.Cut(Unique(1, 100) + "\n", &rest));
  EXPECT_TRUE(rest.empty());
  EXPECT_FALSE(exclusion.Cut("A short one. And more.", &rest));
  EXPECT_FALSE(exclusion.Cut("", &rest));
  EXPECT_FALSE(Exclusion().Cut("anything", &rest));
}

TEST(Exclusion, CutsTheTextOutOfALongerOne) {
  const std::string held = Unique(1, 50), before = Unique(2, 500), after = Unique(3, 500);
  std::string wrapped = held;  // other line breaks, at every fourth blank
  for (size_t i = 6; i < wrapped.size(); i += 31) wrapped.replace(i, 1, "\r\n  ");
  Exclusion exclusion;
  exclusion.Add(Unique(9, 40));
  exclusion.Add(held);
  Parts rest;
  EXPECT_TRUE(exclusion.Cut(before + "\n\n" + wrapped + "\n\n" + after + "\n", &rest));
  EXPECT_EQ(rest, (Parts{before + "\n\n", std::string("\n\n") + after + "\n"}));
  EXPECT_TRUE(exclusion.Cut(wrapped + "\n" + after, &rest));
  EXPECT_EQ(rest, Parts{std::string("\n") + after});
  EXPECT_TRUE(exclusion.Cut(before + " " + held, &rest));
  EXPECT_EQ(rest, Parts{before + " "});
  EXPECT_TRUE(exclusion.Cut(held + " " + held + "\n" + before + "\n" + held, &rest));
  EXPECT_EQ(rest, Parts{std::string("\n") + before + "\n"});
  EXPECT_FALSE(exclusion.Cut(before + after, &rest));
}

TEST(Exclusion, FindsPartsOfIt) {
  const std::string held = Unique(1, 200), other = Unique(2, 100);
  Exclusion exclusion;
  exclusion.Add(held);
  Parts rest;
  for (size_t at = 0; at + Exclusion::kRunBytes <= held.size(); at += 13) {  // a run at any place, in any surroundings
    const std::string run = held.substr(at, Exclusion::kRunBytes);
    ASSERT_TRUE(exclusion.Cut(other + "<" + run + ">" + other, &rest)) << at;
    ASSERT_EQ(rest.size(), 2u);
    // Blanks at the run's ends belong to either side.
    EXPECT_GE(rest[0].size() + 1, other.size() + 1);
    EXPECT_EQ(rest[0].find(run.substr(1, 20)), std::string::npos);
  }
  EXPECT_FALSE(exclusion.Cut(other + "<" + held.substr(40, Exclusion::kRunBytes - 30) + ">", &rest)) << "too short";
  EXPECT_TRUE(exclusion.Cut(held.substr(41, 70), &rest)) << "a paragraph of it as a document";
  EXPECT_TRUE(rest.empty());
}

TEST(Exclusion, CutsBetweenCharacters) {
  std::string held;
  for (int i = 0; i < 60; ++i) held += std::string("狐") + std::to_string(i);
  Exclusion exclusion;
  exclusion.Add(held + "\xE7\x8B\x90");  // 狐
  Parts rest;
  // 狗 shares two bytes with 狐: the run ends within it.
  ASSERT_TRUE(exclusion.Cut(std::string("ein ") + held + "\xE7\x8B\x97 aus", &rest));
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0], "ein ");
  EXPECT_EQ(rest[1], " aus");
}

TEST(Exclusion, RepetitiveTextIsNoTrap) {
  Exclusion exclusion;
  exclusion.Add(std::string(5000, '-'));
  for (uint64_t i = 0; i < 100; ++i) exclusion.Add(std::string(100, '-') + Unique(i, 20));
  Parts rest;
  EXPECT_TRUE(exclusion.Cut(std::string("a") + std::string(2'000'000, '-') + "b", &rest));
  EXPECT_EQ(rest, (Parts{"a", "b"}));
  EXPECT_FALSE(exclusion.Cut(std::string("a") + std::string(99, '-') + "b", &rest));
}

// Against a search of every run by brute force.
TEST(Exclusion, LeavesNoLongRunOfRandomTexts) {
  Rng rng(11);
  const auto letters = [&](int64_t n) {
    std::string text;
    for (; n > 0; --n) text += static_cast<char>("ab \n"[rng.NextBelow(4)]);
    return text;
  };
  const auto normal = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      const bool space = c == ' ' || c == '\n';
      if (!space || (!out.empty() && out.back() != ' ')) out += space ? ' ' : c;
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
  };
  int64_t cut = 0;
  for (int round = 0; round < 100; ++round) {
    const std::string held = letters(400);
    Exclusion exclusion;
    exclusion.Add(held);
    std::string text = letters(300);
    for (int64_t n = rng.NextBelow(3); n > 0; --n) {
      const auto at = static_cast<size_t>(rng.NextBelow(200));
      text += held.substr(at, static_cast<size_t>(100 + rng.NextBelow(200))) + letters(rng.NextBelow(100));
    }
    Parts rest;
    if (!exclusion.Cut(text, &rest)) rest = {text};
    cut += rest != Parts{text};
    const std::string forbidden = normal(held);
    for (const std::string& part : rest) {
      const std::string left = normal(part);
      for (size_t at = 0; at + Exclusion::kRunBytes <= left.size(); ++at) {
        ASSERT_EQ(forbidden.find(left.substr(at, Exclusion::kRunBytes)), std::string::npos);
      }
      ASSERT_NE(text.find(part), std::string::npos);
    }
  }
  EXPECT_GT(cut, 30);
}

TEST(Exclusion, HashTellsListsApart) {
  Exclusion a, b, c;
  a.Add("one");
  b.Add("two");
  c.Add(" one ");
  EXPECT_NE(a.hash(), b.hash());
  EXPECT_EQ(a.hash(), c.hash());
  EXPECT_NE(a.hash(), Exclusion().hash());
}

}  // namespace
}  // namespace fathom::data
