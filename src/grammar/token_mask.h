// Which tokens may come next. Most states that allow many tokens are loops, or links of a chain that counts: characters
// of a set lead to the same state, or to one from which the same set leads on (a JSON string, ".{1,100}"). Which tokens
// are made of such a set alone is known once per set and vocabulary (TokenTrie::Base); a mask shares these and adds
// what leaves them, found by walking the trie's rest.
//
// A CompiledGrammar is a machine with a vocabulary, shared by all requests that use the grammar: masks are kept by
// state as long as they fit kMaxBytes. A Matcher is one answer's way through it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/machine.h"
#include "grammar/token_trie.h"

namespace fathom::grammar {

using Loops = std::unordered_map<Machine::State, Machine::Loop>;  // those that were looked for

class TokenMask {
 public:
  // All of a vocabulary's tokens that may follow `state`.
  static TokenMask Make(const TokenTrie& trie, Machine& machine, Machine::State state, Loops& loops);

  bool Allows(int32_t id) const;
  bool none() const { return count_ == 0; }
  int64_t count() const { return count_; }
  int64_t bytes() const;  // that it takes alone
  // Sets the logits (vocabulary of the model, may be longer than the trie's) of all other tokens but `also` to
  // -infinity.
  void Apply(std::span<float> logits, std::span<const int32_t> also) const;

 private:
  std::shared_ptr<const TokenTrie::Bits> bits_;  // or none; shared with others or not
  bool shared_ = true;
  std::vector<int32_t> more_;  // not in bits_
  int64_t count_ = 0;
};

// Thread-safe.
class CompiledGrammar {
 public:
  static constexpr int64_t kMaxBytes = int64_t{32} << 20;  // of masks
  static constexpr size_t kLikelyLoops = 8;                // are made ready by the constructor

  CompiledGrammar(std::unique_ptr<Machine> machine, std::shared_ptr<const TokenTrie> trie);

  // Throw Error where the machine does (too many states).
  Machine::State Start();
  Machine::State After(Machine::State state, int32_t token);  // kDead: not allowed
  Machine::State After(Machine::State state, std::span<const uint8_t> bytes);
  bool Accepts(Machine::State state);
  std::shared_ptr<const TokenMask> MaskOf(Machine::State state);
  const TokenTrie& trie() const { return *trie_; }

 private:
  std::mutex mutex_;
  const std::unique_ptr<Machine> machine_;
  const std::shared_ptr<const TokenTrie> trie_;
  std::unordered_map<Machine::State, std::shared_ptr<const TokenMask>> masks_;
  Loops loops_;
  int64_t mask_bytes_ = 0;
};

// One answer: its tokens so far lead to a state of the grammar. A copy goes its own way.
class Matcher {
 public:
  // `ends`: tokens that end the answer, allowed exactly where the grammar is complete.
  Matcher(std::shared_ptr<CompiledGrammar> grammar, std::vector<int32_t> ends);

  // False, and nothing changes: the grammar does not allow it.
  bool Accept(int32_t token);
  void Rollback(int64_t tokens);  // takes back the last ones
  bool Allows(int32_t token);
  bool Complete() const;  // the text may end here
  // Nothing but an end is left to come: the text is complete and no token continues it.
  bool OnlyEnd();
  bool ended() const { return states_.back() == kEnded; }
  // Neither a token nor an end is possible: no token of the vocabulary begins what the grammar wants.
  bool Stuck();
  // Forbidden tokens' logits become -infinity.
  void Apply(std::span<float> logits);
  Machine::State state() const { return states_.back(); }  // of the grammar; below kDead when ended

 private:
  static constexpr Machine::State kEnded = -2;
  bool IsEnd(int32_t token) const;

  std::shared_ptr<CompiledGrammar> grammar_;
  std::vector<int32_t> ends_;
  std::vector<Machine::State> states_;  // behind each token; the first is the start
};

}  // namespace fathom::grammar
