#include "grammar/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace fathom::grammar {
namespace {

using EdgeKind = Network::EdgeKind;

class NetworkBuilder {
 public:
  Network Build(const Rules& rules) {
    for (size_t i = 0; i < rules.rules.size(); ++i) {
      net_.rules.push_back({NewNode(), NewNode()});
      net_.is_end[static_cast<size_t>(net_.rules.back().end)] = true;
    }
    for (size_t i = 0; i < rules.rules.size(); ++i) {
      Lay(rules.rules[i].body, net_.rules[i].begin, net_.rules[i].end);
    }
    return std::move(net_);
  }

 private:
  [[noreturn]] static void TooLarge(const char* what, int64_t most) {
    throw Error("too large when its repetitions are written out", fmt::format("more than {} {}", most, what), "",
                "smaller counts, or * and + for those that need no bound");
  }
  int32_t NewNode() {
    if (std::ssize(net_.nodes) >= Network::kMaxNodes) TooLarge("places", Network::kMaxNodes);
    net_.nodes.emplace_back();
    net_.is_end.push_back(false);
    return static_cast<int32_t>(net_.nodes.size()) - 1;
  }
  void AddEdge(int32_t from, EdgeKind kind, int32_t value, int32_t to) {
    if (++edges_ > Network::kMaxEdges) TooLarge("edges", Network::kMaxEdges);
    net_.nodes[static_cast<size_t>(from)].push_back({kind, value, to});
  }
  int32_t SetOf(const Node& node) {
    const auto [at, fresh] = sets_.try_emplace(&node, static_cast<int32_t>(net_.sets.size()));
    if (fresh) {
      ranges_ += std::ssize(node.set);
      if (ranges_ > Network::kMaxRanges) TooLarge("ranges of characters", Network::kMaxRanges);
      net_.sets.push_back(node.set);
    }
    return at->second;
  }

  // The texts of `node` as ways from `from` to `to`. Adds edges that leave `from` and that enter `to`, no others of
  // them.
  void Lay(const Node& node, int32_t from, int32_t to) {
    switch (node.kind) {
      case Node::Kind::kEmpty:
        return AddEdge(from, EdgeKind::kFree, 0, to);
      case Node::Kind::kBegin:
        return AddEdge(from, EdgeKind::kBegin, 0, to);
      case Node::Kind::kEnd:
        return AddEdge(from, EdgeKind::kEnd, 0, to);
      case Node::Kind::kSet:
        if (!node.set.empty()) AddEdge(from, EdgeKind::kSet, SetOf(node), to);
        return;
      case Node::Kind::kRule:
        return AddEdge(from, EdgeKind::kCall, node.rule, to);
      case Node::Kind::kChoice:
        for (const Node& child : node.children) Lay(child, from, to);
        return;
      case Node::Kind::kSequence:
        for (size_t i = 0; i < node.children.size(); ++i) {
          const int32_t next = i + 1 < node.children.size() ? NewNode() : to;
          Lay(node.children[i], from, next);
          from = next;
        }
        return;
      case Node::Kind::kRepeat:
        return LayRepeat(node, from, to);
    }
  }

  void LayRepeat(const Node& node, int32_t from, int32_t to) {
    const Node& child = node.children.front();
    if (node.most == Node::kUnbounded) {
      for (int64_t i = 1; i < node.least; ++i) from = LayOn(child, from);
      const int32_t loop = NewNode(), end = node.least > 0 ? NewNode() : loop;
      AddEdge(from, EdgeKind::kFree, 0, loop);
      Lay(child, loop, end);
      if (end != loop) AddEdge(end, EdgeKind::kFree, 0, loop);
      return AddEdge(end, EdgeKind::kFree, 0, to);
    }
    for (int64_t i = 0; i < node.least && i + 1 < node.most; ++i) from = LayOn(child, from);
    for (int64_t i = node.least; i + 1 < node.most; ++i) {
      AddEdge(from, EdgeKind::kFree, 0, to);
      from = LayOn(child, from);
    }
    if (node.least < node.most || node.most == 0) AddEdge(from, EdgeKind::kFree, 0, to);
    if (node.most > 0) Lay(child, from, to);
  }
  int32_t LayOn(const Node& child, int32_t from) {
    const int32_t next = NewNode();
    Lay(child, from, next);
    return next;
  }

  Network net_;
  std::unordered_map<const Node*, int32_t> sets_;
  int64_t edges_ = 0, ranges_ = 0;
};

// Drops edges to where no end of the rule can be reached from: nothing is read behind a kEnd, nor before a kBegin.
class Pruner {
 public:
  explicit Pruner(Network& net) : net_(net), into_(net.nodes.size()), calls_(net.rules.size()) {
    for (size_t n = 0; n < net.nodes.size(); ++n) {
      for (const Network::Edge& e : net.nodes[n]) {
        into_[static_cast<size_t>(e.to)].push_back({static_cast<int32_t>(n), e});
        if (e.kind == EdgeKind::kCall) calls_[static_cast<size_t>(e.value)].push_back({static_cast<int32_t>(n), e});
      }
    }
    rule_of_begin_.assign(net.nodes.size(), -1);
    for (size_t r = 0; r < net.rules.size(); ++r) {
      rule_of_begin_[static_cast<size_t>(net.rules[r].begin)] = static_cast<int32_t>(r);
    }
  }

  void Run() {
    std::vector<bool> at_end(net_.nodes.size(), false), start_end = at_end, live = at_end, start_live = at_end;
    for (const Network::Rule& r : net_.rules) {
      Spread(at_end, r.end, {.end = true});
      Spread(start_end, r.end, {.begin = true, .end = true});
    }
    for (size_t n = 0; n < at_end.size(); ++n) {
      if (at_end[n]) Spread(live, static_cast<int32_t>(n), {.reading = true});
    }
    for (size_t n = 0; n < at_end.size(); ++n) {
      if (live[n] || start_end[n]) Spread(start_live, static_cast<int32_t>(n), {.begin = true});
    }
    for (auto& edges : net_.nodes) {
      std::erase_if(edges, [&](const Network::Edge& e) {
        const auto to = static_cast<size_t>(e.to);
        switch (e.kind) {
          case EdgeKind::kFree:
          case EdgeKind::kBegin:
            return !start_live[to];
          case EdgeKind::kEnd:
            return !start_end[to];
          case EdgeKind::kSet:
            return !live[to];
          case EdgeKind::kCall:
            return !live[to] || !live[static_cast<size_t>(Begin(e.value))];
        }
        return true;
      });
    }
  }

 private:
  using Entry = std::pair<int32_t, Network::Edge>;  // where it comes from
  int32_t Begin(int32_t rule) const { return net_.rules[static_cast<size_t>(rule)].begin; }

  struct Passing {  // besides free edges
    bool begin = false, end = false, reading = false;
  };
  // Marks all from which marked nodes or `start` can be reached.
  void Spread(std::vector<bool>& marked, int32_t start, Passing passing) {
    std::vector<int32_t> open;
    const auto mark = [&](int32_t n) {
      if (marked[static_cast<size_t>(n)]) return;
      marked[static_cast<size_t>(n)] = true;
      open.push_back(n);
    };
    const auto passes = [&](const Network::Edge& e) {
      switch (e.kind) {
        case EdgeKind::kFree:
          return true;
        case EdgeKind::kBegin:
          return passing.begin;
        case EdgeKind::kEnd:
          return passing.end;
        case EdgeKind::kSet:
          return passing.reading;
        case EdgeKind::kCall:
          return passing.reading && marked[static_cast<size_t>(e.to)] && marked[static_cast<size_t>(Begin(e.value))];
      }
      return false;
    };
    mark(start);
    while (!open.empty()) {
      const int32_t n = open.back();
      open.pop_back();
      for (const auto& [from, edge] : into_[static_cast<size_t>(n)]) {
        if (passes(edge)) mark(from);
      }
      const int32_t rule = rule_of_begin_[static_cast<size_t>(n)];
      if (rule < 0) continue;
      for (const auto& [from, edge] : calls_[static_cast<size_t>(rule)]) {
        if (passes(edge)) mark(from);
      }
    }
  }

  Network& net_;
  std::vector<std::vector<Entry>> into_, calls_;
  std::vector<int32_t> rule_of_begin_;
};

}  // namespace

Result<Network> MakeNetwork(const Rules& rules) {
  try {
    Network net = NetworkBuilder().Build(rules);
    Pruner(net).Run();
    return net;
  } catch (const Error& e) {
    return e;
  }
}

}  // namespace fathom::grammar
