#include "grammar/char_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace fathom::grammar {
namespace {

using EdgeKind = Network::EdgeKind;

[[noreturn]] void TooMany(const char* what, int64_t most) {
  throw Error("the grammar is too ambiguous, or its counts are too large", fmt::format("more than {} {}", most, what),
              "", "fewer or smaller bounded repetitions, less ambiguity");
}

}  // namespace

CharMachine::CharMachine(Network network) : network_(std::move(network)), frames_(1) {
  for (const auto& edges : network_.nodes) {
    reads_.push_back(std::any_of(edges.begin(), edges.end(), [](const auto& e) { return e.kind == EdgeKind::kSet; }));
  }
  start_ = Close({{network_.rules.front().begin, 0}}, true);
}

int32_t CharMachine::Push(int32_t node, int32_t below) {
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(node)) << 32 | static_cast<uint32_t>(below);
  const uint64_t hash = HashWord(kHashSeed, key);
  const int32_t found = frame_ids_.Find(hash, [&](int32_t id) {
    const Frame& f = frames_[static_cast<size_t>(id)];
    return f.node == node && f.below == below;
  });
  if (found >= 0) return found;
  if (++places_ > kMaxPlaces) TooMany("places", kMaxPlaces);
  frame_ids_.Add(hash, static_cast<int32_t>(frames_.size()));
  frames_.push_back({node, below});
  return static_cast<int32_t>(frames_.size()) - 1;
}

CharMachine::State CharMachine::Close(const std::vector<Place>& places, bool at_begin) {
  struct Open {
    Place place;
    bool behind_text;  // a kEnd was passed: nothing more is read
  };
  std::vector<Open> open;
  std::vector<Place> reading;
  bool accepts = false;
  seen_.clear();
  const auto reach = [&](Place p, bool behind_text) {
    const uint64_t key =
        static_cast<uint64_t>(p.node) << 33 | static_cast<uint64_t>(p.stack) << 1 | static_cast<uint64_t>(behind_text);
    if (!seen_.insert(key).second) return;
    if (std::ssize(seen_) > kMaxPlacesOfState) TooMany("places of a state", kMaxPlacesOfState);
    open.push_back({p, behind_text});
  };
  for (const Place& p : places) reach(p, false);
  while (!open.empty()) {
    const auto [p, behind_text] = open.back();
    open.pop_back();
    const auto node = static_cast<size_t>(p.node);
    if (network_.is_end[node]) {
      if (p.stack == 0) {
        accepts = true;
      } else {
        const Frame& f = frames_[static_cast<size_t>(p.stack)];
        reach({f.node, f.below}, behind_text);
      }
      continue;
    }
    if (reads_[node] && !behind_text) reading.push_back(p);
    for (const Network::Edge& e : network_.nodes[node]) {
      switch (e.kind) {
        case EdgeKind::kSet:
          break;
        case EdgeKind::kFree:
          reach({e.to, p.stack}, behind_text);
          break;
        case EdgeKind::kBegin:
          if (at_begin) reach({e.to, p.stack}, behind_text);
          break;
        case EdgeKind::kEnd:
          reach({e.to, p.stack}, true);
          break;
        case EdgeKind::kCall: {
          // The last call of a rule returns where the rule does: stacks of right recursion do not grow.
          const bool last = network_.is_end[static_cast<size_t>(e.to)];
          const int32_t stack = last ? p.stack : Push(e.to, p.stack);
          reach({network_.rules[static_cast<size_t>(e.value)].begin, stack}, behind_text);
          break;
        }
      }
    }
  }
  work_ += std::ssize(seen_);
  if (reading.empty() && !accepts) return kDead;
  std::sort(reading.begin(), reading.end());
  return Intern(std::move(reading), accepts);
}

CharMachine::State CharMachine::Intern(std::vector<Place> places, bool accepts) {
  uint64_t hash = HashWord(kHashSeed, accepts ? 1 : 0);
  for (const Place& p : places) {
    hash = HashWord(hash, static_cast<uint64_t>(p.node) << 32 | static_cast<uint32_t>(p.stack));
  }
  const State found = config_ids_.Find(hash, [&](State s) {
    const Config& c = configs_[static_cast<size_t>(s)];
    return c.accepts == accepts && c.places == places;
  });
  if (found >= 0) return found;
  places_ += std::ssize(places);
  if (places_ > kMaxPlaces) TooMany("places", kMaxPlaces);
  if (std::ssize(configs_) >= kMaxStates) TooMany("states", kMaxStates);
  const auto state = static_cast<State>(configs_.size());
  config_ids_.Add(hash, state);
  Config& c = configs_.emplace_back();
  c.places = std::move(places);
  c.accepts = accepts;
  return state;
}

std::span<const CharMachine::Edge> CharMachine::Edges(State state) {
  Config& c = configs_[static_cast<size_t>(state)];
  if (!c.expanded) ExpandConfig(c);
  return c.edges;
}

CharMachine::State CharMachine::Next(State state, uint32_t character) {
  if (state == kDead) return kDead;
  const std::span<const Edge> edges = Edges(state);
  const auto at =
      std::lower_bound(edges.begin(), edges.end(), character, [](const Edge& e, uint32_t c) { return e.last < c; });
  return at != edges.end() && at->first <= character ? at->next : kDead;
}

// The characters are cut where a set begins or ends; each piece leads to what all sets with it lead to.
void CharMachine::ExpandConfig(Config& config) {
  struct Cut {
    uint32_t at;
    int32_t target;
    bool begins;
  };
  std::vector<Place> targets;
  std::vector<Cut> cuts;
  for (const Place& p : config.places) {
    for (const Network::Edge& e : network_.nodes[static_cast<size_t>(p.node)]) {
      if (e.kind != EdgeKind::kSet) continue;
      const auto target = static_cast<int32_t>(targets.size());
      targets.push_back({e.to, p.stack});
      for (const CharRange& r : network_.sets[static_cast<size_t>(e.value)]) {
        cuts.push_back({r.first, target, true});
        cuts.push_back({r.last + 1, target, false});
      }
    }
  }
  std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) { return a.at < b.at; });
  work_ += std::ssize(cuts);
  std::map<std::vector<int32_t>, State> next_of;
  std::vector<int32_t> active;  // ascending
  std::vector<Edge> edges;
  for (size_t i = 0; i < cuts.size();) {
    const uint32_t begin = cuts[i].at;
    for (; i < cuts.size() && cuts[i].at == begin; ++i) {
      const auto place = std::lower_bound(active.begin(), active.end(), cuts[i].target);
      if (cuts[i].begins) {
        active.insert(place, cuts[i].target);
      } else {
        active.erase(place);
      }
    }
    if (active.empty()) continue;
    const auto [at, fresh] = next_of.try_emplace(active, kDead);
    if (fresh) {
      std::vector<Place> places;
      for (int32_t t : active) places.push_back(targets[static_cast<size_t>(t)]);
      at->second = Close(places, false);
    }
    if (at->second == kDead) continue;
    const uint32_t last = cuts[i].at - 1;
    if (!edges.empty() && edges.back().next == at->second && edges.back().last + 1 == begin) {
      edges.back().last = last;
    } else {
      edges.push_back({begin, last, at->second});
    }
  }
  config.edges = std::move(edges);
  config.expanded = true;
}

Result<std::unique_ptr<CharMachine>> MakeCharMachine(const Rules& rules, const std::string& what) {
  Result<Network> network = MakeNetwork(rules);
  if (!network.ok()) {
    const Error& e = network.error();
    return Error(what + ": " + e.summary(), e.got(), e.expected(), e.hint());
  }
  try {
    return std::make_unique<CharMachine>(std::move(network).Value());
  } catch (const Error& e) {
    return e;
  }
}

}  // namespace fathom::grammar
