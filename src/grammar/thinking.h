// An answer that thinks first: any bytes up to "</think>", up to two line ends, then what a grammar allows. Where the
// model opens "<think>" itself it may do so, behind white space, or begin with the grammar at once.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "grammar/machine.h"

namespace fathom::grammar {

enum class Thinking : uint8_t {
  kNone,     // the grammar begins with the answer
  kOpen,     // the prompt has opened <think>
  kMayOpen,  // the answer may open it
};

class ThinkingMachine final : public Machine {
 public:
  ThinkingMachine(std::unique_ptr<Machine> answer, Thinking thinking);

  State Start() override { return start_; }
  State Next(State state, uint8_t byte) override;
  bool Accepts(State state) const override;
  Loop LoopOf(State state) override;
  std::vector<LoopBytes> LikelyLoops(size_t most) override;

 private:
  // What comes before the grammar, by characters of the tags met so far; kOver: nothing any more.
  using Part = int32_t;
  Part NextPart(Part part, uint8_t byte) const;
  // Both ways at once: the part before the grammar goes on, or the grammar has begun.
  State Of(Part part, State answer);

  struct Pair {
    Part part;
    State answer;
  };
  std::unique_ptr<Machine> answer_;
  std::vector<Pair> states_;
  std::unordered_map<uint64_t, State> ids_;
  State start_;
};

// `answer` itself where nothing comes before it.
std::unique_ptr<Machine> AfterThinking(std::unique_ptr<Machine> answer, Thinking thinking);

}  // namespace fathom::grammar
