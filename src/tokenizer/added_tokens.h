// Added tokens: strings that are cut out of the text before anything else and become one id each. Two rounds, as in
// Hugging Face's AddedVocabulary: first the tokens that are not `normalized`, then, in the text between those, the
// `normalized` ones; in each round the leftmost match wins, of those the longest.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/regex.h"

namespace fathom::tokenizer {

struct AddedToken {
  std::string content;
  TokenId id = -1;
  bool special = false;
  bool normalized = false;
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool single_word = false;  // only between non-word characters
};

class AddedTokenMatcher {
 public:
  struct Part {
    std::string_view text;
    TokenId id;  // -1: text still to be encoded
  };

  AddedTokenMatcher() = default;
  static Result<AddedTokenMatcher> Make(const std::vector<AddedToken>& tokens);

  // Cuts the text; parts of no length are left out. `specials`: whether special tokens are looked for too.
  void Split(std::string_view text, bool specials, std::vector<Part>& parts) const;

 private:
  // A trie over one round's tokens.
  struct Trie {
    struct Node {
      int32_t token = -1;        // index into tokens_, if one ends here
      int32_t first_child = -1;  // children as a list
      int32_t sibling = -1;
      unsigned char byte = 0;
    };
    std::vector<Node> nodes{Node{}};
    std::vector<int32_t> roots = std::vector<int32_t>(256, -1);  // children of the root, by byte
    int only_first = -1;  // the first byte of all tokens, if they share one; -2: none; -1: several
    void Add(std::string_view content, int32_t token);
    size_t NextCandidate(std::string_view text, size_t from) const;
    int32_t Longest(std::string_view text, size_t from) const;  // token index or -1
  };
  void Round(const Trie& trie, std::string_view text, bool specials, std::vector<Part>& parts) const;
  bool IsWordAt(std::string_view text, size_t at) const;
  bool IsWordBefore(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  Trie rounds_[2];
  std::shared_ptr<const Regex> word_;  // where a token wants single_word
};

}  // namespace fathom::tokenizer
