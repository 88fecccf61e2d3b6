// Who and what the stories and dialogues are about: beings, names, things, places, foods. The words agree with the
// patterns that use them: a thing is one that can be carried, lost and given; a place can be walked through.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "corpus/teller.h"

namespace fathom::corpus {

struct Being {
  std::string name, kind, adjective;
  bool female = false, animal = false;
  std::string home;  // "in a nest in an old elm"
};

struct Place {
  std::string_view name;    // "the forest"
  std::string_view in;      // "in the forest"
  std::string_view spots;   // pattern: where one may look, "under [a bush|..]"
  std::string_view detail;  // pattern: a sentence about how it is there
};

// No being of a kind or a name in `others`.
Being DrawAnimal(Teller& teller, const std::vector<Being>& others);
Being DrawChild(Teller& teller, const std::vector<Being>& others);
Being DrawGrownUp(Teller& teller, const std::vector<Being>& others);
// Animals among animals, children among children and sometimes animals.
Being DrawFriend(Teller& teller, const Being& hero, const std::vector<Being>& others);

// Sets KEY (what it is called, now by name, now by kind), KEY.name .kind .adjective .home .intro ("a shy mouse named
// Pip") .he .him .his .himself .child ("little mouse", "girl").
void Cast(Teller& teller, std::string_view key, const Being& being);

const Place& DrawPlace(Teller& teller);
// Sets KEY ("the forest"), KEY.in, KEY.spot (another each time), KEY.detail.
void SetPlace(Teller& teller, std::string_view key, const Place& place);

// "red kite" and "kite"; with an adjective that fits any thing.
struct Thing {
  std::string noun, full;
};
Thing DrawThing(Teller& teller);
std::string DrawFood(Teller& teller);  // "honey cake": with "a" before and "s" behind it

}  // namespace fathom::corpus
