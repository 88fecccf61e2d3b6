// Documents that teach a model to look back: facts stand between filler, and are asked for later on.
//
//   sentences   The secret word of Anna is lantern. ... What is the secret word of Anna? The secret word of Anna is
//   lantern. notes       Note: Anna lantern. ... Recall: Anna lantern.
//
// In notes the answer follows its key at once, so that one head that finds what came after the key's last mention is
// enough: what a model of some millions of parameters learns in minutes. Keys and answers are drawn independently of
// each other from short lists of common words: nothing but the document itself tells the answer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"

namespace fathom::corpus {

enum class RecallForm : uint8_t { kSentences, kNotes };

// The length of a text, in whatever unit a document's length is given: bytes, or a tokenizer's tokens.
using LengthOf = std::function<int64_t(std::string_view)>;

struct RecallOptions {
  RecallForm form = RecallForm::kNotes;
  int64_t least = 256, most = 1024;  // length of a document; log-uniform between the two
  double filler = 0.6;               // at most this share of a document, drawn uniformly from 0
  int64_t keys = 12;                 // at most so many facts
  // This share of the documents is a list of words again and again instead, the plainest thing that is found by looking
  // back: it gets a new model over the threshold at which it begins to look back at all.
  double lists = 0.0;
  std::vector<std::string> sentences{};  // filler to draw from; empty: built-in patterns
};

// Document `index` of a corpus with this seed: no longer than options.most.
std::string RecallDocument(uint64_t seed, int64_t index, const RecallOptions& options, const LengthOf& length);

// A fact, and its question as far as the answer: fact = "... key ... answer." and text + question + answer + "." is
// as a document has it.
struct Needle {
  std::string key, answer;   // single words
  std::string fact;          // "Note: Anna lantern."
  std::string question;      // "Recall: Anna": what a model continues
  std::string continuation;  // " lantern": the answer as it is to be continued
};
// `taken`: keys that are not drawn.
Needle DrawNeedle(Rng& rng, RecallForm form, const std::vector<std::string>& taken = {});

// A sentence of filler: the built-in patterns.
std::string FillerSentence(Rng& rng);

// Sentences of a text that are fit to be filler: of 20 to 160 bytes, in one line.
std::vector<std::string> SentencesOf(std::string_view text);

}  // namespace fathom::corpus
