#include "corpus/stories.h"

#include <algorithm>
#include <iterator>

namespace fathom::corpus {
namespace {

constexpr uint64_t kStoryStream = 1;

void Opening(Scene& s) {
  Teller& t = s.t;
  t.Add(
      s.hero.animal
          ? "[Once upon a time there was <h.intro>. <H.He> lived <h.home>.|Once upon a time <h.intro> lived "
            "<h.home>.|There once "
            "was <h.intro> who lived <h.home>.|<H.Name> was a~ <h.adjective> <h.kind> who lived <h.home>.|Long ago, "
            "<h.intro> "
            "lived all alone <h.home>.|In a land [far away|not far from here] there lived <h.intro>. <H.He> had a home "
            "<h.home>.|This is the story of <h.name>, a~ <h.adjective> <h.kind>. <H.Name> lived <h.home>.]"
          : "[Once upon a time there was <h.intro>. <H.He> lived <h.home>.|<H.Name> was a~ <h.adjective> <h.kind> who "
            "lived "
            "<h.home>.|There was once <h.intro> who lived with <h.his> [family|parents|grandmother|mother and father] "
            "<h.home>.|A~ <h.adjective> <h.kind> named <h.name> lived <h.home>.|<H.Name> lived <h.home>. <H.He> was a~ "
            "<h.adjective> <h.kind>.|In a [little town|village|quiet street] there lived <h.intro>. <H.His> home was "
            "<h.home>.]");
  t.Maybe(0.45,
          "[<H.He> [loved|liked] [to sing|to play|to climb|to listen to stories|to look at the stars|to splash in "
          "puddles|to "
          "collect pretty stones|to dance in the rain|to watch the clouds|to eat breakfast slowly].|Everybody knew "
          "<h.him>, for <h.he> was always [laughing|humming a tune|in a hurry|ready to help|asking questions|hungry "
          "before noon].|<H.He> had [bright|dark|round|big] eyes and a [soft|merry|quiet|clear] voice.|Every morning "
          "<h.he> "
          "[washed <h.his> face in the dew|opened <h.his> eyes before the sun was up|said good morning to the sun|took "
          "a long "
          "walk].|<H.He> was not very [big|strong|fast|old], but <h.he> had a [good|warm|brave|big] heart.|<H.He> had "
          "never been far "
          "from home.]");
}

void SetScene(Scene& s) {
  Teller& t = s.t;
  s.children = t.Chance(0.4);
  s.hero = s.children ? DrawChild(t, {}) : DrawAnimal(t, {});
  s.other = DrawFriend(t, s.hero, {s.hero});
  s.elder = s.children || t.Chance(0.3) ? DrawGrownUp(t, {s.hero, s.other}) : DrawAnimal(t, {s.hero, s.other});
  if (s.elder.animal) s.elder.adjective = t.Say("[old|wise|kind|grey|friendly]");
  s.thing = DrawThing(t);
  Cast(t, "h", s.hero);
  Cast(t, "f", s.other);
  Cast(t, "e", s.elder);
  SetPlace(t, "p", DrawPlace(t));
  t.Set("thing", s.thing.full);
  t.Set("thing.noun", s.thing.noun);
  t.Fix("food", DrawFood(t));
  t.Fix("weather", "[sunny|warm|cold|windy|bright|misty|grey|fine|cool|quiet]");
  t.Set("day",
        "[One day|One <weather> day|One <weather> morning|One morning|One afternoon|One <weather> afternoon|On a "
        "<weather> "
        "morning|Early one morning|One Sunday|One day in [spring|summer|autumn]]");
  t.Set("day_small", "[one day|one <weather> day|one morning|one afternoon|one <weather> morning]");
  t.Set("happy", "[happy|glad|very happy|full of joy|pleased|delighted|proud and happy]");
  t.Set("said", "[said|said|said|answered|replied]");
  t.Set("walked", "[walked|went|wandered|strolled|hurried|skipped]");
}

// The moral or the last picture. Sets nothing.
void Closing(Scene& s) {
  s.t.Maybe(
      0.35,
      "[That night <h.name> slept [well|deeply|soundly] and dreamed of [the stars|a golden boat|warm bread|the "
      "sea|flying].|When the moon came up, everything was quiet again.|The sun went down [behind the hills|slowly|in a "
      "red "
      "sky], and it was time to go to bed.|And if you [pass by|go there], you can still hear <h.him> [laughing|singing "
      "about it].|<H.Name> told the story many times after that, and everybody liked to hear it.|It had been a "
      "[good|long|fine|strange] day.|And that is the end of the story.]");
}

}  // namespace

std::string TitleCase(std::string_view text) {
  constexpr std::string_view kSmall[] = {"a",  "an", "and", "about", "at", "by",  "for", "from",
                                         "in", "of", "on",  "the",   "to", "too", "with"};
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const bool small = at > 0 && std::find(std::begin(kSmall), std::end(kSmall), word) != std::end(kSmall);
    if (at > 0) out += ' ';
    out += small ? std::string(word) : Capital(word);
    at = end + 1;
  }
  return out;
}

Story TellStory(Teller& teller) {
  static const std::vector<Plot> plots = [] {
    std::vector<Plot> all = PlotsOfWishes();
    for (const Plot plot : PlotsOfTroubles()) all.push_back(plot);
    return all;
  }();
  Story story;
  Scene scene{.t = teller, .story = story, .hero = {}, .other = {}, .elder = {}, .children = false, .thing = {}};
  SetScene(scene);
  const Plot plot = teller.PickOf(plots);
  Opening(scene);
  scene.Ask("[Who is the story about?|Who is the hero of the story?|What is the story about?]", "<h.name>",
            "[The story is about|It is about] <h.name>, a~ <h.adjective> <h.kind>.");
  scene.Ask("Where did <h.name> live?", "<h.home>", "<H.Name> lived <h.home>.");
  if (scene.hero.animal) scene.Ask("What kind of animal was <h.name>?", "a~ <h.kind>", "<H.Name> was a~ <h.kind>.");
  plot(scene);
  scene.Ask("How did [the story|it] end?", story.ending, story.ending);
  Closing(scene);
  story.text = teller.text();
  story.hero = scene.hero.name;
  story.about = teller.Say("a~ [<h.kind>|<h.adjective> <h.kind>]");
  return story;
}

std::string StoryDocument(uint64_t seed, int64_t index) {
  Teller teller(seed, kStoryStream, index);
  const Story story = TellStory(teller);
  if (!teller.Chance(0.2)) return story.text;
  std::string text = story.title;
  text += "\n\n";
  text += story.text;
  return text;
}

}  // namespace fathom::corpus
