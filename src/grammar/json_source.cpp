#include "grammar/json_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "grammar/json_uri.h"

namespace fathom::grammar {
namespace {

using Kind = JsonTree::Kind;

constexpr std::array kOneSchema = {"additionalItems",
                                   "additionalProperties",
                                   "contains",
                                   "contentSchema",
                                   "else",
                                   "if",
                                   "items",
                                   "not",
                                   "propertyNames",
                                   "then",
                                   "unevaluatedItems",
                                   "unevaluatedProperties"};
constexpr std::array kSchemaLists = {"allOf", "anyOf", "items", "oneOf", "prefixItems"};
constexpr std::array kSchemaMaps = {"$defs",     "definitions", "dependencies", "dependentSchemas", "patternProperties",
                                    "properties"};
constexpr int64_t kMaxCount = 1'000'000'000;

bool IsSchema(const JsonTree& tree) { return tree.IsObject() || tree.kind == Kind::kBool; }

[[noreturn]] void Refuse(const std::string& keyword, const std::string& path, const std::string& why) {
  throw SchemaError(keyword, path.empty() ? "#" : "#" + path, why);
}

std::string Within(const std::string& path, const std::string& name) { return path + "/" + name; }

Decimal NumberOf(const JsonTree& tree, const std::string& keyword, const std::string& path) {
  if (tree.kind != Kind::kNumber) Refuse(keyword, path, "it must be a number");
  const auto value = Decimal::Read(tree.text);
  if (!value) Refuse(keyword, path, "numbers beyond 1e" + std::to_string(Decimal::kMaxExponent) + " are not taken");
  return *value;
}

// At most kMaxCount, which stands for all that is more.
int64_t CountOf(const JsonTree& tree, const std::string& keyword, const std::string& path) {
  const Decimal value = NumberOf(tree, keyword, path);
  if (value.negative || value.exponent < 0) Refuse(keyword, path, "it must be a whole number, not negative");
  if (value.Position() > 9) return kMaxCount;
  int64_t count = 0;
  for (const char digit : value.digits) count = count * 10 + (digit - '0');
  for (int64_t i = 0; i < value.exponent; i++) count *= 10;
  return count;
}

std::vector<std::string> NamesOf(const JsonTree& tree, const std::string& keyword, const std::string& path) {
  std::vector<std::string> names;
  for (const JsonTree& item : tree.items) {
    if (item.IsString()) names.push_back(item.text);
  }
  if (!tree.IsArray() || names.size() != tree.items.size()) Refuse(keyword, path, "it must be a list of names");
  return names;
}

}  // namespace

Error SchemaError(const std::string& keyword, const std::string& where, const std::string& why) {
  return Error{fmt::format("a JSON schema's \"{}\" is not taken: {}", keyword, why),
               where.empty() ? where : fmt::format("at {}", where)};
}

SchemaSource::SchemaSource(const JsonTree& root, JsonDraft draft) : draft_(draft) {
  nodes_.push_back({.kind = SchemaNode::Kind::kTrue});
  nodes_.push_back({.kind = SchemaNode::Kind::kFalse});
  if (!IsSchema(root)) throw Error{"a JSON schema is an object, true or false", "another JSON value"};
  if (const JsonTree* said = root.IsObject() ? root.Find("$schema") : nullptr) {
    const std::string uri = said->IsString() ? SplitFragment(said->text).first : "";
    if (uri == "http://json-schema.org/draft-07/schema" || uri == "https://json-schema.org/draft-07/schema") {
      draft_ = JsonDraft::k7;
    } else if (uri == "https://json-schema.org/draft/2020-12/schema") {
      draft_ = JsonDraft::k2020;
    } else {
      Refuse("$schema", "", "only drafts 7 and 2020-12 are known, not \"" + uri + "\"");
    }
  }
  FindResources(root, "");
  resources_.emplace("", &root);
  root_ = NodeOf(root, "");
  while (!unfilled_.empty()) {
    const auto [tree, path] = std::move(unfilled_.back());
    unfilled_.pop_back();
    Fill(ids_.at(tree), *tree, path);
  }
  CheckLoops();
}

void SchemaSource::FindResources(const JsonTree& schema, std::string base) {
  if (!schema.IsObject()) return;
  const bool only_reference = draft_ == JsonDraft::k7 && schema.Find("$ref") != nullptr;
  const JsonTree* id = schema.Find("$id");
  if (id != nullptr && id->IsString() && !only_reference) {
    const auto [uri, fragment] = SplitFragment(ResolveUri(base, id->text));
    if (uri != base || base.empty()) resources_.emplace(uri, &schema);
    base = uri;
    if (!fragment.empty()) anchors_.emplace(base + "#" + fragment, &schema);
  } else if (bases_.empty()) {
    resources_.emplace(base, &schema);
  }
  if (draft_ == JsonDraft::k2020) {
    for (const char* name : {"$anchor", "$dynamicAnchor"}) {
      const JsonTree* anchor = schema.Find(name);
      if (anchor != nullptr && anchor->IsString()) anchors_.emplace(base + "#" + anchor->text, &schema);
    }
  }
  bases_.emplace(&schema, base);
  for (const char* name : kOneSchema) {
    if (const JsonTree* child = schema.Find(name)) FindResources(*child, base);
  }
  for (const char* name : kSchemaLists) {
    const JsonTree* children = schema.Find(name);
    for (size_t i = 0; children != nullptr && i < children->items.size(); i++) FindResources(children->items[i], base);
  }
  for (const char* name : kSchemaMaps) {
    const JsonTree* children = schema.Find(name);
    for (size_t i = 0; children != nullptr && i < children->members.size(); i++) {
      FindResources(children->members[i].second, base);
    }
  }
}

NodeId SchemaSource::NodeOf(const JsonTree& schema, const std::string& path) {
  if (schema.kind == Kind::kBool) return schema.truth ? kTrueNode : kFalseNode;
  if (!schema.IsObject()) Refuse(path.substr(path.rfind('/') + 1), path, "a schema is an object, true or false");
  const auto [at, added] = ids_.emplace(&schema, static_cast<NodeId>(nodes_.size()));
  if (added) {
    nodes_.push_back({.kind = SchemaNode::Kind::kSchema});
    unfilled_.emplace_back(&schema, path);
  }
  return at->second;
}

NodeId SchemaSource::ValueNode(const JsonTree& value) {
  const auto [at, added] = value_ids_.emplace(&value, static_cast<NodeId>(nodes_.size()));
  if (added) nodes_.push_back({.kind = SchemaNode::Kind::kValue, .value = &value});
  return at->second;
}

NodeId SchemaSource::Resolve(const std::string& reference, const std::string& base, const std::string& path) {
  const auto [uri, fragment] = SplitFragment(ResolveUri(base, reference));
  const auto resource = resources_.find(uri);
  if (resource == resources_.end()) Refuse("$ref", path, "\"" + reference + "\" is not within the schema");
  const JsonTree* target = resource->second;
  if (!fragment.empty() && fragment[0] != '/') {
    const auto anchor = anchors_.find(uri + "#" + fragment);
    target = anchor != anchors_.end() ? anchor->second : nullptr;
  } else {
    std::string within = uri;
    for (const std::string& name : PointerNames(fragment)) {
      const JsonTree* next = nullptr;
      if (target->IsObject()) {
        next = target->Find(name);
      } else if (target->IsArray() && !name.empty() && name.size() < 9 &&
                 name.find_first_not_of("0123456789") == std::string::npos) {
        const auto index = static_cast<size_t>(std::stoul(name));
        if (index < target->items.size()) next = &target->items[index];
      }
      target = next;
      if (target == nullptr) break;
      const auto known = bases_.find(target);
      if (known != bases_.end()) within = known->second;
    }
    if (target != nullptr) bases_.emplace(target, within);
  }
  if (target == nullptr || !IsSchema(*target)) Refuse("$ref", path, "\"" + reference + "\" names no schema");
  return NodeOf(*target, fragment.empty() || fragment[0] == '/' ? fragment : "#" + fragment);
}

void SchemaSource::Fill(NodeId id, const JsonTree& schema, const std::string& path) {
  const auto base = bases_.find(&schema);
  const Place place{base != bases_.end() ? base->second : "", path};
  SchemaNode node{.kind = SchemaNode::Kind::kSchema};
  if (const JsonTree* said = schema.Find("$schema"); said != nullptr && !path.empty()) {
    const bool is_seven = said->IsString() && said->text.find("draft-07") != std::string::npos;
    const bool is_2020 = said->IsString() && said->text.find("draft/2020-12/schema") != std::string::npos;
    if (draft_ == JsonDraft::k7 ? !is_seven : !is_2020) Refuse("$schema", path, "one schema is of one draft");
  }
  const JsonTree* reference = schema.Find("$ref");
  if (reference != nullptr) {
    if (!reference->IsString()) Refuse("$ref", path, "it must be a string");
    Condition condition{.keyword = Keyword::kRef, .name = "$ref"};
    condition.other = Resolve(reference->text, place.base, path);
    node.conditions.push_back(std::move(condition));
  }
  if (reference == nullptr || draft_ != JsonDraft::k7) {
    for (const auto& [name, argument] : schema.members) ReadKeyword(name, argument, place, node);
    ReadProperties(schema, place, node);
    ReadItems(schema, place, node);
    ReadContains(schema, place, node);
    ReadIf(schema, place, node);
  }
  if (node.conditions.empty()) node.kind = SchemaNode::Kind::kTrue;
  nodes_[static_cast<size_t>(id)] = std::move(node);
}

void SchemaSource::ReadKeyword(const std::string& name, const JsonTree& argument, const Place& place,
                               SchemaNode& node) {
  const auto add = [&](Keyword keyword, const char* called) -> Condition& {
    node.conditions.push_back({.keyword = keyword, .name = called});
    return node.conditions.back();
  };
  struct Bound {
    const char* name;
    Keyword keyword;
    bool low, exclusive;
  };
  static constexpr std::array kBounds = {Bound{"minimum", Keyword::kNumberBound, true, false},
                                         Bound{"exclusiveMinimum", Keyword::kNumberBound, true, true},
                                         Bound{"maximum", Keyword::kNumberBound, false, false},
                                         Bound{"exclusiveMaximum", Keyword::kNumberBound, false, true},
                                         Bound{"minLength", Keyword::kLength, true, false},
                                         Bound{"maxLength", Keyword::kLength, false, false},
                                         Bound{"minItems", Keyword::kItemCount, true, false},
                                         Bound{"maxItems", Keyword::kItemCount, false, false},
                                         Bound{"minProperties", Keyword::kPropertyCount, true, false},
                                         Bound{"maxProperties", Keyword::kPropertyCount, false, false}};
  for (const Bound& bound : kBounds) {
    if (name != bound.name) continue;
    Condition& condition = add(bound.keyword, bound.name);
    condition.low = bound.low;
    condition.flag = bound.exclusive;
    if (bound.keyword == Keyword::kNumberBound) {
      condition.number = NumberOf(argument, name, place.path);
    } else {
      condition.count = CountOf(argument, name, place.path);
    }
    return;
  }
  struct List {
    const char* name;
    Keyword keyword;
  };
  static constexpr std::array kLists = {List{"allOf", Keyword::kAllOf}, List{"anyOf", Keyword::kAnyOf},
                                        List{"oneOf", Keyword::kOneOf}};
  for (const List& list : kLists) {
    if (name != list.name) continue;
    if (!argument.IsArray() || argument.items.empty()) Refuse(name, place.path, "it must be a list of schemas");
    Condition& condition = add(list.keyword, list.name);
    for (size_t i = 0; i < argument.items.size(); i++) {
      condition.nodes.push_back(NodeOf(argument.items[i], Within(Within(place.path, name), std::to_string(i))));
    }
    return;
  }
  if (name == "type") {
    ReadType(argument, place, node);
  } else if (name == "enum" || name == "const") {
    if (name == "enum" && !argument.IsArray()) Refuse(name, place.path, "it must be a list");
    Condition& condition = add(Keyword::kEnum, name == "enum" ? "enum" : "const");
    if (name == "const") condition.nodes.push_back(ValueNode(argument));
    for (const JsonTree& value : argument.items) {
      if (name == "enum") condition.nodes.push_back(ValueNode(value));
    }
  } else if (name == "multipleOf") {
    const Decimal number = NumberOf(argument, name, place.path);
    if (number.IsZero() || number.negative) Refuse(name, place.path, "it must be more than 0");
    add(Keyword::kMultipleOf, "multipleOf").number = number;
  } else if (name == "pattern") {
    if (!argument.IsString()) Refuse(name, place.path, "it must be a string");
    add(Keyword::kPattern, "pattern").text = argument.text;
  } else if (name == "uniqueItems") {
    if (argument.truth) add(Keyword::kUniqueItems, "uniqueItems");
  } else if (name == "required") {
    auto names = NamesOf(argument, name, place.path);
    if (!names.empty()) add(Keyword::kRequired, "required").names = std::move(names);
  } else if (name == "propertyNames") {
    const NodeId other = NodeOf(argument, Within(place.path, name));
    add(Keyword::kPropertyNames, "propertyNames").other = other;
  } else if (name == "not") {
    const NodeId other = NodeOf(argument, Within(place.path, name));
    add(Keyword::kNot, "not").other = other;
  } else if (name == "dependencies" || (draft_ == JsonDraft::k2020 && name.starts_with("dependent"))) {
    ReadDependencies(name, argument, place, node);
  } else if (draft_ == JsonDraft::k7 && (name == "contentEncoding" || name == "contentMediaType")) {
    Refuse(name, place.path, "draft 7 may look at it, this does not");
  } else if (draft_ == JsonDraft::k2020 && (name == "unevaluatedItems" || name == "unevaluatedProperties" ||
                                            name == "$dynamicRef" || name == "$recursiveRef")) {
    if (name[0] == 'u' && argument.kind == Kind::kBool && argument.truth) return;
    Refuse(name, place.path, "it is not supported");
  }
}

void SchemaSource::ReadType(const JsonTree& argument, const Place& place, SchemaNode& node) {
  static constexpr std::array kNames = {"null", "boolean", "number", "string", "array", "object"};
  std::vector<std::string> names;
  if (argument.IsString()) {
    names.push_back(argument.text);
  } else {
    names = NamesOf(argument, "type", place.path);
  }
  Condition condition{.keyword = Keyword::kType, .name = "type"};
  bool integers = false;
  for (const std::string& name : names) {
    if (name == "integer") {
      integers = true;
      continue;
    }
    const auto at = std::find(kNames.begin(), kNames.end(), name);
    if (at == kNames.end()) Refuse("type", place.path, "there is no type \"" + name + "\"");
    condition.types |= 1u << (at - kNames.begin());
  }
  const uint32_t numbers = 1u << static_cast<int>(ValueType::kNumber);
  if (integers && (condition.types & numbers) == 0) condition.types |= numbers | kIntegersOnly;
  node.conditions.push_back(std::move(condition));
}

void SchemaSource::ReadProperties(const JsonTree& schema, const Place& place, SchemaNode& node) {
  Condition condition{.keyword = Keyword::kProperties, .name = "properties"};
  for (const char* name : {"properties", "patternProperties"}) {
    const JsonTree* argument = schema.Find(name);
    if (argument == nullptr) continue;
    if (!argument->IsObject()) Refuse(name, place.path, "it must be an object");
    auto& list = name[1] == 'r' ? condition.named : condition.patterns;
    if (list.empty() && name[1] == 'a') condition.name = "patternProperties";
    for (const auto& [member, child] : argument->members) {
      list.emplace_back(member, NodeOf(child, Within(Within(place.path, name), member)));
    }
  }
  if (const JsonTree* others = schema.Find("additionalProperties")) {
    condition.other = NodeOf(*others, Within(place.path, "additionalProperties"));
    condition.name = "additionalProperties";
    if (condition.other == kTrueNode) condition.other = -1;
  }
  if (condition.named.empty() && condition.patterns.empty() && condition.other < 0) return;
  node.conditions.push_back(std::move(condition));
}

void SchemaSource::ReadItems(const JsonTree& schema, const Place& place, SchemaNode& node) {
  const bool seven = draft_ == JsonDraft::k7;
  const JsonTree* items = schema.Find("items");
  const JsonTree* first = seven ? (items != nullptr && items->IsArray() ? items : nullptr) : schema.Find("prefixItems");
  const JsonTree* rest = seven && first != nullptr ? schema.Find("additionalItems") : items;
  const char* first_name = seven ? "items" : "prefixItems";
  const char* rest_name = seven && first != nullptr ? "additionalItems" : "items";
  Condition condition{.keyword = Keyword::kItems, .name = first != nullptr ? first_name : rest_name};
  if (first != nullptr && !first->IsArray()) Refuse(first_name, place.path, "it must be a list of schemas");
  for (size_t i = 0; first != nullptr && i < first->items.size(); i++) {
    condition.nodes.push_back(NodeOf(first->items[i], Within(Within(place.path, first_name), std::to_string(i))));
  }
  if (rest != nullptr) condition.other = NodeOf(*rest, Within(place.path, rest_name));
  if (condition.nodes.empty() && condition.other < 0) return;
  node.conditions.push_back(std::move(condition));
}

void SchemaSource::ReadContains(const JsonTree& schema, const Place& place, SchemaNode& node) {
  const JsonTree* contains = schema.Find("contains");
  if (contains == nullptr) return;
  Condition condition{.keyword = Keyword::kContains, .name = "contains", .count = 1};
  if (draft_ == JsonDraft::k2020) {
    if (const JsonTree* least = schema.Find("minContains"))
      condition.count = CountOf(*least, "minContains", place.path);
    if (const JsonTree* most = schema.Find("maxContains")) condition.most = CountOf(*most, "maxContains", place.path);
  }
  condition.other = NodeOf(*contains, Within(place.path, "contains"));
  if (condition.count == 0 && condition.most < 0) return;
  node.conditions.push_back(std::move(condition));
}

void SchemaSource::ReadDependencies(const std::string& name, const JsonTree& argument, const Place& place,
                                    SchemaNode& node) {
  if (!argument.IsObject()) Refuse(name, place.path, "it must be an object");
  const bool both = name == "dependencies";
  Condition names{.keyword = Keyword::kDependentRequired, .name = both ? "dependencies" : "dependentRequired"};
  Condition schemas{.keyword = Keyword::kDependentSchemas, .name = both ? "dependencies" : "dependentSchemas"};
  for (const auto& [member, child] : argument.members) {
    if (name == "dependentRequired" || (both && child.IsArray())) {
      names.lists.emplace_back(member, NamesOf(child, name, place.path));
    } else {
      schemas.named.emplace_back(member, NodeOf(child, Within(Within(place.path, name), member)));
    }
  }
  if (!names.lists.empty()) node.conditions.push_back(std::move(names));
  if (!schemas.named.empty()) node.conditions.push_back(std::move(schemas));
}

void SchemaSource::ReadIf(const JsonTree& schema, const Place& place, SchemaNode& node) {
  const JsonTree* condition = schema.Find("if");
  if (condition == nullptr || (schema.Find("then") == nullptr && schema.Find("else") == nullptr)) return;
  Condition branches{.keyword = Keyword::kIf, .name = "if"};
  for (const char* name : {"if", "then", "else"}) {
    const JsonTree* part = schema.Find(name);
    branches.nodes.push_back(part != nullptr ? NodeOf(*part, Within(place.path, name)) : kTrueNode);
  }
  node.conditions.push_back(std::move(branches));
}

void SchemaSource::CheckLoops() const {
  // Depth first over what looks at the same value; 1: on the way, 2: done.
  std::vector<uint8_t> mark(nodes_.size(), 0);
  const auto targets = [&](NodeId id) {
    std::vector<NodeId> list;
    for (const Condition& c : nodes_[static_cast<size_t>(id)].conditions) {
      switch (c.keyword) {
        case Keyword::kAllOf:
        case Keyword::kAnyOf:
        case Keyword::kOneOf:
        case Keyword::kIf:
          list.insert(list.end(), c.nodes.begin(), c.nodes.end());
          break;
        case Keyword::kNot:
        case Keyword::kRef:
          list.push_back(c.other);
          break;
        case Keyword::kDependentSchemas:
          for (const auto& [name, node] : c.named) list.push_back(node);
          break;
        default:
          break;
      }
    }
    return list;
  };
  struct Visit {
    NodeId id;
    std::vector<NodeId> left;
  };
  for (NodeId from = 0; from < static_cast<NodeId>(nodes_.size()); from++) {
    if (mark[static_cast<size_t>(from)] != 0) continue;
    std::vector<Visit> way;
    way.push_back({from, targets(from)});
    mark[static_cast<size_t>(from)] = 1;
    while (!way.empty()) {
      if (way.back().left.empty()) {
        mark[static_cast<size_t>(way.back().id)] = 2;
        way.pop_back();
        continue;
      }
      const NodeId next = way.back().left.back();
      way.back().left.pop_back();
      if (mark[static_cast<size_t>(next)] == 1) Refuse("$ref", "", "a schema refers to itself for the same value");
      if (mark[static_cast<size_t>(next)] == 2) continue;
      mark[static_cast<size_t>(next)] = 1;
      way.push_back({next, targets(next)});
    }
  }
}

}  // namespace fathom::grammar
