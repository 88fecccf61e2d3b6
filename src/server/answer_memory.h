// How the model itself wrote its answers: the tokens of those that another sequence of tokens would spell the same way.
// When such an answer comes back in a conversation's history, its text gets these tokens again, so that all that was
// computed for it is found in the prefix cache.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace fathom::server {

// Thread-safe. Forgets what was not asked for longest.
class AnswerMemory {
 public:
  static constexpr size_t kMaxTokens = 4 << 20;  // of all answers together

  explicit AnswerMemory(size_t max_tokens = kMaxTokens) : max_tokens_(max_tokens) {}

  // The tokens of an answer, without the one that ended it. Kept only where encoding its text gives others.
  void Remember(const tokenizer::Tokenizer& tokenizer, const std::vector<int32_t>& ids);
  std::optional<std::vector<int32_t>> Find(std::string_view text);
  size_t tokens() const;

 private:
  struct Answer {
    std::string text;
    std::vector<int32_t> ids;
  };
  mutable std::mutex mutex_;
  const size_t max_tokens_;
  size_t tokens_ = 0;
  std::list<Answer> answers_;  // the latest first
  std::unordered_map<std::string_view, std::list<Answer>::iterator> found_;
};

// A rendered conversation as the model has read and written it: each of `answers` (the assistant's turns, in their
// order) that is found before an end of text gets the tokens that it was made of, and is encoded apart from the prompt
// before it, as it was when it was written.
std::vector<int32_t> EncodeConversation(const tokenizer::Tokenizer& tokenizer, AnswerMemory* memory,
                                        std::string_view text, std::string_view eos,
                                        const std::vector<std::string>& answers);

}  // namespace fathom::server
