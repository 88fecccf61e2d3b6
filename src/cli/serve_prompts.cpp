#include "cli/serve_prompts.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "core/rng.h"

namespace fathom::cli {
namespace {

// Words that most vocabularies have as one token each, with the space before it.
constexpr std::string_view kWords[] = {
    "time",    "year",    "people",   "way",    "day",    "man",     "thing",  "woman", "life",    "child",
    "world",   "school",  "state",    "family", "hand",   "part",    "place",  "case",  "week",    "company",
    "system",  "program", "question", "work",   "night",  "point",   "home",   "water", "room",    "mother",
    "area",    "money",   "story",    "fact",   "month",  "lot",     "right",  "study", "book",    "eye",
    "job",     "word",    "business", "issue",  "side",   "kind",    "head",   "house", "service", "friend",
    "father",  "power",   "hour",     "game",   "line",   "end",     "member", "law",   "car",     "city",
    "name",    "team",    "minute",   "idea",   "body",   "back",    "face",   "door",  "person",  "art",
    "war",     "history", "party",    "result", "change", "morning", "reason", "girl",  "moment",  "air",
    "teacher", "force",   "light",    "voice",  "old",    "great",   "small",  "large", "young",   "long",
    "little",  "good",    "new",      "first",  "last",   "high",    "go",     "see",   "know",    "take",
    "come",    "think",   "look",     "want",   "give",   "use",     "find",   "tell",  "ask",     "seem",
    "feel",    "try",     "leave",    "call",   "turn",   "walk",    "stand",  "open",  "run",     "hold",
    "under",   "over",    "after",    "before", "with",   "from",    "into",   "upon"};

}  // namespace

std::string PromptMaker::Words(int64_t count, uint64_t text) const {
  Rng rng(seed, text);
  std::string out;
  for (int64_t i = 0; i < count; ++i) {
    out += ' ';
    out += kWords[rng.NextBelow(std::ssize(kWords))];
  }
  return out;
}

nlohmann::ordered_json PromptMaker::Make(const std::vector<PromptPiece>& pieces) const {
  if (vocab_size > 0) {
    auto ids = nlohmann::ordered_json::array();
    for (const PromptPiece& piece : pieces) {
      Rng rng(seed, piece.text);
      for (int64_t i = 0; i < piece.tokens; ++i) ids.push_back(rng.NextBelow(vocab_size));
    }
    return ids;
  }
  std::string out;
  double left = overhead;  // taken off the last piece, so that shared ones stay equal
  for (size_t i = 0; i < pieces.size(); ++i) {
    const double tokens = static_cast<double>(pieces[i].tokens) - (i + 1 == pieces.size() ? left : 0);
    const int64_t words = std::llround(tokens / tokens_per_word);
    out += Words(std::max<int64_t>(words, i == 0 ? 1 : 0), pieces[i].text);
  }
  return out;
}

}  // namespace fathom::cli
