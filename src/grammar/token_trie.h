// The byte strings of a vocabulary as a trie in the order of a depth-first walk, built once per tokenizer. Special
// tokens are not in it: no text is written with them.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grammar/machine.h"
#include "tokenizer/tokenizer.h"

namespace fathom::grammar {

class TokenTrie {
 public:
  using Bits = std::vector<uint64_t>;  // a set of ids
  static constexpr int32_t kRoot = -1;

  // `vocab_size`: of the model; ids from there on are left out.
  TokenTrie(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size);
  // ids are places in `tokens`; an empty one is none.
  explicit TokenTrie(const std::vector<std::string>& tokens);

  int64_t vocab_size() const { return vocab_size_; }
  int64_t longest() const { return longest_; }  // bytes
  int64_t nodes() const { return std::ssize(bytes_); }
  int64_t words() const { return (vocab_size_ + 63) / 64; }  // of Bits
  // Empty: no such token, or a special one.
  std::span<const uint8_t> BytesOf(int32_t id) const;

  // Of a node: below it are those up to End.
  uint8_t Byte(int32_t node) const { return bytes_[static_cast<size_t>(node)]; }
  int32_t Depth(int32_t node) const { return node == kRoot ? 0 : depths_[static_cast<size_t>(node)]; }
  int32_t End(int32_t node) const {
    return node == kRoot ? static_cast<int32_t>(nodes()) : skips_[static_cast<size_t>(node)];
  }
  std::span<const int32_t> TokensOf(int32_t node) const { return TokensOf(node, node + 1); }
  std::span<const int32_t> TokensOf(int32_t begin, int32_t end) const {  // of nodes begin .. end - 1
    const auto first = static_cast<size_t>(firsts_[static_cast<size_t>(begin)]);
    return std::span(ids_).subspan(first, static_cast<size_t>(firsts_[static_cast<size_t>(end)]) - first);
  }
  // That of a space, where much is below it.
  std::optional<int32_t> blank() const { return blank_; }
  // So many nodes are below it that a base for it pays.
  bool IsLarge(int32_t node) const {
    return node == kRoot || End(node) - node > std::max<int64_t>(kLeastLarge, nodes() / kLargeParts);
  }

  // Below a node, the tokens made of characters of `loop` alone (the last one may be cut off), by how many they begin;
  // and where the others leave them.
  class Base {
   public:
    static constexpr int32_t kMaxChars = 16;
    static constexpr int32_t kAnyChars = kMaxChars + 1;  // up to so many: any number
    // Nodes by the number of characters before them and their byte.
    class Places {
     public:
      struct Group {
        uint8_t byte;
        int32_t begin, end;  // of nodes()
      };
      std::span<const Group> Groups(int32_t chars) const {
        const auto c = static_cast<size_t>(chars);
        return std::span(groups_).subspan(firsts_[c], firsts_[c + 1] - firsts_[c]);
      }
      int32_t Node(int32_t place) const { return nodes_[static_cast<size_t>(place)]; }

     private:
      friend class TokenTrie;
      void Add(int32_t chars, uint8_t byte, int32_t node) { found_.push_back({chars * 256 + byte, node}); }
      void Finish();
      std::vector<std::pair<int32_t, int32_t>> found_;
      std::vector<int32_t> nodes_;
      std::vector<Group> groups_;
      std::array<size_t, kAnyChars + 2> firsts_ = {};
    };

    int32_t root;
    LoopBytes loop;
    Places exits;   // whose way up is of such characters and whose own byte begins none
    Places begins;  // the same, but the byte begins one; behind up to kMaxChars

    // The set of those of up to `chars` characters.
    const std::shared_ptr<const Bits>& Tokens(int32_t chars) const { return bits_[static_cast<size_t>(chars)]; }
    int64_t Count(int32_t chars) const { return counts_[static_cast<size_t>(chars)]; }

   private:
    friend class TokenTrie;
    std::array<std::shared_ptr<const Bits>, kAnyChars + 1> bits_;
    std::array<int64_t, kAnyChars + 1> counts_ = {};
  };
  // Kept: machines ask for the same ones again and again. Thread-safe.
  static constexpr size_t kMaxBases = 32;  // about 1 MiB each at 128 K tokens
  std::shared_ptr<const Base> BaseOf(int32_t root, const LoopBytes& loop) const;

 private:
  static constexpr int64_t kLeastLarge = 16, kLargeParts = 32;

  void Build(const std::vector<std::pair<std::string_view, int32_t>>& tokens);
  std::shared_ptr<const Base> MakeBase(int32_t root, const LoopBytes& loop) const;

  int64_t vocab_size_ = 0, longest_ = 0;
  // Of each node but the root: its byte, depth (1 below the root), the node behind all below it, its first token.
  std::vector<uint8_t> bytes_;
  std::vector<uint16_t> depths_;
  std::vector<int32_t> skips_, firsts_;  // firsts_ has one more
  std::vector<int32_t> ids_;             // of tokens, in the order of nodes
  std::vector<uint32_t> offsets_;        // (vocab_size + 1) into text_
  std::vector<uint8_t> text_;
  std::optional<int32_t> blank_;

  mutable std::mutex mutex_;
  mutable std::list<std::shared_ptr<const Base>> bases_;  // the latest first
};

}  // namespace fathom::grammar
