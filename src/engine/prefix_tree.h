// Which blocks of the pool hold which tokens: a radix tree over whole blocks, so that a prompt that begins as another
// did is not computed again. A node is a block, its path from the root the tokens before it. Nodes in use by sequences
// stay; of the others the least recently used leaf goes first when blocks are wanted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace fathom::engine {

// Costs: a block looked up or put a hash of its tokens and their comparison; Match and Evict the logarithm of the
// leaves besides. Nodes' numbers are used again after their eviction.
class PrefixTree {
 public:
  using Node = int32_t;
  static constexpr Node kRoot = -1;  // parent of the first blocks

  explicit PrefixTree(int64_t block_tokens);
  ~PrefixTree();

  // The longest run of whole blocks with which `tokens` begins, first block first. Marks them as used now.
  std::vector<Node> Match(uint64_t scope, std::span<const int32_t> tokens);
  int32_t Block(Node node) const;
  bool drafts(Node node) const;  // the MTP modules' rows are there too
  int64_t users(Node node) const;

  // A sequence uses a node: those before it must be in use by the same sequence. It lets go of the last first; a node
  // that is let go was used just now.
  void Acquire(Node node);
  void Release(Node node);

  // Puts a block under `parent`, in use by the caller. If there is a node with these tokens already, nothing is put,
  // and the answer is {that node, acquired; false}: the caller may give its own block back and use that node's.
  struct Inserted {
    Node node;
    bool fresh;
  };
  Inserted Insert(uint64_t scope, Node parent, std::span<const int32_t> block_tokens, int32_t block, bool drafts);

  // Puts a block with the MTP modules' rows in the place of a node's block; that one. The caller is its only user.
  int32_t Replace(Node node, int32_t block);

  // How many of a path's nodes have more users than one: the first ones, since users never grow along a path.
  int64_t Shared(std::span<const Node> path) const;

  // Removes the least recently used node that nobody uses and that has none behind it; its block.
  std::optional<int32_t> Evict();

  int64_t size() const;       // nodes
  int64_t evictable() const;  // nodes that nobody uses: all of them can be evicted, one after the other

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::engine
