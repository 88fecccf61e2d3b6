#include "corpus/recall.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace fathom::corpus {
namespace {

constexpr uint64_t kRecallStream = 0x52454341;  // of the draws, beside other generators with the same seed

constexpr std::array<std::string_view, 42> kKeys = {
    "Mary", "Alice", "John",    "Peter",  "Dorothy", "Jane",  "Sara",      "Heidi", "Laurie", "Diana", "Dick",
    "Beth", "Kitty", "Anna",    "Emma",   "Jack",    "Will",  "Davy",      "Colin", "Martha", "Tommy", "Clara",
    "Bill", "Daisy", "Agnes",   "Cyril",  "Gilbert", "Allan", "Dolly",     "Jerry", "Frank",  "Barry", "George",
    "Paul", "James", "Herbert", "Rachel", "Becky",   "Lucy",  "Elizabeth", "Ivan",  "Richard"};
constexpr std::array<std::string_view, 50> kAnswers = {
    "river",  "garden", "gold",   "window",  "horse", "book",   "table", "flower", "bread", "forest",
    "castle", "silver", "letter", "rose",    "ship",  "glass",  "stone", "tree",   "king",  "apple",
    "lamp",   "bird",   "fish",   "milk",    "moon",  "star",   "snow",  "rain",   "sugar", "butter",
    "basket", "bell",   "coat",   "boat",    "ring",  "bottle", "cloud", "palace", "lion",  "music",
    "paper",  "door",   "bridge", "kitchen", "sand",  "spring", "dust",  "summer", "house", "winter"};

constexpr std::array<std::string_view, 10> kFillerAdjectives = {"little", "old",   "great", "white", "black",
                                                                "quiet",  "happy", "poor",  "young", "good"};
constexpr std::array<std::string_view, 10> kFillerNouns = {"man",   "woman", "girl",    "boy",   "dog",
                                                           "child", "cat",   "soldier", "queen", "teacher"};
constexpr std::array<std::string_view, 10> kFillerVerbs = {"walked", "sat", "looked", "stood",  "went",
                                                           "came",   "ran", "slept",  "waited", "played"};
constexpr std::array<std::string_view, 10> kFillerPlaces = {
    "in the field", "by the road",  "near the wall", "in the town",  "on the hill",
    "at the gate",  "in the night", "with a friend", "all day long", "in the morning"};

template <size_t N>
std::string Pick(Rng& rng, const std::array<std::string_view, N>& list) {
  return std::string(list[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(N)))]);
}

template <class T>
void Shuffle(Rng& rng, std::vector<T>& items) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(i)))]);
}

std::string Asked(const Needle& n) { return n.question + n.continuation + "."; }

std::string Join(const std::vector<std::string>& sentences) {
  std::string text;
  for (const std::string& s : sentences) text += (text.empty() ? "" : " ") + s;
  return text;
}

// Words drawn once, then repeated in their order up to the length.
std::string WordList(Rng& rng, int64_t limit, const LengthOf& length) {
  std::vector<std::string> words;
  const int64_t fit = limit / std::max<int64_t>(1, length(" garden"));  // words, about
  const int64_t different = 4 + rng.NextBelow(std::clamp<int64_t>(fit / 3, 1, 40));
  for (int64_t i = 0; i < different; ++i)
    words.push_back(rng.NextBelow(2) == 0 ? Pick(rng, kKeys) : Pick(rng, kAnswers));
  std::string text = words[0];
  int64_t size = length(text);
  for (size_t i = 1;; ++i) {
    const std::string word = " " + words[i % words.size()];
    size += length(word);
    if (size > limit) return text;
    text += word;
  }
}

}  // namespace

std::string FillerSentence(Rng& rng) {
  // Named one by one: the order in which a call's arguments are computed is the compiler's.
  const std::string adjective = Pick(rng, kFillerAdjectives), noun = Pick(rng, kFillerNouns),
                    verb = Pick(rng, kFillerVerbs);
  return "The " + adjective + " " + noun + " " + verb + " " + Pick(rng, kFillerPlaces) + ".";
}

Needle DrawNeedle(Rng& rng, RecallForm form, const std::vector<std::string>& taken) {
  FATHOM_CHECK(taken.size() < kKeys.size());
  Needle n;
  do {
    n.key = Pick(rng, kKeys);
  } while (std::find(taken.begin(), taken.end(), n.key) != taken.end());
  n.answer = Pick(rng, kAnswers);
  n.continuation = " " + n.answer;
  if (form == RecallForm::kNotes) {
    n.fact = "Note: " + n.key + n.continuation + ".";
    n.question = "Recall: " + n.key;
    return n;
  }
  const std::string phrase = "The secret word of " + n.key + " is";
  n.fact = phrase + n.continuation + ".";
  n.question = "What is the secret word of " + n.key + "? " + phrase;
  return n;
}

std::vector<std::string> SentencesOf(std::string_view text) {
  constexpr size_t kLeast = 20, kMost = 160;
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool ends =
        (text[i] == '.' || text[i] == '!' || text[i] == '?') && (i + 1 == text.size() || text[i + 1] == ' ');
    if (text[i] == '\n') {
      begin = i + 1;
    } else if (ends) {
      const size_t first = std::min(text.find_first_not_of(' ', begin), i);
      const std::string_view sentence = text.substr(first, i + 1 - first);
      if (sentence.size() >= kLeast && sentence.size() <= kMost && sentence[0] >= 'A' && sentence[0] <= 'Z')
        out.emplace_back(sentence);
      begin = i + 1;
    }
  }
  return out;
}

std::string RecallDocument(uint64_t seed, int64_t index, const RecallOptions& o, const LengthOf& length) {
  FATHOM_CHECK(0 < o.least && o.least <= o.most && o.keys >= 1 && o.keys < static_cast<int64_t>(kKeys.size()));
  Rng rng(seed, kRecallStream << 32 ^ static_cast<uint64_t>(index));
  const double ratio = static_cast<double>(o.most) / static_cast<double>(o.least);
  const auto limit =
      std::min(o.most, static_cast<int64_t>(static_cast<double>(o.least) * std::pow(ratio, rng.NextDouble())));
  if (rng.NextDouble() < o.lists) return WordList(rng, limit, length);

  // Lengths are of sentences with the blank before them; what a tokenizer joins across sentences is left aside.
  const auto size_of = [&](const std::string& s) { return length(" " + s); };
  std::vector<Needle> needles;
  std::vector<std::string> keys;
  int64_t used = 0;
  for (int64_t wanted = 1 + rng.NextBelow(o.keys); wanted > 0; --wanted) {
    Needle n = DrawNeedle(rng, o.form, keys);
    const int64_t size = size_of(n.fact) + size_of(Asked(n));
    if (used + size > limit) break;
    used += size;
    keys.push_back(n.key);
    needles.push_back(std::move(n));
  }
  if (needles.empty()) return std::string();
  const double filler_share = rng.NextDouble() * o.filler;
  std::vector<std::string> fillers;
  for (const int64_t end = used + static_cast<int64_t>(filler_share * static_cast<double>(limit - used));;) {
    std::string s = o.sentences.empty()
                        ? FillerSentence(rng)
                        : o.sentences[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(o.sentences.size())))];
    const int64_t size = size_of(s);
    if (used + size > end) break;
    used += size;
    fillers.push_back(std::move(s));
  }
  // Questions beside the last ones, as many as there is room for.
  int64_t questions = 0;
  const int64_t asked = size_of(Asked(needles[0])) + 1;
  for (; used + asked <= limit; used += asked) ++questions;

  // The order: facts (-1), fillers (-2) and questions (-3) shuffled, a fact first; at last all keys once more.
  std::vector<int> order(needles.size() - 1, -1);
  order.insert(order.end(), fillers.size(), -2);
  order.insert(order.end(), static_cast<size_t>(questions), -3);
  Shuffle(rng, order);
  order.insert(order.begin() +
                   static_cast<ptrdiff_t>(rng.NextBelow(1 + std::min<int64_t>(static_cast<int64_t>(fillers.size()),
                                                                              static_cast<int64_t>(order.size() / 4)))),
               -1);
  std::vector<std::string> text;
  size_t known = 0, filled = 0;
  for (int kind : order) {
    if (kind == -1) {
      text.push_back(needles[known++].fact);
    } else if (kind == -2 || known == 0) {
      if (filled < fillers.size()) text.push_back(fillers[filled++]);
    } else {
      text.push_back(Asked(needles[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(known)))]));
    }
  }
  std::vector<size_t> last(needles.size());
  std::iota(last.begin(), last.end(), size_t{0});
  Shuffle(rng, last);
  for (size_t i : last) text.push_back(Asked(needles[i]));
  return Join(text);
}

}  // namespace fathom::corpus
