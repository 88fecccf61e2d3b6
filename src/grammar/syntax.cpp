#include "grammar/syntax.h"

#include "core/utf8.h"

namespace fathom::grammar {

Node Node::Sequence(std::vector<Node> children) {
  if (children.empty()) return {};
  if (children.size() == 1) return std::move(children.front());
  return {.kind = Kind::kSequence, .children = std::move(children)};
}

Node Node::Choice(std::vector<Node> children) {
  if (children.empty()) return Set({});
  if (children.size() == 1) return std::move(children.front());
  return {.kind = Kind::kChoice, .children = std::move(children)};
}

Node Node::Repeat(Node child, int64_t least, int64_t most) {
  Node node{.kind = Kind::kRepeat, .least = least, .most = most};
  node.children.push_back(std::move(child));
  return node;
}

Node Node::Literal(std::string_view utf8) {
  std::vector<Node> children;
  for (size_t i = 0; i < utf8.size();) {
    const CodePoint c = DecodeUtf8(utf8.data() + i);
    children.push_back(Set({{c.value, c.value}}));
    i += static_cast<size_t>(c.length);
  }
  return Sequence(std::move(children));
}

}  // namespace fathom::grammar
