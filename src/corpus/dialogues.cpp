#include "corpus/dialogues.h"

#include <algorithm>
#include <cctype>

#include "corpus/stories.h"

namespace fathom::corpus {
namespace {

constexpr uint64_t kDialogueStream = 2;

// "Please ..." or not, as people write.
std::string Ask(Teller& t, std::string question) {
  if (t.Chance(0.12) && !question.empty()) {
    question[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(question[0])));
    if (question.back() == '.' || question.back() == '?') question.pop_back();
  }
  return question;
}

std::string Sentence(std::string text) {
  text = Capital(text);
  if (!text.empty() && std::string_view(".!?\"").find(text.back()) == std::string_view::npos) text += '.';
  return text;
}

// A question about the story; sometimes in a word or two.
void AskAbout(Teller& t, const Question& q, const std::string& before, Dialogue* d) {
  std::string question = before;
  question += q.question;
  const bool brief = q.brief.size() < 30 && t.Chance(0.2);
  if (brief) question += ' ';
  if (brief) question += t.Say("[Answer in a few words.|Give a short answer.|Answer briefly.]");
  Turn(d, question, Sentence(brief ? q.brief : q.full));
}

void Thanks(Teller& t, Dialogue* d) {
  Turn(d, t.Say("[Thank you!|Thanks!|Thank you, that was nice.|Thanks a lot.|Great, thank you.]"),
       t.Say("[You are welcome!|You are welcome. Do you want to hear another story?|I am glad that you liked it.|With "
             "pleasure!|You are very "
             "welcome.]"));
}

}  // namespace

void Turn(Dialogue* d, std::string user, std::string assistant) {
  d->push_back({"user", std::move(user)});
  d->push_back({"assistant", std::move(assistant)});
}

void AddStoryTurns(Teller& t, Dialogue* d) {
  const Story story = TellStory(t);
  t.Set("about", story.about);
  t.Set("theme", story.theme);
  t.Set("hero", story.hero);
  std::string request = t.Say(
      "[[Tell|Please tell] me [a story|a short story|a bedtime story|a tale] about [<about>|<about>|<theme>|<about> "
      "[named|called] <hero>|<about> and "
      "<theme>].|[Write|Please write|Can you write|Could you write] [a story|a short story|a little story] about "
      "[<about>|<theme>|<about> and <theme>].|[I would like "
      "to hear|I want] a story about [<about>|<theme>], please.|Can you tell me a story about [<about>|<theme>]?|Once "
      "upon a time there was <about>. How does the story go "
      "on?|Do you know a story about [<about>|<theme>]?]");
  if (t.Chance(0.12))
    request = t.Say(
        "[Tell me a story.|Please tell me a story.|I want to hear a story.|Can you tell me a story?|A story, "
        "please!|Tell me a bedtime story.]");
  std::string answer = story.text;
  if (t.Chance(0.1)) {
    request += ' ';
    request += t.Say("[Give it a title.|It should have a title.|With a title, please.]");
    answer = story.title + "\n\n" + answer;
  }
  Turn(d, Ask(t, request), answer);
  for (int more = 0; more < 2 && t.Chance(0.4); ++more) AskAbout(t, t.PickOf(story.questions), "", d);
  if (t.Chance(0.12)) Thanks(t, d);
}

void AddReadingTurns(Teller& t, Dialogue* d) {
  const Story story = TellStory(t);
  std::vector<Question> questions = story.questions;
  for (size_t i = questions.size(); i > 1; --i)
    std::swap(questions[i - 1], questions[static_cast<size_t>(t.Below(static_cast<int64_t>(i)))]);
  const size_t count = std::min<size_t>(questions.size(), static_cast<size_t>(1 + t.Below(4)));
  std::string before = t.Say(
      "[|Read this story and answer the question.|Here is a story.|Read the story.|A question about this story:]");
  if (!before.empty()) before += "\n\n";
  before += story.text;
  before += "\n\n";
  AskAbout(t, questions[0], before, d);
  for (size_t i = 1; i < count; ++i) AskAbout(t, questions[i], "", d);
  if (t.Chance(0.1)) {
    Turn(d, t.Say("[What is a good title for this story?|Give the story a title.|How would you call this story?]"),
         story.title);
  }
}

std::string NumberWord(int64_t n) {
  constexpr std::string_view kSmall[] = {
      "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
      "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  constexpr std::string_view kTens[] = {"",      "",      "twenty",  "thirty", "forty",
                                        "fifty", "sixty", "seventy", "eighty", "ninety"};
  if (n < 20) return std::string(kSmall[n]);
  std::string out;
  if (n >= 100) {
    out += kSmall[n / 100];
    out += " hundred";
    if (n % 100 == 0) return out;
    out += " and ";
    return out + NumberWord(n % 100);
  }
  out += kTens[n / 10];
  if (n % 10 != 0) {
    out += '-';
    out += kSmall[n % 10];
  }
  return out;
}

void AddArithmetic(Teller& t, Dialogue* d) {
  const int64_t op = t.Below(5);  // + + - - x
  const bool wide = t.Chance(0.25);
  const int64_t limit = wide ? 50 : 13;
  int64_t a = t.Below(limit), b = t.Below(limit), result = 0;
  if (op == 4) {
    a = t.Below(wide ? 13 : 10);
    b = t.Below(wide ? 13 : 10);
  }
  if (op == 2 || op == 3) {
    if (a < b) std::swap(a, b);
    result = a - b;
  } else {
    result = op == 4 ? a * b : a + b;
  }
  const bool words = t.Chance(0.25);
  const auto number = [&](int64_t n) { return words ? NumberWord(n) : std::to_string(n); };
  t.Set("a", number(a));
  t.Set("b", number(b));
  t.Set("c", number(result));
  t.Set("op", op == 4   ? (words ? "times" : "[x|*|times]")
              : op >= 2 ? (words ? "minus" : "[-|-|minus]")
                        : (words ? "plus" : "[+|+|plus]"));
  const bool can_count = a >= 2 && b >= 2 && op < 4;
  if (can_count && t.Chance(0.4)) {
    const Being child = DrawChild(t, {});
    Cast(t, "h", child);
    const Being other = DrawChild(t, {child});
    Cast(t, "f", other);
    t.Fix("thing",
          "[apples|pears|plums|marbles|books|pencils|coins|shells|stones|cakes|eggs|flowers|buttons|nuts|stickers|"
          "balloons]");
    if (op < 2) {
      Turn(d,
           t.Say("[<H.Name> has <a> <thing>. <F.Name> gives <h.him> <b> more. How many <thing> does <h.name> have "
                 "now?|There are <a> <thing> on the table and <b> in the "
                 "basket. How many <thing> are there in all?|<H.Name> has <a> <thing> and <f.name> has <b>. How many "
                 "<thing> do they have together?]"),
           t.Say("[<A> plus <b> is <c>. There are <c> <thing>.|<A> + <b> = <c>, so the answer is <c>.|<C> <thing>.]"));
    } else {
      Turn(d,
           t.Say("[<H.Name> has <a> <thing> and gives <b> of them to <f.name>. How many <thing> are left?|There were "
                 "<a> <thing>. <H.Name> took away <b>. How many are "
                 "left?|<H.Name> had <a> <thing> and lost <b>. How many <thing> does <h.he> have now?]"),
           t.Say("[<A> minus <b> is <c>. There are <c> left.|<A> - <b> = <c>, so the answer is <c>.|<C> <thing>.]"));
    }
    return;
  }
  if (!words && t.Chance(0.3)) {
    t.Set("op", op == 4 ? "x" : op >= 2 ? "-" : "+");
    const std::string sum = t.Say("<a> <op> <b>");
    t.Set("sum", sum);
    Turn(d, t.Say("[<sum>|<sum> =|<sum> = ?|What is <sum>?|Calculate <sum>.]"), t.Say("[<sum> = <c>|<c>|<sum> = <c>]"));
    return;
  }
  Turn(d,
       t.Say("[What is <a> <op> <b>?|How much is <a> <op> <b>?|Can you tell me what <a> <op> <b> is?|<A> <op> "
             "<b>?|Please work out <a> <op> <b>.|Do you know what <a> <op> "
             "<b> is?]"),
       Sentence(t.Say("[<A> <op> <b> is <c>.|The answer is <c>.|It is <c>.|<C>.]")));
}

Dialogue DrawDialogue(uint64_t seed, int64_t index) {
  Teller t(seed, kDialogueStream, index);
  Dialogue d;
  if (t.Chance(0.08)) {
    Turn(&d, t.Say("[Hello!|Hi!|Hi there.|Good morning!|Hello, how are you?|Good evening.|Hey]"),
         t.Say("[Hello! How can I help you?|Hello! Shall I tell you a story?|Hi! What would you like to hear?|Hello! "
               "Nice to meet you.|Good day to you! What shall we "
               "do?]"));
  }
  const int64_t kind = t.Below(100);
  if (kind < 27) {
    AddStoryTurns(t, &d);
  } else if (kind < 52) {
    AddReadingTurns(t, &d);
  } else {
    // Short turns, of one kind or of several.
    const int64_t turns = 1 + t.Below(4);
    int64_t k = kind;
    for (int64_t i = 0; i < turns; ++i) {
      if (k < 68) {
        AddArithmetic(t, &d);
      } else if (k < 80) {
        AddFormTurn(t, &d);
      } else if (k < 87) {
        AddFactTurn(t, &d);
      } else if (k < 94) {
        AddGreeting(t, &d);
      } else {
        AddUnknowable(t, &d);
      }
      if (t.Chance(0.4)) k = 52 + t.Below(48);
    }
  }
  return d;
}

}  // namespace fathom::corpus
