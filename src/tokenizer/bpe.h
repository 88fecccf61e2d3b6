// Byte-level BPE: the vocabulary, the merges, and the ids of one piece of text.
//
// A piece begins as its bytes; of all adjacent pairs that a merge names, the one of lowest rank (the leftmost of
// equals) is joined, again and again, until none is left. EncodeByMerging does just that, with a heap of ranks: O(n log
// n), for any list of merges.
//
// Where the merges are in order (each makes a token of its own, of bytes and tokens made by earlier merges) the same
// ids are found in one pass, O(n), by EncodeInOnePass. Such merges happen in the order of their ranks, and what happens
// within a token does not depend on its neighbours as long as no merge crosses its ends. So a sequence of tokens is the
// encoding of its bytes exactly if every token encodes to itself and no merge would have crossed any border between two
// neighbours, which depends on these two alone (Crossed). The sequence is unique, and so is the last token of every
// beginning of the text that is encoded so: take the longest token that may follow the last one; where none may, take
// the last one back, remember that its end leads nowhere, and try its next shorter prefix.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::tokenizer {

using TokenId = int32_t;

// Token strings of a byte-level vocabulary write each byte as a printable character (GPT-2's table: the printable ones
// of Latin-1 are themselves, the others follow from U+0100). The bytes of such a string; of a string with any other
// character, its UTF-8.
std::string BytesOfTokenString(std::string_view token);

// Strings to token ids, by open addressing.
class VocabularyMap {
 public:
  explicit VocabularyMap(const std::vector<std::pair<std::string, TokenId>>& entries);
  TokenId Find(std::string_view token) const;  // -1 if absent

 private:
  struct Slot {
    uint64_t hash = 0;
    int32_t index = -1;
  };
  const std::pair<std::string, TokenId>* entries_;  // outlive the map
  std::vector<Slot> slots_;
};

// What tokenizer.json's "model" says, parsed.
struct BpeSource {
  std::vector<std::pair<std::string, TokenId>> vocabulary;  // token strings
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
  bool ignore_merges = false;                               // a piece that is a token is that token
};

struct BpeScratch {
  struct Symbol {
    uint32_t part;
    int32_t previous, next;  // -1 at the ends
  };
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;  // rank, position
  std::vector<uint64_t> dead;  // a bit a position
  std::vector<uint32_t> parts;
};

class Bpe {
 public:
  static constexpr int64_t kMaxPiece = INT32_MAX / 2;
  static constexpr size_t kMaxMerges = (1 << 21) - 512;

  static Result<Bpe> Make(const BpeSource& source);

  // Appends the ids of a piece (any bytes, at most kMaxPiece).
  void Encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;
  // The specification of Encode (without ignore_merges).
  void EncodeByMerging(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;
  bool OnePass() const { return one_pass_; }  // whether the merges are in order

 private:
  // Tokens within Bpe are "parts": 0 to 255 the bytes, 256 + rank what the merge of that rank makes.
  static constexpr uint32_t kBytes = 256;
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kMaxNodes = 1 << 24;  // a slot of the trie has 24 bits for a node
  static constexpr uint64_t kHash = 0x9E3779B97F4A7C15u;
  static constexpr uint64_t kEmpty = UINT64_MAX;
  static constexpr int kPartBits = 21;  // of a pair's table slot, three times
  struct Part {
    uint32_t left, right;  // what the merge joins
    uint32_t prefix;       // the longest shorter part that the text of this one begins with, kNone for bytes
    uint32_t length;       // bytes
  };

  uint32_t Pair(uint32_t left, uint32_t right) const {  // the part that they make, or kNone
    const uint64_t key = uint64_t{left} << kPartBits | right;
    const uint64_t hash = key * kHash;
    if ((pair_filter_[hash >> (pair_shift_ + 3)] >> (hash >> (pair_shift_ - 3) & 63) & 1) == 0) return kNone;
    for (uint64_t i = hash >> pair_shift_;; i = (i + 1) & pair_mask_) {
      const uint64_t slot = pairs_[i];
      if (slot >> kPartBits == key) return static_cast<uint32_t>(slot & ((1u << kPartBits) - 1));
      if (slot == kEmpty) return kNone;
    }
  }
  void SetPair(uint32_t left, uint32_t right, uint32_t made);
  bool Crossed(uint32_t left, uint32_t right, uint32_t limit) const;
  uint32_t Child(uint32_t node, unsigned char byte) const;
  void SetChild(uint32_t node, unsigned char byte, uint32_t child);
  bool MakeTrie();
  uint32_t Longest(const char* p, const char* end) const;
  void EncodeInOnePass(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;

  std::vector<TokenId> ids_;     // by part
  std::vector<Part> parts_;      // by part
  std::vector<uint64_t> pairs_;  // open addressing, at most half full: left, right, made
  // 8 bits a slot of pairs_, set where the hash of a pair falls: most questions end here, in an eighth of the memory.
  std::vector<uint64_t> pair_filter_;
  uint64_t pair_mask_ = 0;
  int pair_shift_ = 0;

  std::vector<uint32_t> canonical_;  // where merges are not in order: by part, the first part that is the same token

  // A trie of the parts that encode to themselves: a node that is one has its number, the others follow. Children by
  // open addressing: node and byte above, child below.
  bool one_pass_ = false;
  std::vector<uint64_t> children_;
  uint64_t child_mask_ = 0;
  int child_shift_ = 0;
  size_t child_count_ = 0;
  std::vector<uint32_t> two_bytes_;    // the node of the first two bytes, or kNone
  std::vector<uint32_t> three_bytes_;  // by code point: the node of a character of three bytes that is a part, or kNone

  bool ignore_merges_ = false;
  std::vector<std::pair<std::string, TokenId>> whole_;  // tokens by their bytes, for ignore_merges
  std::unique_ptr<VocabularyMap> whole_map_;
};

}  // namespace fathom::tokenizer
