// What the generators promise: the same text for the same seed, agreement of what is said, answers that are right, and
// books without what is no running text.
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>
#include <set>

#include "corpus/books.h"
#include "corpus/dialogues.h"
#include "corpus/stories.h"
#include "corpus/teller.h"

namespace fathom::corpus {
namespace {

constexpr int64_t kDocuments = 400;

TEST(Teller, ChoicesKeysAndArticles) {
  Teller t(1, 1, 0);
  t.Set("thing", "old [red|blue] hat");
  t.Set("h", "pip");
  std::set<std::string> said;
  for (int i = 0; i < 100; ++i) said.insert(t.Say("<H> has a~ <thing>[|, too].  A~ pen."));
  EXPECT_EQ(said,
            (std::set<std::string>{"Pip has an old red hat. A pen.", "Pip has an old blue hat. A pen.",
                                   "Pip has an old red hat, too. A pen.", "Pip has an old blue hat, too. A pen."}));
}

TEST(Teller, FixedValuesStayAndDocumentsDiffer) {
  Teller t(1, 1, 0), same(1, 1, 0), other(1, 1, 1);
  t.Fix("x", "[1|2|3|4|5|6|7|8|9]");
  const std::string x = t.Say("<x>");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(t.Say("<x>"), x);
  same.Fix("x", "[1|2|3|4|5|6|7|8|9]");
  EXPECT_EQ(same.Say("<x>"), x);
  const std::string digits = "[0|1|2|3|4|5|6|7|8|9]", ten = digits + digits + digits + digits + digits + digits;
  EXPECT_NE(other.Say(ten), Teller(1, 1, 0).Say(ten));
}

TEST(Stories, AreDeterministicVariedAndOfTheirSize) {
  std::set<std::string> texts, beginnings;
  for (int64_t i = 0; i < kDocuments; ++i) {
    const std::string text = StoryDocument(7, i);
    EXPECT_EQ(text, StoryDocument(7, i));
    EXPECT_GE(text.size(), 400u) << text;
    EXPECT_LE(text.size(), 1500u) << text;
    EXPECT_EQ(text.find_first_of("[]<>|~"), std::string::npos) << text;
    EXPECT_EQ(text.find("  "), std::string::npos) << text;
    texts.insert(text);
    beginnings.insert(text.substr(0, 60));
  }
  EXPECT_EQ(texts.size(), static_cast<size_t>(kDocuments));
  EXPECT_GT(beginnings.size(), static_cast<size_t>(kDocuments) * 9 / 10);
  EXPECT_NE(StoryDocument(7, 0), StoryDocument(8, 0));
}

TEST(Stories, AnswersAreInTheStory) {
  int64_t lost = 0;
  for (int64_t i = 0; i < kDocuments; ++i) {
    Teller teller(3, 9, i);
    const Story story = TellStory(teller);
    EXPECT_NE(story.text.find(story.hero), std::string::npos);
    EXPECT_GE(story.questions.size(), 5u);
    for (const Question& q : story.questions) {
      EXPECT_EQ(q.question.back(), '?');
      EXPECT_FALSE(q.full.empty());
      if (!q.question.starts_with("What did " + story.hero + " lose")) continue;
      ++lost;
      // "a red kite" is named by its noun in the story, and whoever lost it had it before.
      EXPECT_NE(story.text.find(q.brief), std::string::npos) << story.text;
    }
  }
  EXPECT_GT(lost, 0);
}

TEST(Lexicon, PronounsAgree) {
  Teller t(5, 9, 0);
  Being girl = DrawChild(t, {}), boy = girl;
  girl.female = true;
  boy.female = false;
  Cast(t, "h", girl);
  Cast(t, "f", boy);
  EXPECT_EQ(t.Say("<H.He> saw <f.him> in <h.his> garden, by <h.himself>."), "She saw him in her garden, by herself.");
  EXPECT_EQ(t.Say("<F.He> saw <h.him> in <f.his> garden, by <f.himself>."), "He saw her in his garden, by himself.");
}

TEST(Lexicon, NoTwoOfAKindOrName) {
  Teller t(6, 9, 0);
  std::vector<Being> beings;
  for (int i = 0; i < 30; ++i) beings.push_back(DrawAnimal(t, beings));
  std::set<std::string> names, kinds;
  for (const Being& b : beings) {
    names.insert(b.name);
    kinds.insert(b.kind);
  }
  EXPECT_EQ(names.size(), beings.size());
  EXPECT_EQ(kinds.size(), beings.size());
}

int64_t FirstNumber(const std::string& text) {
  std::smatch m;
  return std::regex_search(text, m, std::regex("-?[0-9]+")) ? std::atoll(m.str().c_str()) : -1;
}

TEST(Dialogues, SumsAreRight) {
  const std::regex plain("([0-9]+) ([-+x]) ([0-9]+) = ([0-9]+)");
  int64_t checked = 0;
  for (int64_t i = 0; i < 4 * kDocuments; ++i) {
    Teller teller(11, 9, i);
    Dialogue d;
    AddArithmetic(teller, &d);
    ASSERT_EQ(d.size(), 2u);
    std::smatch m;
    if (!std::regex_search(d[1].content, m, plain)) continue;
    const int64_t a = std::stoll(m[1]), b = std::stoll(m[3]);
    EXPECT_EQ(std::stoll(m[4]), m[2] == "+" ? a + b : m[2] == "-" ? a - b : a * b) << d[1].content;
    EXPECT_EQ(FirstNumber(d[0].content), a) << d[0].content;
    ++checked;
  }
  EXPECT_GT(checked, 100);
}

TEST(Dialogues, Numbers) {
  EXPECT_EQ(NumberWord(0), "zero");
  EXPECT_EQ(NumberWord(13), "thirteen");
  EXPECT_EQ(NumberWord(40), "forty");
  EXPECT_EQ(NumberWord(99), "ninety-nine");
  EXPECT_EQ(NumberWord(144), "one hundred and forty-four");
  EXPECT_EQ(NumberWord(200), "two hundred");
}

TEST(Dialogues, TurnsAlternateAndEndWithTheAssistant) {
  for (int64_t i = 0; i < kDocuments; ++i) {
    const Dialogue d = DrawDialogue(2, i);
    ASSERT_FALSE(d.empty());
    EXPECT_EQ(d.size() % 2, 0u);
    for (size_t k = 0; k < d.size(); ++k) {
      EXPECT_EQ(d[k].role, k % 2 == 0 ? "user" : "assistant");
      EXPECT_FALSE(d[k].content.empty());
      EXPECT_EQ(d[k].content.find_first_of("<>~|"), std::string::npos) << d[k].content;
    }
  }
}

TEST(Books, PlainTextOfGutenberg) {
  const std::string prose =
      "It was a fine morning, and the road was dry. He walked _slowly_ along\nit and thought of \u201cnothing\u201d at "
      "all \u2014 "
      "or so he said [1] to\neverybody who asked him about that particular morning in the years\nthat came after it, "
      "when all was "
      "well again and nobody minded.";
  const auto documents =
      CleanBooks("Produced by Somebody\n\n\nTHE BOOK\n\nCONTENTS\n\n  Chapter I   A Road\n\nChapter I\n\n" + prose +
                     "\n\nA rose,\nA nose,\nA toe,\nA woe,\nA sky,\nA lie,\nA sea,\nA bee,\nA tree.\n\n\"Yes,\" he "
                     "said.\n\nChapter 2\n\nshort.\n",
                 "The Book");
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].book, "The Book");
  EXPECT_EQ(documents[0].text,
            "It was a fine morning, and the road was dry. He walked slowly along it and thought of \"nothing\" at all "
            "-- or so he "
            "said to everybody who asked him about that particular morning in the years that came after it, when all "
            "was well "
            "again and nobody minded.\n\n\"Yes,\" he said.");
}

TEST(Books, MarkdownIsSplitByTitleAndLongSectionsIntoParts) {
  const std::string sentence = "The fox looked at the grapes once more and went on, for they were sour. ";
  std::string paragraph, chapter;
  for (int i = 0; i < 6; ++i) paragraph += sentence;
  for (int i = 0; i < 20; ++i) chapter += paragraph + "\n\n";
  const auto documents =
      CleanBooks("# Title: One\n\n## I\n\n" + chapter + "# Title: Two\n\n## THE FOX\n\n" + paragraph + "\n", "");
  ASSERT_GE(documents.size(), 3u);
  EXPECT_EQ(documents.back().book, "Two");
  for (const BookDocument& d : documents) EXPECT_LE(d.text.size(), 4000u);
  EXPECT_EQ(documents.front().book, "One");
  EXPECT_GE(documents.front().text.size(), 2000u);
}

}  // namespace
}  // namespace fathom::corpus
