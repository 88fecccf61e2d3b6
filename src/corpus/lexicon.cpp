#include "corpus/lexicon.h"

#include <algorithm>

namespace fathom::corpus {
namespace {

struct AnimalKind {
  std::string_view kind, home;
};

constexpr AnimalKind kAnimals[] = {
    {"mouse", "in a [small|cosy|warm] hole under [the old barn|an old oak|the kitchen floor]"},
    {"rabbit", "in a [snug|warm|deep] burrow [under the hill|by the wood|near the carrot field]"},
    {"fox", "in a den [at the edge of the wood|behind the hill|among the rocks]"},
    {"bear", "in a [big|dark|dry] cave [on the mountain|near the river|in the forest]"},
    {"hedgehog", "under a heap of [dry|brown|golden] leaves"},
    {"squirrel", "in a hollow [oak|beech|chestnut tree]"},
    {"owl", "in the tower of the old [church|mill|barn]"},
    {"frog", "among the reeds of a [quiet|green|little] pond"},
    {"duck", "by a [round|quiet|muddy] pond"},
    {"hen", "in a henhouse behind the farm"},
    {"cat", "in a house with [green|blue|white] shutters"},
    {"dog", "in a wooden [house|kennel] [in the yard|by the gate]"},
    {"goat", "on a [steep|stony|green] hillside"},
    {"lamb", "in a meadow with [many|all the other] sheep"},
    {"pig", "in a [clean|warm|muddy] sty on the farm"},
    {"pony", "in a stable [with a red door|at the end of the lane]"},
    {"donkey", "in a shed beside the mill"},
    {"goose", "on a farm by the river"},
    {"crow", "at the top of a tall [pine|poplar|elm]"},
    {"sparrow", "under the roof of a [cottage|barn|bakery]"},
    {"robin", "in a nest in the [hedge|garden wall|apple tree]"},
    {"badger", "in a [deep|tidy] sett under the hill"},
    {"mole", "in long dark tunnels under the [meadow|garden|field]"},
    {"otter", "in a hole in the river bank"},
    {"beaver", "in a lodge of sticks in the [river|lake]"},
    {"fawn", "in a thicket deep in the wood"},
    {"turtle", "on the sunny side of a [lake|pond]"},
    {"snail", "in the shade of a [stone wall|cabbage|rose bush]"},
    {"ant", "in an anthill under a [pine|birch|fir] tree"},
    {"bee", "in a hive behind the [cottage|garden|orchard]"},
    {"butterfly", "in a garden full of [roses|lavender|tulips]"},
    {"wolf", "in a cave far in the mountains"},
    {"lion", "in a [wide|hot|golden] land of tall grass"},
    {"elephant", "near a [wide|slow|brown] river"},
    {"monkey", "in the tallest tree of the jungle"},
    {"parrot", "in a tree with red flowers"},
    {"penguin", "on a shore of ice and snow"},
    {"seal", "on a rock in the [cold|grey|blue] sea"},
    {"kitten", "in a basket beside the stove"},
    {"puppy", "in a box in the [kitchen|hall|barn]"},
    {"hare", "in a hollow in the wheat field"},
    {"swan", "on a [calm|clear|wide] lake"},
    {"toad", "under a mossy stone"},
    {"cricket", "in a crack of the [kitchen|garden] wall"},
    {"dragon", "in a cave on a [high|lonely|smoking] mountain"},
    {"calf", "in a barn full of hay"},
    {"chick", "in a nest of straw"},
    {"raccoon", "in a hollow log near the stream"},
    {"magpie", "in an untidy nest in the [birch|poplar]"},
    {"weasel", "between the roots of a fallen tree"},
};

constexpr std::string_view kAnimalNames[] = {
    "Pip",    "Nibbles", "Bramble", "Hazel",  "Dusty",   "Pepper", "Clover", "Button",  "Acorn",   "Misty", "Tumble",
    "Fern",   "Biscuit", "Pebble",  "Willow", "Hop",     "Ginger", "Moss",   "Whisker", "Patch",   "Poppy", "Rusty",
    "Sorrel", "Thistle", "Bubbles", "Cocoa",  "Daisy",   "Flick",  "Grub",   "Honey",   "Juniper", "Kip",   "Lark",
    "Maple",  "Nutmeg",  "Olive",   "Plum",   "Quill",   "Ripple", "Sunny",  "Toffee",  "Velvet",  "Wink",  "Ziggy",
    "Barley", "Copper",  "Dot",     "Echo",   "Freckle", "Hobble", "Jolly",  "Mallow",  "Nettle",  "Oats",  "Puddle"};
constexpr std::string_view kGirls[] = {"Anna", "Lily",  "Mia",   "Sara",  "Emma",  "Rose", "Lucy",  "Molly",
                                       "Nora", "Ella",  "Clara", "Ruby",  "Alice", "Amy",  "Betty", "Carla",
                                       "Dora", "Eva",   "Fiona", "Greta", "Hanna", "Ida",  "Jane",  "Kate",
                                       "Lena", "Mary",  "Nina",  "Olga",  "Polly", "Rita", "Susan", "Tina",
                                       "Vera", "Wanda", "Zoe",   "May",   "Laura", "Elsa", "Julia", "Grace"};
constexpr std::string_view kBoys[] = {"Tom",   "Ben",  "Max",    "Sam",   "Jack",  "Leo",   "Tim",    "Finn",
                                      "Peter", "Paul", "Oliver", "Hugo",  "Adam",  "Bill",  "Carl",   "Dan",
                                      "Eric",  "Fred", "George", "Henry", "Ivan",  "Jacob", "Karl",   "Luke",
                                      "Mark",  "Nick", "Otto",   "Rob",   "Simon", "Theo",  "Victor", "Walter",
                                      "Will",  "Noah", "Anton",  "Emil",  "Felix", "Harry", "James",  "Oscar"};
constexpr std::string_view kAdjectives[] = {
    "little",     "small", "young",  "shy",     "cheerful", "clever",   "curious",  "gentle",   "lazy",    "proud",
    "kind",       "merry", "brave",  "patient", "clumsy",   "quiet",    "stubborn", "careful",  "playful", "tiny",
    "thoughtful", "bold",  "hungry", "busy",    "lonely",   "friendly", "honest",   "restless", "sleepy",  "dreamy"};

constexpr Place kPlaces[] = {
    {"the forest", "in the forest",
     "[under the ferns|behind a mossy stone|inside a hollow log|between the roots of an old oak|under a heap of "
     "leaves]",
     "[The trees were so tall that their tops seemed to touch the clouds.|Here and there the sun fell through the "
     "leaves and made golden spots on the ground.|It smelled of moss and pine needles.|Somewhere a woodpecker was "
     "knocking on a tree.]"},
    {"the meadow", "in the meadow",
     "[in the tall grass|behind a molehill|under a dandelion|beside the fence|near the clover]",
     "[The grass was high and full of flowers.|Bees were humming over the clover.|A lark was singing high above the "
     "grass.|The wind made waves in the long grass.]"},
    {"the river", "by the river",
     "[among the reeds|under the wooden bridge|behind a willow|between two flat stones|on the sandy bank]",
     "[The water was clear, and one could see the stones on the bottom.|Small fish were darting to and fro in the "
     "shallow water.|The river was talking softly to itself.|A dragonfly hung over the water like a tiny blue lamp.]"},
    {"the pond", "at the pond",
     "[among the water lilies|under the old jetty|behind the reeds|in the mud|beside the willow]",
     "[The water was as smooth as glass.|Green frogs sat on the lily leaves.|Rings spread over the water wherever a "
     "fish came up.|Two ducks were sleeping on the bank.]"},
    {"the hill", "on the hill",
     "[behind a big rock|under a juniper bush|in a hollow|beside the path|next to the stone wall]",
     "[From the top one could see the whole valley.|The wind was always blowing up there.|The grass was short and "
     "soft, and smelled of thyme.|Far below, the houses looked like toys.]"},
    {"the garden", "in the garden",
     "[under the rose bush|behind the watering can|between the cabbages|beside the shed|under the bench]",
     "[The roses were in full bloom.|Peas and beans stood there in straight rows.|White butterflies were dancing over "
     "the cabbages.|The air was sweet with the smell of flowers.]"},
    {"the beach", "on the beach", "[under an old boat|behind a rock|in the wet sand|among the seaweed|beside a pool]",
     "[The waves came in and went out again, one after the other.|Gulls were crying over the water.|The sand was warm "
     "and full of shells.|Far out a white sail was going by.]"},
    {"the village", "in the village",
     "[behind the well|under the market cart|beside the church door|in the narrow lane|under the bridge]",
     "[Smoke was rising from the chimneys.|The street was full of people with baskets.|The church bell was "
     "ringing.|Somebody was playing a fiddle by the well.]"},
    {"the farm", "on the farm", "[in the hay|behind the barn|under the cart|beside the trough|in the henhouse]",
     "[The hens were scratching in the yard.|The hay had just been brought in and smelled sweet.|A cow was looking "
     "over the gate.|The farmer's hat was hanging on a post.]"},
    {"the orchard", "in the orchard",
     "[under the pear tree|behind a ladder|in a basket|beside the hedge|in the fallen leaves]",
     "[The branches were heavy with apples.|Wasps were buzzing around the fallen plums.|A ladder was leaning against "
     "the cherry tree.|The trees were white with blossom.]"},
    {"the park", "in the park",
     "[under a bench|behind the fountain|beside the swings|in the bushes|next to the sandpit]",
     "[Children were feeding the ducks.|The fountain was splashing in the sun.|An old man was reading his newspaper on "
     "a bench.|There were tulips in all the beds.]"},
    {"the lake", "by the lake",
     "[under a rowing boat|between the stones|behind the reeds|beside the pier|on the shore]",
     "[The mountains were standing on their heads in the still water.|A little boat was tied to the pier.|The water "
     "was so cold that it made one's toes tingle.|A heron was standing in the shallow water.]"},
    {"the snowy field", "in the snowy field",
     "[under the snow|behind a snowdrift|beside the frozen ditch|under the hedge|near the scarecrow]",
     "[The snow lay deep and made no sound.|Every twig had a white coat.|The cold air bit everybody in the nose.|There "
     "were tracks of small feet in the snow.]"},
    {"the valley", "in the valley",
     "[behind a boulder|under a bridge|beside the stream|in a clump of heather|near the old mill]",
     "[A stream ran through it like a silver ribbon.|The mill wheel was turning slowly.|White sheep were dotted over "
     "the slopes.|Mist was lying over the fields.]"},
};

struct ThingKind {
  std::string_view noun, adjectives;
};
constexpr ThingKind kThings[] = {
    {"ball", "[red|blue|bouncy|rubber|striped|yellow]"},
    {"kite", "[red|paper|yellow|green|striped|big]"},
    {"drum", "[small|tin|wooden|red|noisy]"},
    {"bell", "[silver|brass|little|golden|tiny]"},
    {"scarf", "[woollen|blue|warm|red|striped|long]"},
    {"boat", "[wooden|toy|white|paper|little]"},
    {"lantern", "[old|paper|brass|small|round]"},
    {"basket", "[willow|round|brown|big|pretty]"},
    {"umbrella", "[yellow|red|striped|old|spotted]"},
    {"hat", "[straw|green|feathered|woollen|tall|red]"},
    {"key", "[golden|rusty|tiny|iron|silver]"},
    {"shell", "[pink|white|shiny|spotted|curly]"},
    {"feather", "[blue|white|long|soft|golden]"},
    {"whistle", "[wooden|tin|silver|loud|little]"},
    {"doll", "[rag|wooden|pretty|little|old]"},
    {"book", "[thick|picture|old|green|little]"},
    {"spade", "[small|iron|new|shiny|wooden]"},
    {"cup", "[blue|china|tin|pretty|big]"},
    {"button", "[brass|green|shiny|wooden|pearl]"},
    {"coin", "[gold|silver|shiny|old|copper]"},
    {"ring", "[silver|golden|brass|thin|pretty]"},
    {"blanket", "[soft|blue|warm|patchwork|woollen]"},
    {"flute", "[wooden|silver|reed|little|tin]"},
    {"stone", "[round|white|smooth|sparkling|green]"},
    {"bucket", "[tin|red|wooden|little|blue]"},
    {"brush", "[soft|broad|new|little|red]"},
    {"puppet", "[wooden|funny|little|painted|old]"},
    {"mirror", "[round|silver|small|old|pretty]"},
    {"map", "[old|torn|secret|brown|paper]"},
    {"clock", "[little|golden|old|ticking|wooden]"},
    {"box", "[painted|wooden|tin|little|secret]"},
    {"marble", "[green|glass|blue|shiny|clear]"},
    {"ribbon", "[red|silk|blue|long|yellow]"},
    {"cap", "[blue|woollen|warm|green|checked]"},
    {"sledge", "[wooden|red|fast|new|little]"},
    {"fishing rod", "[new|long|good|bamboo|old]"},
    {"pencil", "[red|new|long|blue|golden]"},
    {"horn", "[brass|little|loud|shiny|old]"},
};

constexpr std::string_view kFoods[] = {"honey cake",
                                       "apple",
                                       "pear",
                                       "carrot",
                                       "plum",
                                       "biscuit",
                                       "bun",
                                       "pancake",
                                       "pie",
                                       "loaf of bread",
                                       "piece of cheese",
                                       "turnip",
                                       "cherry tart",
                                       "melon",
                                       "pumpkin",
                                       "sandwich",
                                       "gingerbread man",
                                       "muffin",
                                       "peach",
                                       "jam roll"};

template <class Draws>
Being Fresh(Teller&, const std::vector<Being>& others, const Draws& draw) {
  for (;;) {
    Being b = draw();
    const bool taken = std::any_of(others.begin(), others.end(),
                                   [&](const Being& o) { return o.name == b.name || (b.animal && o.kind == b.kind); });
    if (!taken) return b;
  }
}

}  // namespace

Being DrawAnimal(Teller& teller, const std::vector<Being>& others) {
  return Fresh(teller, others, [&] {
    const AnimalKind& kind = teller.Pick(kAnimals);
    Being b;
    b.kind = kind.kind;
    b.home = teller.Say(kind.home);
    b.name = teller.Pick(kAnimalNames);
    b.adjective = teller.Pick(kAdjectives);
    b.female = kind.kind == "hen" || teller.Chance(0.5);
    b.animal = true;
    return b;
  });
}

Being DrawChild(Teller& teller, const std::vector<Being>& others) {
  return Fresh(teller, others, [&] {
    Being b;
    b.female = teller.Chance(0.5);
    b.kind = b.female ? "girl" : "boy";
    b.name = b.female ? teller.Pick(kGirls) : teller.Pick(kBoys);
    b.adjective = teller.Pick(kAdjectives);
    b.home = teller.Say(
        "in a [small|white|red|stone|wooden] house [at the end of the village|by the river|near the forest|on a "
        "hill|with "
        "a garden full of flowers|next to the bakery|by the sea]");
    return b;
  });
}

Being DrawGrownUp(Teller& teller, const std::vector<Being>& others) {
  return Fresh(teller, others, [&] {
    Being b;
    b.female = teller.Chance(0.5);
    b.kind = teller.Say(b.female ? "[baker|farmer|gardener|teacher|weaver|doctor|shopkeeper|painter|old woman|widow]"
                                 : "[baker|farmer|gardener|teacher|miller|fisherman|shoemaker|carpenter|shepherd|old "
                                   "man|blacksmith|woodcutter]");
    const std::string surname = teller.Say(
        "[Brown|Green|Hill|Wood|Baker|Field|Marsh|Rivers|Stone|Winter|Bell|Finch|Moss|Reed|Lamb|Snow|Thorn|Weaver|"
        "Penny|"
        "Penny]");
    b.name = (b.female ? "Mrs. " : "Mr. ") + surname;
    b.adjective = teller.Say("[kind|old|friendly|busy|stern|cheerful|wise|quiet]");
    b.home = teller.Say("in a [small|neat|tall] house near the [mill|market|bridge|church]");
    return b;
  });
}

Being DrawFriend(Teller& teller, const Being& hero, const std::vector<Being>& others) {
  if (hero.animal || teller.Chance(0.35)) return DrawAnimal(teller, others);
  return DrawChild(teller, others);
}

void Cast(Teller& teller, std::string_view key, const Being& b) {
  const std::string k(key);
  const auto set = [&](std::string_view part, std::string_view value) { teller.Set(k + std::string(part), value); };
  const bool old = b.kind.starts_with("old ");
  std::string by_kind = "the ";
  by_kind += b.animal ? "little " + b.kind : b.kind;
  set("", b.animal ? "[" + b.name + "|" + b.name + "|" + b.name + "|the " + b.kind + "]" : b.name);
  set(".name", b.name);
  set(".full", b.animal ? b.name + " the " + b.kind : b.name);
  set(".kind", b.kind);
  set(".the", b.animal ? "the " + b.kind : by_kind);
  set(".adjective", b.adjective);
  set(".home", b.home);
  set(".intro", "a~ " + (old ? b.kind : b.adjective + " " + b.kind) + " [named|called] " + b.name);
  set(".he", b.female ? "she" : "he");
  set(".him", b.female ? "her" : "him");
  set(".his", b.female ? "her" : "his");
  set(".himself", b.female ? "herself" : "himself");
  set(".child", b.animal ? "little " + b.kind : b.kind);
}

const Place& DrawPlace(Teller& teller) { return teller.Pick(kPlaces); }

void SetPlace(Teller& teller, std::string_view key, const Place& place) {
  const std::string k(key);
  teller.Set(k, place.name);
  teller.Set(k + ".in", place.in);
  teller.Set(k + ".spot", place.spots);
  teller.Set(k + ".detail", place.detail);
}

Thing DrawThing(Teller& teller) {
  const ThingKind& kind = teller.Pick(kThings);
  Thing thing;
  thing.noun = kind.noun;
  thing.full = teller.Say(kind.adjectives);
  thing.full += ' ';
  thing.full += kind.noun;
  return thing;
}

std::string DrawFood(Teller& teller) { return std::string(teller.Pick(kFoods)); }

}  // namespace fathom::corpus
