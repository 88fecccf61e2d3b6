#include "server/tool_grammar.h"

#include <fmt/format.h>

#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar/json_schema.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

using grammar::Machine;

// A graph of nodes that are left by single bytes, but for those of arguments, which are left through a schema's
// machine: where it accepts, the node's own edges go on (the marks behind arguments begin with no byte that continues
// JSON that is complete). A state is a node and, of arguments, a state of their machine.
class ToolMachine final : public Machine {
 public:
  using Node = int32_t;

  Node NewNode() {
    nodes_.emplace_back();
    return static_cast<Node>(nodes_.size()) - 1;
  }
  // Follows and makes edges from `node` along all of `text` but its last byte, which leads to `to`.
  void Add(Node node, std::string_view text, Node to) {
    for (size_t i = 0; i + 1 < text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      Node next = Edge(node, byte);
      if (next < 0) {
        next = NewNode();
        nodes_[static_cast<size_t>(node)].edges.emplace_back(byte, next);
      }
      node = next;
    }
    nodes_[static_cast<size_t>(node)].edges.emplace_back(static_cast<uint8_t>(text.back()), to);
  }
  // Nodes for any text up to the first `mark`, whose end leads to `to`. The text may be all there is.
  Node AddText(std::string_view mark, Node to) {
    std::vector<size_t> back(mark.size() + 1, 0);  // the longest end of mark[0..i) that begins it, too
    for (size_t i = 1; i < mark.size(); ++i) {
      size_t k = back[i];
      while (k > 0 && mark[i] != mark[k]) k = back[k];
      back[i + 1] = mark[i] == mark[k] ? k + 1 : 0;
    }
    const Node first = static_cast<Node>(nodes_.size());
    for (size_t i = 0; i < mark.size(); ++i) {
      const Node node = NewNode();
      nodes_.back().accepts = true;
      nodes_.back().otherwise = first;
      for (size_t k = i;; k = back[k]) {
        const auto byte = static_cast<uint8_t>(mark[k]);
        const Node next = k + 1 == mark.size() ? to : first + static_cast<Node>(k) + 1;
        if (Edge(node, byte) < 0) nodes_[static_cast<size_t>(node)].edges.emplace_back(byte, next);
        if (k == 0) break;
      }
    }
    return first;
  }
  Node AddArguments(std::unique_ptr<Machine> machine) {
    const Node node = NewNode();
    nodes_.back().arguments = std::move(machine);
    return node;
  }
  void SetAccepts(Node node) { nodes_[static_cast<size_t>(node)].accepts = true; }
  void SetStart(Node node) { start_ = Enter(node); }

  State Start() override { return start_; }

  State Next(State state, uint8_t byte) override {
    if (state == kDead) return kDead;
    const Place from = places_[static_cast<size_t>(state)];
    const NodeData& node = nodes_[static_cast<size_t>(from.node)];
    if (node.arguments) {
      const State inner = node.arguments->Next(from.inner, byte);
      if (inner != kDead) return Of({from.node, inner});
      if (!node.arguments->Accepts(from.inner)) return kDead;
    }
    const Node next = Edge(from.node, byte);
    if (next >= 0) return Enter(next);
    return node.otherwise >= 0 ? Enter(node.otherwise) : kDead;
  }

  bool Accepts(State state) const override {
    return state != kDead && nodes_[static_cast<size_t>(places_[static_cast<size_t>(state)].node)].accepts;
  }

 private:
  struct NodeData {
    std::vector<std::pair<uint8_t, Node>> edges;
    Node otherwise = -1;
    bool accepts = false;
    std::unique_ptr<Machine> arguments;
  };
  struct Place {
    Node node;
    State inner;
  };

  Node Edge(Node node, uint8_t byte) const {
    for (const auto& [b, next] : nodes_[static_cast<size_t>(node)].edges) {
      if (b == byte) return next;
    }
    return -1;
  }
  State Enter(Node node) {
    const auto& arguments = nodes_[static_cast<size_t>(node)].arguments;
    return Of({node, arguments ? arguments->Start() : 0});
  }
  State Of(Place place) {
    const uint64_t key = static_cast<uint64_t>(place.node) << 32 | static_cast<uint32_t>(place.inner);
    const auto [at, fresh] = ids_.try_emplace(key, static_cast<State>(places_.size()));
    if (fresh) places_.push_back(place);
    return at->second;
  }

  std::vector<NodeData> nodes_;
  std::vector<Place> places_;
  std::unordered_map<uint64_t, State> ids_;
  State start_ = kDead;
};

std::unique_ptr<Machine> ArgumentsMachine(const Tool& tool, const std::string& field) {
  if (!tool.strict || tool.parameters.is_null()) return grammar::JsonObjectGrammar()->MakeMachine();
  auto compiled = grammar::CompileJsonSchema(tool.parameters.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (!compiled) {
    const Error& e = compiled.error();
    throw BadField(field, fmt::format("{}: {}{}{}", field, e.summary(), e.got().empty() ? "" : ": ", e.got()),
                   "unsupported_schema");
  }
  std::unique_ptr<Machine> machine = compiled.Value()->MakeMachine();
  if (machine->Start() == Machine::kDead || machine->Next(machine->Start(), '{') == Machine::kDead)
    throw BadField(field, fmt::format("{} allows no JSON object", field), "unsupported_schema");
  return machine;
}

}  // namespace

std::unique_ptr<Machine> MakeToolMachine(const ToolRequest& tools, tokenizer::ToolFormat format,
                                         const std::string& name) {
  const tokenizer::CallMarks& marks = tokenizer::MarksOf(format);
  auto machine = std::make_unique<ToolMachine>();
  const ToolMachine::Node names = machine->NewNode(), behind = machine->NewNode(), end = machine->NewNode();
  machine->SetAccepts(end);
  for (size_t i = 0; i < tools.tools.size(); ++i) {
    const Tool& tool = tools.tools[i];
    if (tools.choice == ToolChoice::kNamed && tool.name != tools.named) continue;
    const ToolMachine::Node arguments =
        machine->AddArguments(ArgumentsMachine(tool, fmt::format("{}[{}].function.parameters", name, i)));
    machine->Add(names, tool.name + std::string(marks.before_arguments), arguments);
    machine->Add(arguments, marks.after_arguments, behind);
  }
  machine->Add(behind, marks.calls_end, end);
  if (tools.parallel) machine->Add(behind, std::string(marks.between_calls) + std::string(marks.before_name), names);
  const ToolMachine::Node list = machine->NewNode();
  machine->Add(list, marks.before_name, names);
  if (tools.choice == ToolChoice::kAuto) {
    machine->SetStart(machine->AddText(marks.calls_begin, list));
  } else {
    const ToolMachine::Node first = machine->NewNode();
    machine->Add(first, marks.calls_begin, list);
    machine->SetStart(first);
  }
  return machine;
}

}  // namespace fathom::server
