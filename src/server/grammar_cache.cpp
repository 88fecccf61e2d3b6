#include "server/grammar_cache.h"

#include <algorithm>

namespace fathom::server {

std::shared_ptr<const grammar::TokenTrie> GrammarCache::Trie(const tokenizer::Tokenizer& tokenizer,
                                                             int64_t vocab_size) {
  const std::scoped_lock lock(mutex_);
  if (!trie_) trie_ = std::make_shared<const grammar::TokenTrie>(tokenizer, vocab_size);
  return trie_;
}

std::shared_ptr<grammar::CompiledGrammar> GrammarCache::Get(
    const tokenizer::Tokenizer& tokenizer, int64_t vocab_size, const std::string& key,
    const std::function<std::unique_ptr<grammar::Machine>()>& make) {
  const bool kept = key.size() <= kMaxKeyBytes;
  if (kept) {
    const std::scoped_lock lock(mutex_);
    const auto at = std::find_if(grammars_.begin(), grammars_.end(), [&](const auto& g) { return g.first == key; });
    if (at != grammars_.end()) {
      grammars_.splice(grammars_.begin(), grammars_, at);
      return at->second;
    }
  }
  auto compiled = std::make_shared<grammar::CompiledGrammar>(make(), Trie(tokenizer, vocab_size));
  if (kept) {
    const std::scoped_lock lock(mutex_);
    grammars_.emplace_front(key, compiled);
    if (grammars_.size() > kMaxGrammars) grammars_.pop_back();
  }
  return compiled;
}

size_t GrammarCache::size() const {
  const std::scoped_lock lock(mutex_);
  return grammars_.size();
}

}  // namespace fathom::server
