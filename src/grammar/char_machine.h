// A set of texts as a machine over characters, built from a Network as far as it is asked for. A state is a set of
// places in the network, each with the rules to return to (interned stacks); states are numbered as they are first
// reached. Every state has a way to the end, as of Machine.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "grammar/hash.h"
#include "grammar/network.h"

namespace fathom::grammar {

class CharMachine {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;
  // The characters first..last lead to `next`.
  struct Edge {
    uint32_t first, last;
    State next;
  };
  // What one machine may hold; what needs more throws Error (out of the constructor, Edges and Next).
  static constexpr int64_t kMaxStates = 1 << 19, kMaxPlaces = 1 << 21, kMaxPlacesOfState = 1 << 14;

  explicit CharMachine(Network network);

  State Start() const { return start_; }  // kDead: there is no text
  // Ascending, disjoint, none of the same `next` touch; any other character leads to kDead. Stays where it is.
  std::span<const Edge> Edges(State state);
  State Next(State state, uint32_t character);
  bool Accepts(State state) const { return state != kDead && configs_[static_cast<size_t>(state)].accepts; }
  int64_t states() const { return static_cast<int64_t>(configs_.size()); }
  int64_t work() const { return work_; }  // places and ranges looked at so far

 private:
  struct Place {
    int32_t node, stack;
    auto operator<=>(const Place&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 sees a 0 in it
  };
  struct Config {
    std::vector<Place> places;  // ascending; of nodes with edges that read a character
    bool accepts = false, expanded = false;
    std::vector<Edge> edges;
  };
  struct Frame {
    int32_t node, below;
  };

  int32_t Push(int32_t node, int32_t below);
  // The state of what is reached from `places` without reading; kDead of nothing.
  State Close(const std::vector<Place>& places, bool at_begin);
  State Intern(std::vector<Place> places, bool accepts);
  void ExpandConfig(Config& config);

  Network network_;
  std::vector<bool> reads_;    // of each node: it has an edge that reads a character
  std::vector<Frame> frames_;  // of stacks; 0: empty
  IdTable frame_ids_;
  std::deque<Config> configs_;
  IdTable config_ids_;
  std::unordered_set<uint64_t> seen_;  // of a Close
  int64_t places_ = 0, work_ = 0;
  State start_ = kDead;
};

// Of rules without left recursion; an Error of `what` (a kind of grammar).
Result<std::unique_ptr<CharMachine>> MakeCharMachine(const Rules& rules, const std::string& what);

}  // namespace fathom::grammar
