// The short turns of dialogues.
#include <algorithm>
#include <cctype>

#include "corpus/dialogues.h"
#include "corpus/lexicon.h"

namespace fathom::corpus {
namespace {

struct Group {
  std::string_view name, one;
  std::string_view members[16];
};
constexpr Group kGroups[] = {
    {"animals",
     "animal",
     {"a cat", "a dog", "a horse", "a fox", "a bear", "a mouse", "an owl", "a rabbit", "a lion", "a frog", "a duck",
      "a cow", "a sheep", "a wolf", "an elephant", "a goat"}},
    {"fruits",
     "fruit",
     {"an apple", "a pear", "a plum", "a cherry", "a peach", "a banana", "a melon", "a grape", "an orange", "a lemon",
      "a strawberry", "a raspberry", "a fig", "a mango", "a kiwi", "an apricot"}},
    {"colours",
     "colour",
     {"red", "blue", "green", "yellow", "white", "black", "brown", "orange", "pink", "purple", "grey", "gold", "silver",
      "violet", "beige", "turquoise"}},
    {"things in a kitchen",
     "thing in a kitchen",
     {"a pot", "a pan", "a spoon", "a fork", "a knife", "a cup", "a plate", "a stove", "a kettle", "a table", "a bowl",
      "a sink", "a jug", "an oven", "a towel", "a broom"}},
    {"clothes",
     "piece of clothing",
     {"a hat", "a coat", "a scarf", "a shirt", "a sock", "a shoe", "a glove", "a dress", "a skirt", "a cap", "a belt",
      "a jacket", "a boot", "a mitten", "a sweater", "a vest"}},
    {"birds",
     "bird",
     {"an owl", "a robin", "a crow", "a swan", "a sparrow", "a duck", "a goose", "a lark", "a parrot", "a penguin",
      "an eagle", "a magpie", "a stork", "a swallow", "a gull", "a hen"}},
    {"trees",
     "tree",
     {"an oak", "a birch", "a beech", "a pine", "a fir", "a willow", "an elm", "a poplar", "a chestnut", "a maple",
      "an ash", "a lime", "a cedar", "a cherry tree", "an apple tree", "an alder"}},
    {"toys",
     "toy",
     {"a ball", "a doll", "a kite", "a top", "a drum", "a puppet", "a marble", "a teddy bear", "a toy boat", "a puzzle",
      "a hoop", "a toy train", "a rattle", "a whistle", "a sledge", "a swing"}},
    {"vegetables",
     "vegetable",
     {"a carrot", "a cabbage", "a bean", "a pea", "an onion", "a potato", "a turnip", "a leek", "a pumpkin", "a radish",
      "a tomato", "a beet", "a cucumber", "spinach", "celery", "lettuce"}},
    {"kinds of weather",
     "kind of weather",
     {"rain", "snow", "wind", "sunshine", "fog", "hail", "thunder", "frost", "a storm", "mist", "drizzle", "a breeze",
      "heat", "ice", "sleet", "a shower"}},
};

constexpr std::string_view kOpposites[][2] = {
    {"big", "small"},   {"hot", "cold"},     {"day", "night"},  {"up", "down"},       {"old", "young"},
    {"fast", "slow"},   {"happy", "sad"},    {"light", "dark"}, {"open", "closed"},   {"wet", "dry"},
    {"full", "empty"},  {"high", "low"},     {"long", "short"}, {"good", "bad"},      {"hard", "soft"},
    {"loud", "quiet"},  {"early", "late"},   {"near", "far"},   {"rich", "poor"},     {"strong", "weak"},
    {"clean", "dirty"}, {"first", "last"},   {"left", "right"}, {"black", "white"},   {"brave", "cowardly"},
    {"thick", "thin"},  {"sweet", "bitter"}, {"begin", "end"},  {"summer", "winter"}, {"kind", "unkind"},
    {"wide", "narrow"}, {"heavy", "light"}};
constexpr std::string_view kSounds[][2] = {
    {"cow", "moo"},      {"dog", "woof"},    {"cat", "meow"},       {"duck", "quack"}, {"sheep", "baa"},
    {"pig", "oink"},     {"owl", "hoo"},     {"frog", "croak"},     {"hen", "cluck"},  {"bee", "buzz"},
    {"mouse", "squeak"}, {"horse", "neigh"}, {"donkey", "hee-haw"}, {"crow", "caw"},   {"lion", "roar"}};
constexpr std::string_view kColours[][2] = {
    {"the grass", "green"}, {"snow", "white"},      {"the sky on a clear day", "blue"}, {"a ripe lemon", "yellow"},
    {"coal", "black"},      {"a carrot", "orange"}, {"a ripe strawberry", "red"},       {"milk", "white"},
    {"chocolate", "brown"}, {"a raven", "black"},   {"a leaf in spring", "green"}};
constexpr std::string_view kDays[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
constexpr std::string_view kMonths[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};
constexpr std::string_view kFacts[][2] = {
    {"How many legs does a dog have?", "A dog has four legs."},
    {"How many legs does a bird have?", "A bird has two legs."},
    {"How many legs does a spider have?", "A spider has eight legs."},
    {"How many days are there in a week?", "There are seven days in a week."},
    {"How many months are there in a year?", "There are twelve months in a year."},
    {"What do bees make?", "Bees make honey."},
    {"Where do fish live?", "Fish live in water."},
    {"What do we use an umbrella for?", "We use an umbrella to stay dry in the rain."},
    {"What do cows give us?", "Cows give us milk."},
    {"What comes out of an egg?", "A chick can come out of an egg."},
    {"What is ice?", "Ice is frozen water."},
    {"When do we see the stars?", "We see the stars at night."},
    {"What do you need to open a locked door?", "You need a key."},
    {"What is a baby dog called?", "A baby dog is called a puppy."},
    {"What is a baby cat called?", "A baby cat is called a kitten."},
    {"What is a baby sheep called?", "A baby sheep is called a lamb."},
    {"What is a baby cow called?", "A baby cow is called a calf."},
    {"What do we do with our ears?", "We hear with our ears."},
    {"What do we do with our eyes?", "We see with our eyes."},
    {"What season comes after winter?", "Spring comes after winter."},
    {"What season comes after summer?", "Autumn comes after summer."},
    {"What falls from the sky in winter?", "Snow falls from the sky in winter."},
    {"Who bakes bread?", "A baker bakes bread."},
    {"Who catches fish?", "A fisherman catches fish."},
    {"Who makes shoes?", "A shoemaker makes shoes."},
    {"What does a miller make?", "A miller makes flour."},
    {"Where does a king live?", "A king lives in a palace or a castle."}};

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::vector<std::string> Members(Teller& t, const Group& group, size_t count) {
  std::vector<std::string> list;
  while (list.size() < count) {
    std::string m(t.Pick(group.members));
    if (std::find(list.begin(), list.end(), m) == list.end()) list.push_back(std::move(m));
  }
  return list;
}

std::string Bare(const std::string& member) {
  for (const std::string_view article : {"a ", "an "}) {
    if (member.starts_with(article)) return member.substr(article.size());
  }
  return member;
}

std::string Joined(const std::vector<std::string>& list) {
  std::string out;
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += i + 1 < list.size() ? ", " : " and ";
    out += list[i];
  }
  return out;
}

}  // namespace

void AddFormTurn(Teller& t, Dialogue* d) {
  const Group& group = t.Pick(kGroups);
  t.Set("group", group.name);
  t.Set("one", group.one);
  const int64_t form = t.Below(8);
  const size_t count = static_cast<size_t>(2 + t.Below(4));
  t.Set("count", NumberWord(static_cast<int64_t>(count)));
  const std::vector<std::string> list = Members(t, group, count);
  std::string out;
  if (form == 0) {
    Turn(d, t.Say("[List|Name|Tell me|Give me] <count> <group>."), Capital(Joined(list)) + ".");
  } else if (form == 1) {
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out += '\n';
      out += std::to_string(i + 1);
      out += ". ";
      out += Capital(Bare(list[i]));
    }
    Turn(d, t.Say("[List|Name|Give me] <count> <group> [as a numbered list|in a numbered list|with numbers]."), out);
  } else if (form == 2) {
    for (size_t i = 0; i < list.size(); ++i) {
      out += i > 0 ? "\n- " : "- ";
      out += Bare(list[i]);
    }
    Turn(d, t.Say("[List|Name|Give me] <count> <group> [with dashes|as a list with dashes|as bullet points]."), out);
  } else if (form == 3) {
    t.Set("word", Bare(list[0]));
    Turn(d,
         t.Say("[Write the word \"<word>\" in capitals.|Write \"<word>\" in capital letters.|Say \"<word>\" in "
               "capitals.]"),
         Upper(Bare(list[0])));
  } else if (form == 4) {
    out = "[";
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out += ", ";
      out += '"';
      out += Bare(list[i]);
      out += '"';
    }
    out += ']';
    Turn(d,
         t.Say("[Give me <count> <group> as JSON.|List <count> <group> as a JSON list.|<Count> <group> as a JSON "
               "array, please.]"),
         out);
  } else if (form == 5) {
    const Being being = t.Chance(0.5) ? DrawAnimal(t, {}) : DrawChild(t, {});
    t.Set("name", being.name);
    t.Set("kind", being.kind);
    out = "{\"name\": \"" + being.name + "\", \"kind\": \"" + being.kind + "\"}";
    Turn(d,
         t.Say("[<Name> is a~ <kind>. Give the name and the kind as JSON.|Write as JSON with the keys name and kind: "
               "<name> is a~ <kind>.|Turn this into JSON with name and "
               "kind: <name> the <kind>.]"),
         out);
  } else if (form == 6) {
    Turn(d,
         t.Say("[Name one <one>.|Give me one <one>.|Tell me one <one>.] [Answer in one word.|One word only.|Use only "
               "one word.]"),
         Capital(Bare(list[0]).substr(0, Bare(list[0]).find(' '))) + ".");
  } else {
    const Being a = DrawChild(t, {});
    t.Set("word", a.name);
    Turn(d, t.Say("[Repeat after me: <word>|Say <word>.|Repeat the word <word>.|Please write only this name: <word>]"),
         a.name);
  }
}

void AddFactTurn(Teller& t, Dialogue* d) {
  const int64_t kind = t.Below(5);
  if (kind == 0) {
    const auto& pair = t.Pick(kOpposites);
    const bool turned = t.Chance(0.5) && pair[1] != "light";
    t.Set("a", pair[turned ? 1 : 0]);
    t.Set("b", pair[turned ? 0 : 1]);
    Turn(d, t.Say("[What is the opposite of <a>?|What is the opposite of \"<a>\"?|Tell me the opposite of <a>.]"),
         t.Say("[The opposite of <a> is <b>.|<B>.]"));
  } else if (kind == 1) {
    const auto& pair = t.Pick(kSounds);
    t.Set("a", pair[0]);
    t.Set("b", pair[1]);
    Turn(d, t.Say("[What does a~ <a> say?|What sound does a~ <a> make?|Which sound does a~ <a> make?]"),
         t.Say("[A~ <a> says \"<b>\".|A~ <a> goes <b>.|<B>!]"));
  } else if (kind == 2) {
    const auto& pair = t.Pick(kColours);
    t.Set("a", pair[0]);
    t.Set("b", pair[1]);
    Turn(d, t.Say("[What colour is <a>?|What color is <a>?|Which colour is <a>?]"),
         t.Say("[<A> is <b>.|<B>.|It is <b>.]"));
  } else if (kind == 3) {
    const bool days = t.Chance(0.5);
    const int64_t n = days ? 7 : 12, i = t.Below(n);
    const auto name = [&](int64_t k) { return days ? kDays[(k + n) % n] : kMonths[(k + n) % n]; };
    const bool after = t.Chance(0.6);
    t.Set("a", name(i));
    t.Set("b", name(after ? i + 1 : i - 1));
    t.Set("which", days ? "day" : "month");
    t.Set("side", after ? "after" : "before");
    Turn(d, t.Say("[Which <which> comes <side> <a>?|What comes <side> <a>?|What is the <which> <side> <a>?]"),
         t.Say("[<B> comes <side> <a>.|<B>.|The <which> <side> <a> is <b>.]"));
  } else {
    const auto& fact = t.Pick(kFacts);
    Turn(d, std::string(fact[0]), std::string(fact[1]));
  }
}

void AddGreeting(Teller& t, Dialogue* d) {
  switch (t.Below(7)) {
    case 0:
      Turn(d, t.Say("[Hello|Hi|Hello!|Hi there!|Good morning|Good evening!|Hey!]"),
           t.Say("[Hello! How can I help you?|Hi! Shall I tell you a story?|Hello! What would you like to do?|Hello! I "
                 "can tell stories, answer simple questions and do small sums.]"));
      break;
    case 1:
      Turn(d,
           t.Say("[What are you?|Who are you?|Tell me about yourself.|Are you a person?|Are you a robot?|Are you "
                 "human?|What kind of thing are you?]"),
           t.Say("[I am a small language model that was trained with fathom to tell stories. I am not a person.|I am a "
                 "small story model. I was trained by fathom, and I know only simple things.|I am a little "
                 "computer program, a language model trained with fathom. I can tell short stories.]"));
      break;
    case 2:
      Turn(d, t.Say("[What can you do?|What are you good at?|How can you help me?|What can I ask you?]"),
           t.Say("[I can tell short stories, answer questions about a story, do small sums and make simple lists.|I "
                 "tell stories. I can also answer simple questions, add small numbers and make lists.]"));
      break;
    case 3:
      Turn(d, t.Say("[What is your name?|Do you have a name?|How are you called?]"),
           t.Say("[You can call me Fathom. I am a small story model.|I am called Fathom, after the program that "
                 "trained me.]"));
      break;
    case 4:
      Turn(d, t.Say("[How are you?|How do you do?|Are you well?|How are you today?]"),
           t.Say("[I am a program, so I have no feelings, but I am ready to help you.|Everything works well, thank "
                 "you. What shall we do?|Thank you for asking! I am ready for a story.]"));
      break;
    case 5:
      Turn(d, t.Say("[Thank you!|Thanks.|Thank you very much.|That was good.|Well done!]"),
           t.Say("[You are welcome!|With pleasure!|I am glad that I could help.|Thank you! Do you want to hear a "
                 "story?]"));
      break;
    default:
      Turn(d, t.Say("[Goodbye!|Bye!|Good night.|See you tomorrow.|I have to go now.]"),
           t.Say("[Goodbye!|Goodbye! Come back soon.|Good night, and sweet dreams.|See you soon!]"));
  }
}

void AddUnknowable(Teller& t, Dialogue* d) {
  const Being child = DrawChild(t, {});
  t.Set("name", child.name);
  Turn(
      d,
      t.Say("[What time is it?|What is the weather like today?|What is my name?|How old am I?|Where do I live?|What "
            "did I have for breakfast?|Who will win the election?|What is the news today?|What is the "
            "price of gold?|Can you call <name> for me?|What is the phone number of <name>?|What will happen "
            "tomorrow?|Can you send an email?|What is <name> doing now?|Which stocks should I buy?|Can you write a "
            "program "
            "for me?|What is the capital of every country?|Explain quantum physics to me.|Who is the president?|Can "
            "you open a website?|What is in my pocket?|How many people live in the world today?|Which medicine should "
            "I take?|Can "
            "you see me?|Translate this into French.]"),
      t.Say(
          "[I am sorry, I cannot know that. I am only a small story model.|I do not know that, I am sorry. I am a "
          "small model and know only simple things.|I am afraid I cannot do that. But I can tell you a story.|I cannot "
          "help with that. I am only a small story model, but I can tell you a story or do a small sum.|I do not know. "
          "I am sorry!]"));
}

}  // namespace fathom::corpus
