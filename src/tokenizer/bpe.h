// Byte-level BPE: the vocabulary, the merges, and the ids of one piece of text.
//
// A piece begins as its bytes; of all adjacent pairs that a merge names, the one of lowest rank (the leftmost of
// equals) is joined, again and again, until none is left. Pieces of up to kShort bytes keep the ranks in an array and
// look for the least; longer ones keep them in a heap, so a piece of n bytes takes O(n log n) steps with a table of 12
// bytes a symbol.
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

// Strings to token ids; what tokenizer.json's vocabulary is while it is read. Open addressing.
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
    TokenId id;
    int32_t previous, next;  // -1 at the ends
  };
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;  // rank, position
};

class Bpe {
 public:
  static constexpr int64_t kMaxPiece = INT32_MAX / 2;

  static Result<Bpe> Make(const BpeSource& source);

  // Appends the ids of a piece (any bytes, at most kMaxPiece).
  void Encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;

 private:
  static constexpr int kShort = 64;
  static constexpr uint32_t kNoMerge = INT32_MAX;

  struct PairSlot {
    uint64_t pair;
    uint32_t rank;
  };
  static uint64_t PairKey(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  uint32_t Rank(TokenId left, TokenId right) const {
    const uint64_t key = PairKey(left, right);
    for (uint64_t i = (key * 0x9E3779B97F4A7C15u) >> shift_;; i = (i + 1) & mask_) {
      if (pairs_[i].pair == key) return pairs_[i].rank;
      if (pairs_[i].rank == kNoMerge) return kNoMerge;
    }
  }
  void EncodeShort(std::string_view piece, std::vector<TokenId>& out) const;
  void EncodeLong(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;

  TokenId byte_ids_[256];
  std::vector<uint32_t> byte_pair_rank_;  // 256 x 256: the first look-ups of every piece
  std::vector<PairSlot> pairs_;           // open addressing, at most half full
  uint64_t mask_ = 0;
  int shift_ = 0;
  std::vector<TokenId> merged_;  // by rank
  // Whole tokens by their bytes, for ignore_merges.
  bool ignore_merges_ = false;
  std::vector<std::pair<std::string, TokenId>> whole_;
  std::unique_ptr<VocabularyMap> whole_map_;
};

}  // namespace fathom::tokenizer
