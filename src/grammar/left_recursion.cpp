#include "grammar/left_recursion.h"

#include <algorithm>
#include <vector>

namespace fathom::grammar {
namespace {

using NodeKind = Node::Kind;

// The alternatives of a body, groups of alternatives opened.
void Flatten(Node body, std::vector<Node>& out) {
  if (body.kind != NodeKind::kChoice) {
    out.push_back(std::move(body));
    return;
  }
  for (Node& child : body.children) Flatten(std::move(child), out);
}

// Elements that match nothing but the empty text are no elements; sequences within sequences are opened.
std::vector<Node> ElementsOf(Node node) {
  std::vector<Node> out;
  if (node.kind == NodeKind::kEmpty) return out;
  if (node.kind != NodeKind::kSequence) {
    out.push_back(std::move(node));
    return out;
  }
  for (Node& child : node.children) {
    for (Node& e : ElementsOf(std::move(child))) out.push_back(std::move(e));
  }
  return out;
}

class LeftCalls {
 public:
  explicit LeftCalls(const Rules& rules) : nullable_(rules.rules.size(), false) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t r = 0; r < nullable_.size(); ++r) {
        if (nullable_[r] || !MayBeEmpty(rules.rules[r].body)) continue;
        nullable_[r] = changed = true;
      }
    }
    for (const Rules::Rule& rule : rules.rules) {
      std::vector<int32_t>& calls = calls_.emplace_back();
      Collect(rule.body, calls);
      std::sort(calls.begin(), calls.end());
      calls.erase(std::unique(calls.begin(), calls.end()), calls.end());
    }
  }

  // A cycle: its first rule again at the end.
  std::vector<int32_t> Cycle() const {
    enum class Mark : uint8_t { kNew, kOpen, kDone };
    std::vector<Mark> marks(calls_.size(), Mark::kNew);
    for (size_t start = 0; start < calls_.size(); ++start) {
      if (marks[start] != Mark::kNew) continue;
      struct Visit {
        int32_t rule;
        size_t next;
      };
      std::vector<Visit> path{{static_cast<int32_t>(start), 0}};
      marks[start] = Mark::kOpen;
      while (!path.empty()) {
        Visit& top = path.back();
        const std::vector<int32_t>& calls = calls_[static_cast<size_t>(top.rule)];
        if (top.next == calls.size()) {
          marks[static_cast<size_t>(top.rule)] = Mark::kDone;
          path.pop_back();
          continue;
        }
        const int32_t to = calls[top.next++];
        Mark& mark = marks[static_cast<size_t>(to)];
        if (mark == Mark::kOpen) {
          std::vector<int32_t> cycle;
          const auto at = std::find_if(path.begin(), path.end(), [&](const Visit& v) { return v.rule == to; });
          for (auto it = at; it != path.end(); ++it) cycle.push_back(it->rule);
          cycle.push_back(to);
          return cycle;
        }
        if (mark == Mark::kNew) {
          mark = Mark::kOpen;
          path.push_back({to, 0});
        }
      }
    }
    return {};
  }

 private:
  bool MayBeEmpty(const Node& node) const {
    const auto child = [&](const Node& c) { return MayBeEmpty(c); };
    switch (node.kind) {
      case NodeKind::kSet:
        return false;
      case NodeKind::kRule:
        return nullable_[static_cast<size_t>(node.rule)];
      case NodeKind::kSequence:
        return std::all_of(node.children.begin(), node.children.end(), child);
      case NodeKind::kChoice:
        return std::any_of(node.children.begin(), node.children.end(), child);
      case NodeKind::kRepeat:
        return node.least == 0 || child(node.children.front());
      default:
        return true;
    }
  }
  // Rules that a text of `node` may begin with.
  void Collect(const Node& node, std::vector<int32_t>& calls) const {
    if (node.kind == NodeKind::kRule) calls.push_back(node.rule);
    if (node.kind == NodeKind::kRepeat && node.most == 0) return;
    for (const Node& child : node.children) {
      Collect(child, calls);
      if (node.kind == NodeKind::kSequence && !MayBeEmpty(child)) return;
    }
  }

  std::vector<bool> nullable_;
  std::vector<std::vector<int32_t>> calls_;
};

}  // namespace

void RewriteLeftRecursion(Rules& rules) {
  for (size_t r = 0; r < rules.rules.size(); ++r) {
    Node& body = rules.rules[r].body;
    std::vector<Node> alternatives, begins, tails;
    Flatten(body, alternatives);  // a copy: most rules stay as they are
    for (Node& a : alternatives) {
      std::vector<Node> elements = ElementsOf(std::move(a));
      if (elements.empty() || elements.front().kind != NodeKind::kRule ||
          elements.front().rule != static_cast<int32_t>(r)) {
        begins.push_back(Node::Sequence(std::move(elements)));
        continue;
      }
      elements.erase(elements.begin());
      if (!elements.empty()) tails.push_back(Node::Sequence(std::move(elements)));  // a ::= a says nothing
    }
    std::vector<Node> parts;
    parts.push_back(Node::Choice(std::move(begins)));
    if (!tails.empty()) parts.push_back(Node::Repeat(Node::Choice(std::move(tails)), 0, Node::kUnbounded));
    body = Node::Sequence(std::move(parts));
  }
}

std::optional<std::string> FindLeftRecursion(const Rules& rules) {
  const std::vector<int32_t> cycle = LeftCalls(rules).Cycle();
  if (cycle.empty()) return std::nullopt;
  std::string text;
  for (int32_t r : cycle) text += (text.empty() ? "" : " -> ") + rules.rules[static_cast<size_t>(r)].name;
  return text;
}

}  // namespace fathom::grammar
