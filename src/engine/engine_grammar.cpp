// What a step does for answers of a grammar. Logits are masked before anything else is done with them: penalties, bias,
// filters, the draw and the verification of drafts see a model that never says what is forbidden, so that all of
// speculation.h holds of it. Functions of a step run beside others of their kind and keep errors to their sequence.
#include <fmt/format.h>

#include "engine/engine_state.h"

namespace fathom::engine {
namespace {

grammar::Matcher MatcherOf(const Request& r) {
  std::vector<int32_t> ends = r.eos_ids;
  ends.insert(ends.end(), r.grammar_ends.begin(), r.grammar_ends.end());
  return {r.grammar, std::move(ends)};
}

Error Stuck() {
  return {"the grammar allows no token here", "", "a token that continues the text, or its end",
          "the vocabulary may lack what the grammar asks for"};
}

}  // namespace

void Engine::State::CheckGrammar(const Request& r) const {
  const int64_t vocab = transformer_.config().vocab_size, own = r.grammar->trie().vocab_size();
  if (own != vocab) {
    throw Error("the grammar is of another vocabulary", fmt::format("{} tokens", own), fmt::format("{}", vocab));
  }
  for (const std::vector<int32_t>* ends : {&r.eos_ids, &r.grammar_ends}) {
    for (int32_t id : *ends) {
      if (id < 0 || id >= vocab)
        throw Error("token id out of range", fmt::format("{}", id), fmt::format("0 to {}", vocab - 1));
    }
  }
  grammar::Matcher matcher = MatcherOf(r);
  if (matcher.Stuck() && !matcher.OnlyEnd()) throw Stuck();
}

void Engine::State::BeginGrammar(Sequence& s) {
  s.matcher.emplace(MatcherOf(s.request));
  if (s.matcher->OnlyEnd() && !s.request.prompt_logprobs) Finish(s, FinishReason::kStop);
}

// False: the item has an error.
bool Engine::State::Mask(Item& item, std::span<float> logits) {
  try {
    item.sequence->matcher->Apply(logits);
    return true;
  } catch (const Error& e) {
    item.error = e;
    return false;
  }
}

// False: no token follows in this step, because the text is complete or cannot go on.
bool Engine::State::Follow(Item& item, int32_t token) {
  grammar::Matcher& matcher = *item.sequence->matcher;
  try {
    if (!matcher.Accept(token)) throw Error("the model's logits are not numbers", fmt::format("token {}", token));
    item.complete = matcher.OnlyEnd();
    if (!item.complete && matcher.Stuck()) throw Stuck();
  } catch (const Error& e) {
    item.error = e;
  }
  return !item.complete && !item.error;
}

// A draft of the plain model is as good: it is verified against the masked one.
void Engine::State::MaskDraft(Sequence& s, std::span<float> logits) const {
  try {
    if (s.matcher) s.matcher->Apply(logits);
  } catch (const Error&) {  // the step that verifies meets it again and says so
  }
}

// False: nothing need be drafted behind it.
bool Engine::State::FollowDraft(Sequence& s, int32_t token) const {
  if (!s.matcher) return true;
  try {
    if (!s.matcher->Accept(token)) return false;
    ++s.matched_drafts;
    return !s.matcher->OnlyEnd() && !s.matcher->Stuck();
  } catch (const Error&) {
    return false;
  }
}

void Engine::State::ForgetDrafts(std::vector<Item>& items) const {
  for (Item& item : items) {
    Sequence& s = *item.sequence;
    if (s.matcher) s.matcher->Rollback(s.matched_drafts);
    s.matched_drafts = 0;
  }
}

}  // namespace fathom::engine
