// The byte strings of a vocabulary as a trie in the order of a depth-first walk, built once per tokenizer. Special
// tokens are not in it: no text is written with them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/machine.h"
#include "tokenizer/tokenizer.h"

namespace fathom::grammar {

// A set of bytes, as 256 bits.
struct LoopBytes {
  uint64_t bits[4] = {};
  bool utf8 = false;  // bytes above 127 stand for all characters that begin with them

  bool Has(uint8_t byte) const { return bits[byte >> 6] >> (byte & 63) & 1; }
  void Add(uint8_t byte) { bits[byte >> 6] |= uint64_t{1} << (byte & 63); }
  bool operator==(const LoopBytes&) const = default;
};

class TokenTrie {
 public:
  // `vocab_size`: of the model; ids from there on are left out.
  TokenTrie(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size);
  // ids are places in `tokens`; an empty one is none.
  explicit TokenTrie(const std::vector<std::string>& tokens);

  int64_t vocab_size() const { return vocab_size_; }
  int64_t longest() const { return longest_; }  // bytes
  int64_t nodes() const { return static_cast<int64_t>(bytes_.size()); }
  // Empty: no such token, or a special one.
  std::span<const uint8_t> BytesOf(int32_t id) const;

  // Appends the tokens that lead the machine from `state` to a state that is not dead.
  void Walk(Machine& machine, Machine::State state, std::vector<int32_t>& ids) const;

  // The tokens made of characters of `loop` alone (the last one may be cut off), by how many they begin; and where the
  // others leave them.
  class Base {
   public:
    static constexpr int32_t kMaxChars = 16;
    struct Place {
      int32_t node;
      int32_t chars;  // before it
    };

    LoopBytes loop;
    std::vector<Place> exits;   // whose way up is of such characters and whose own byte begins none; ascending in chars
    std::vector<Place> begins;  // the same, but the byte begins one; of up to kMaxChars; ascending in chars
    int64_t words = 0;          // of a set of ids

    // The set of those of up to `chars` characters (kMaxChars at most; -1: of any number), by id. Thread-safe.
    std::shared_ptr<const std::vector<uint64_t>> Bits(int32_t chars) const;
    int64_t Count(int32_t chars) const;

   private:
    friend class TokenTrie;
    std::vector<int32_t> ids_;    // by characters, kMaxChars + 1 stands for more
    std::vector<int64_t> up_to_;  // of ids_, by characters
    mutable std::mutex mutex_;
    mutable std::vector<std::shared_ptr<const std::vector<uint64_t>>> bits_;
  };
  // Kept: machines ask for the same ones again and again. Thread-safe.
  std::shared_ptr<const Base> BaseOf(const LoopBytes& loop) const;
  // As Walk, of the tokens at or below a node, `state` being that above it.
  void WalkFrom(int32_t node, Machine& machine, Machine::State state, std::vector<int32_t>& ids) const {
    WalkBelow(node, skips_[static_cast<size_t>(node)], machine, state, ids);
  }

 private:
  void Build(const std::vector<std::pair<std::string_view, int32_t>>& sorted);
  void WalkBelow(int32_t begin, int32_t end, Machine& machine, Machine::State state, std::vector<int32_t>& ids) const;
  std::shared_ptr<const Base> MakeBase(const LoopBytes& loop) const;

  int64_t vocab_size_ = 0, longest_ = 0;
  // Of each node but the root: its byte, depth (1 below the root), the node behind all below it, its first token.
  std::vector<uint8_t> bytes_;
  std::vector<uint16_t> depths_;
  std::vector<int32_t> skips_, firsts_;  // firsts_ has one more
  std::vector<int32_t> ids_;             // of tokens, in the order of nodes
  std::vector<uint32_t> offsets_;        // (vocab_size + 1) into text_
  std::vector<uint8_t> text_;

  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Base>> bases_;
};

}  // namespace fathom::grammar
