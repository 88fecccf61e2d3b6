// Grammars that were compiled for a model's vocabulary, by what they were compiled from: masks are kept with them.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "grammar/machine.h"
#include "grammar/token_mask.h"
#include "tokenizer/tokenizer.h"

namespace fathom::server {

// Thread-safe. The vocabulary's trie is made when it is first needed.
class GrammarCache {
 public:
  static constexpr size_t kMaxGrammars = 32;        // those asked for last
  static constexpr size_t kMaxKeyBytes = 64 << 10;  // of larger ones none is kept

  // The grammar of `key`; `make` is called where it is not there. What it throws is passed on.
  std::shared_ptr<grammar::CompiledGrammar> Get(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size,
                                                const std::string& key,
                                                const std::function<std::unique_ptr<grammar::Machine>()>& make);
  size_t size() const;

 private:
  std::shared_ptr<const grammar::TokenTrie> Trie(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size);

  mutable std::mutex mutex_;
  std::shared_ptr<const grammar::TokenTrie> trie_;
  std::list<std::pair<std::string, std::shared_ptr<grammar::CompiledGrammar>>> grammars_;  // the latest first
};

}  // namespace fathom::server
