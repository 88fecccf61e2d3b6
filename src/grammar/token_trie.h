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

// A set of bytes, as 256 bits; what leads a state back to itself.
struct LoopBytes {
  uint64_t bits[4] = {};
  bool utf8 = false;  // and whole characters of more bytes (then bits has no byte above 127)

  bool Has(uint8_t byte) const { return bits[byte >> 6] >> (byte & 63) & 1; }
  void Add(uint8_t byte) { bits[byte >> 6] |= uint64_t{1} << (byte & 63); }
  int64_t count() const;
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

  // The tokens made of bytes of `loop` alone (the last character may be cut off), and where the others leave them:
  // nodes whose way up is of these bytes and whose own byte is not.
  struct Base {
    LoopBytes loop;
    std::vector<uint64_t> bits;  // by id
    int64_t count = 0;
    std::vector<int32_t> exits;
  };
  // Kept: the same machine states ask for it again and again. Thread-safe.
  std::shared_ptr<const Base> BaseOf(const LoopBytes& loop) const;
  // As Walk, of the tokens below the exits only.
  void WalkExits(const Base& base, Machine& machine, Machine::State state, std::vector<int32_t>& ids) const;

 private:
  void Build(const std::vector<std::pair<std::string_view, int32_t>>& sorted);
  void WalkBelow(int32_t begin, int32_t end, Machine& machine, Machine::State state, std::vector<int32_t>& ids,
                 std::vector<Machine::State>& states) const;
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
