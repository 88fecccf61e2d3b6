// Prompts of given lengths for a load test, from random words or token ids. What a prompt is made of are pieces, each
// the beginning of an endless random text with a number of its own: prompts that share their first pieces share their
// first tokens.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fathom::cli {

struct PromptPiece {
  uint64_t text = 0;  // its number
  int64_t tokens = 0;
};

class PromptMaker {
 public:
  uint64_t seed = 0;
  int64_t vocab_size = 0;  // > 0: token ids
  // Words: how many tokens one makes, and how many a prompt has besides (a chat template, a token at its beginning).
  double tokens_per_word = 1, overhead = 0;

  std::string Words(int64_t count, uint64_t text) const;
  // Text, or a list of ids.
  nlohmann::ordered_json Make(const std::vector<PromptPiece>& pieces) const;
};

}  // namespace fathom::cli
