// Short stories in simple English, told from a state: who has what, where it is, who knows it. What a story says of its
// beings and things stays true to its end, and questions about it come with their answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "corpus/lexicon.h"

namespace fathom::corpus {

struct Question {
  std::string question, brief, full;  // "What did Pip lose?" "a red kite" "Pip lost a red kite."
};

struct Story {
  std::string text;    // 400 to 1500 bytes
  std::string hero;    // "Pip"
  std::string about;   // "a little mouse", "a girl"
  std::string theme;   // "a lost kite"
  std::string title;   // "Pip and the Lost Kite"
  std::string ending;  // a sentence
  std::vector<Question> questions;
};

// The same for the same teller's seed, stream and document.
Story TellStory(Teller& teller);

// Document `index` of a corpus of stories.
std::string StoryDocument(uint64_t seed, int64_t index);

// "The Lost Key in the Garden": small words stay small.
std::string TitleCase(std::string_view text);

// What the plots share. Keys that are set: h (the hero), f (a friend, of another name and kind), e (a grown-up), p (the
// place), thing and thing.noun, food, day (when it was), weather.
struct Scene {
  Teller& t;
  Story& story;
  Being hero, other, elder;
  bool children = false;
  Thing thing;
  void Ask(std::string_view question, std::string_view brief, std::string_view full) {
    story.questions.push_back({t.Say(question), t.Say(brief), t.Say(full)});
  }
  void Theme(std::string_view theme, std::string_view title) {
    story.theme = t.Say(theme);
    story.title = TitleCase(t.Say(title));
  }
};

using Plot = void (*)(Scene& scene);
std::vector<Plot> PlotsOfWishes();    // plots_wishes.cpp: lost, wanted, built, grown, shared
std::vector<Plot> PlotsOfTroubles();  // plots_troubles.cpp: fear, quarrels, lies, storms, rescue

}  // namespace fathom::corpus
