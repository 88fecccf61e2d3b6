#include "corpus/recall.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace fathom::corpus {
namespace {

int64_t Bytes(std::string_view text) { return static_cast<int64_t>(text.size()); }

std::vector<std::string> Sentences(const std::string& text) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(". ", begin), text.size() - 1);
    out.push_back(text.substr(begin, end + 1 - begin));
    begin = end + 2;
  }
  return out;
}

// Every question's answer is the one that its key's fact gave before.
TEST(Recall, AnswersFollowFromTheDocumentAlone) {
  RecallOptions o{.least = 200, .most = 3000};
  for (const RecallForm form : {RecallForm::kNotes, RecallForm::kSentences}) {
    o.form = form;
    const bool notes = form == RecallForm::kNotes;
    const std::string fact_begin = notes ? "Note: " : "The secret word of ";
    const std::string question_begin = notes ? "Recall: " : "What is the secret word of ";
    int64_t questions = 0;
    std::set<std::string> answers;
    for (int64_t i = 0; i < 100; ++i) {
      const std::string text = RecallDocument(3, i, o, Bytes);
      ASSERT_LE(Bytes(text), o.most);
      std::map<std::string, std::string> known, asked;
      for (const std::string& s : Sentences(text)) {
        const bool fact = s.rfind(fact_begin, 0) == 0, question = s.rfind(question_begin, 0) == 0;
        if (!fact && !question) continue;
        const size_t at = (fact ? fact_begin : question_begin).size();
        const std::string key = s.substr(at, s.find_first_of(" ?", at) - at);
        const size_t last = s.rfind(' ') + 1;
        const std::string answer = s.substr(last, s.size() - 1 - last);
        if (fact) {
          EXPECT_TRUE(known.emplace(key, answer).second) << text;
          answers.insert(answer);
        } else {
          ASSERT_TRUE(known.count(key)) << "asked before it is said: " << s << "\n" << text;
          EXPECT_EQ(known[key], answer);
          asked[key] = answer;
          ++questions;
        }
      }
      EXPECT_FALSE(known.empty());
      EXPECT_EQ(known, asked) << "every fact is asked for";
    }
    EXPECT_GT(questions, 500);
    EXPECT_GE(answers.size(), 40u);
  }
}

TEST(Recall, LengthsSpreadAndTheSameSeedIsTheSameDocument) {
  RecallOptions o{.least = 300, .most = 4800};
  int64_t shorter = 0, longest = 0;
  std::set<std::string> seen;
  for (int64_t i = 0; i < 200; ++i) {
    const std::string text = RecallDocument(1, i, o, Bytes);
    EXPECT_EQ(text, RecallDocument(1, i, o, Bytes));
    seen.insert(text);
    shorter += Bytes(text) < 1200;  // half of them: the middle of 300 to 4800 on a logarithmic scale
    longest = std::max(longest, Bytes(text));
  }
  EXPECT_EQ(seen.size(), 200u);
  EXPECT_NEAR(static_cast<double>(shorter), 100, 36);  // 5 deviations of a fair draw, sqrt(200)/2 = 7
  EXPECT_GT(longest, 4000);
  EXPECT_NE(RecallDocument(1, 0, o, Bytes), RecallDocument(2, 0, o, Bytes));
}

TEST(Recall, ListsAndFillerOfOnesOwn) {
  RecallOptions o{.least = 400, .most = 400, .lists = 1};
  const std::string list = RecallDocument(1, 0, o, Bytes);
  EXPECT_LE(Bytes(list), 400);
  EXPECT_GT(Bytes(list), 380);
  const std::string begin = list.substr(0, 40);
  EXPECT_NE(list.find(begin, 1), std::string::npos) << list;

  o.lists = 0;
  o.filler = 1;
  o.sentences = SentencesOf(
      "One short. This sentence is long enough to be filler. \"Quoted\"\nThe second line has another one! x");
  EXPECT_EQ(o.sentences, (std::vector<std::string>{"This sentence is long enough to be filler.",
                                                   "The second line has another one!"}));
  bool found = false;
  for (int64_t i = 0; i < 20; ++i)
    found = found || RecallDocument(1, i, o, Bytes).find("long enough to be filler.") != std::string::npos;
  EXPECT_TRUE(found);
  EXPECT_EQ(RecallDocument(1, 0, {.least = 8, .most = 8}, Bytes), "");
}

}  // namespace
}  // namespace fathom::corpus
