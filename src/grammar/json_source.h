// A JSON schema as it is written, read into nodes: a node is a schema (true, false, keywords) or a value that `enum` or
// `const` names. References are resolved to nodes, schemas that are only a reference are the node referred to. What is
// not understood is refused by the keyword's name: what would change which instances are valid and cannot be taken.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar/json_budget.h"
#include "grammar/json_decimal.h"
#include "grammar/json_schema.h"
#include "grammar/json_tree.h"

namespace fathom::grammar {

using NodeId = int32_t;

enum class Keyword : uint8_t {
  kType,
  kEnum,
  kNumberBound,
  kMultipleOf,
  kLength,
  kPattern,
  kItems,
  kContains,
  kItemCount,
  kUniqueItems,
  kProperties,
  kRequired,
  kPropertyCount,
  kPropertyNames,
  kDependentRequired,
  kDependentSchemas,
  kAllOf,
  kAnyOf,
  kOneOf,
  kNot,
  kIf,
  kRef,
};

// The kinds of values; of a schema each is looked at by itself.
enum class ValueType : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
inline constexpr int kValueTypes = 6;

// One condition. What the fields mean hangs on the keyword:
//   kType            types: bits of ValueType, bit 6: integers only        kEnum     values (nodes)
//   kNumberBound     number, flag: exclusive, low: lower bound             kMultipleOf  number
//   kLength, kItemCount, kPropertyCount   count, low: at least             kPattern  name: the expression
//   kItems           nodes: of the first items; other (-1: any): of the rest
//   kContains        other, count..most (-1: any number)
//   kProperties      named, patterns; other (-1: any): of all others       kRequired names
//   kPropertyNames   other      kDependentRequired  lists      kDependentSchemas  named
//   kAllOf, kAnyOf, kOneOf  nodes     kNot, kRef  other     kIf  nodes: if, then, else (-1: none)
struct Condition {
  Keyword keyword;
  const char* name;  // as the schema calls it
  uint32_t types = 0;
  bool low = false, flag = false;
  int64_t count = 0, most = -1;
  NodeId other = -1;
  std::string text = {};
  Decimal number = {};
  std::vector<NodeId> nodes = {};
  std::vector<std::string> names = {};
  std::vector<std::pair<std::string, NodeId>> named = {}, patterns = {};
  std::vector<std::pair<std::string, std::vector<std::string>>> lists = {};
};
inline constexpr uint32_t kIntegersOnly = 1u << 6;

struct SchemaNode {
  enum class Kind : uint8_t { kTrue, kFalse, kSchema, kValue };
  Kind kind = Kind::kTrue;
  std::vector<Condition> conditions = {};  // of kSchema
  const JsonTree* value = nullptr;         // of kValue
};

class SchemaSource {
 public:
  static constexpr NodeId kTrueNode = 0, kFalseNode = 1;

  // Throws Error. Keeps a reference to `root`.
  SchemaSource(const JsonTree& root, JsonDraft draft);

  NodeId root() const { return root_; }
  const SchemaNode& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  NodeId ValueNode(const JsonTree& value);
  size_t size() const { return nodes_.size(); }

 private:
  struct Place {
    std::string base;  // URI of the resource that it stands in
    std::string path;  // JSON pointer, for errors
  };

  void FindResources(const JsonTree& schema, std::string base);
  NodeId NodeOf(const JsonTree& schema, const std::string& path);
  NodeId Resolve(const std::string& reference, const std::string& base, const std::string& path);
  void Fill(NodeId id, const JsonTree& schema, const std::string& path);
  void ReadKeyword(const std::string& name, const JsonTree& argument, const Place& place, SchemaNode& node);
  void ReadItems(const JsonTree& schema, const Place& place, SchemaNode& node);
  void ReadContains(const JsonTree& schema, const Place& place, SchemaNode& node);
  void ReadProperties(const JsonTree& schema, const Place& place, SchemaNode& node);
  void ReadDependencies(const std::string& name, const JsonTree& argument, const Place& place, SchemaNode& node);
  void ReadIf(const JsonTree& schema, const Place& place, SchemaNode& node);
  void ReadType(const JsonTree& argument, const Place& place, SchemaNode& node);
  void CheckLoops() const;

  JsonDraft draft_;
  NodeId root_ = 0;
  std::deque<SchemaNode> nodes_;
  std::unordered_map<const JsonTree*, NodeId> ids_;
  std::unordered_map<const JsonTree*, NodeId> value_ids_;
  std::unordered_map<const JsonTree*, std::string> bases_;         // of every subschema that was found
  std::unordered_map<std::string, const JsonTree*> resources_;     // by URI without fragment
  std::unordered_map<std::string, const JsonTree*> anchors_;       // by URI#name
  std::vector<std::pair<const JsonTree*, std::string>> unfilled_;  // nodes with an id, not yet read
};

}  // namespace fathom::grammar
