// One answer as a sequence of blocks: what is thought, what is said, the calls of tools. The form of Anthropic's
// messages (content blocks) and of OpenAI's responses (items); they differ in the events and the names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/reply.h"

namespace fathom::server {

class BlockReply : public Reply {
 public:
  using Reply::Reply;

 protected:
  enum class Kind { kReasoning, kText, kCall };
  struct Block {
    Kind kind;
    std::string text;                     // all of it; of a call its arguments
    std::vector<ShownToken> tokens = {};  // where log-probabilities are wanted
    std::string id = {}, name = {};       // of a call
  };

  // The events of a stream's block: its begin, more of its text (which it has already), its end. `index` is its place.
  virtual void Open(std::string& out, size_t index, const Block& block) = 0;
  virtual void Add(std::string& out, size_t index, const Block& block, std::string_view text,
                   std::span<const ShownToken> tokens) = 0;
  virtual void Close(std::string& out, size_t index, const Block& block) = 0;

  // Of the answer so far; of a whole one once it is complete. There is at least one: of an answer without a word, a
  // text that is empty.
  std::vector<Block> Blocks() const;
  const State& state() const { return *states().front(); }
  // Closes what is open: before the last events.
  void CloseLast(std::string& out);

 private:
  void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                    std::string_view finish_reason) override;
  void Begin(std::string& out, Block block);
  void Put(std::string& out, Kind kind, std::string_view text, std::span<const ShownToken> tokens);

  std::vector<Block> blocks_;  // of a stream; the last one is open
  bool closed_ = false;
};

}  // namespace fathom::server
