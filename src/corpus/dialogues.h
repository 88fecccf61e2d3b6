// Conversations that teach a small model to answer: stories on demand, questions about a story that is given, simple
// arithmetic, answers in a form that is asked for, who it is, and what it cannot know. Answers are computed or follow
// from the story's state, so they are right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "corpus/teller.h"

namespace fathom::corpus {

struct Message {
  std::string role, content;  // "user", "assistant"
};
using Dialogue = std::vector<Message>;

// Document `index` of a corpus of dialogues.
Dialogue DrawDialogue(uint64_t seed, int64_t index);

void Turn(Dialogue* dialogue, std::string user, std::string assistant);  // added at the end

// The turns of one kind, added to `dialogue`.
void AddStoryTurns(Teller& teller, Dialogue* dialogue);    // a story is told, perhaps talked about
void AddReadingTurns(Teller& teller, Dialogue* dialogue);  // questions about a story in the prompt
void AddArithmetic(Teller& teller, Dialogue* dialogue);
void AddFormTurn(Teller& teller, Dialogue* dialogue);    // one word, three things, capitals, numbered, JSON
void AddFactTurn(Teller& teller, Dialogue* dialogue);    // opposites, sounds, days: what a child knows
void AddGreeting(Teller& teller, Dialogue* dialogue);    // greetings, thanks, what are you
void AddUnknowable(Teller& teller, Dialogue* dialogue);  // what it cannot know or do

// "seventeen" of 17; 0 to 999.
std::string NumberWord(int64_t n);

}  // namespace fathom::corpus
