#include "grammar/json_expand.h"

#include <algorithm>

namespace fathom::grammar {
namespace {

constexpr int kMaxChoices = 64;  // alternatives one within the other
constexpr int kDisjointDepth = 3;

bool IsSameType(ValueType type, JsonTree::Kind kind) { return static_cast<int>(type) == static_cast<int>(kind); }

bool ConcernsOnly(Keyword keyword, ValueType& type) {
  switch (keyword) {
    case Keyword::kNumberBound:
    case Keyword::kMultipleOf:
      type = ValueType::kNumber;
      return true;
    case Keyword::kLength:
    case Keyword::kPattern:
      type = ValueType::kString;
      return true;
    case Keyword::kItems:
    case Keyword::kContains:
    case Keyword::kItemCount:
    case Keyword::kUniqueItems:
      type = ValueType::kArray;
      return true;
    case Keyword::kProperties:
    case Keyword::kRequired:
    case Keyword::kPropertyCount:
    case Keyword::kPropertyNames:
    case Keyword::kDependentRequired:
    case Keyword::kDependentSchemas:
      type = ValueType::kObject;
      return true;
    default:
      return false;
  }
}

[[noreturn]] void RefuseForm(const char* keyword, const char* why) { throw SchemaError(keyword, "", why); }

}  // namespace

void Expander::Gathered::AtLeast(int64_t count) {
  least = std::max(least, count);
  dead |= most >= 0 && least > most;
}

void Expander::Gathered::AtMost(int64_t count) {
  most = most < 0 ? count : std::min(most, count);
  dead |= count < 0 || least > most;
}

Expander::Expander(SchemaSource& source, JsonForms& forms, Budget& budget)
    : source_(source), forms_(forms), budget_(budget) {
  forms_.demands.push_back({});
  demand_ids_.emplace(std::vector<Literal>{}, kAnyValue);
  forms_.demands.push_back({.literals = {Fulfilled(SchemaSource::kFalseNode)}, .expanded = {2, 2, 2, 2, 2, 2}});
  demand_ids_.emplace(forms_.demands.back().literals, kNoValue);
}

Literal Expander::Canonical(Literal literal) const {
  const SchemaNode* node = &source_.node(literal / 2);
  while (node->conditions.size() == 1 && node->conditions[0].keyword == Keyword::kRef) {
    literal = node->conditions[0].other * 2 + literal % 2;
    node = &source_.node(literal / 2);
  }
  const bool negative = literal % 2 != 0;
  if (node->kind == SchemaNode::Kind::kTrue)
    return Fulfilled(negative ? SchemaSource::kFalseNode : SchemaSource::kTrueNode);
  if (node->kind == SchemaNode::Kind::kFalse) {
    return Fulfilled(negative ? SchemaSource::kTrueNode : SchemaSource::kFalseNode);
  }
  return literal;
}

DemandId Expander::DemandOf(std::vector<Literal> literals) {
  for (Literal& literal : literals) literal = Canonical(literal);
  std::sort(literals.begin(), literals.end());
  literals.erase(std::unique(literals.begin(), literals.end()), literals.end());
  std::erase(literals, Fulfilled(SchemaSource::kTrueNode));
  for (size_t i = 0; i < literals.size(); i++) {
    const bool contradicts = i > 0 && literals[i] == literals[i - 1] + 1 && literals[i] % 2 != 0;
    if (contradicts || literals[i] == Fulfilled(SchemaSource::kFalseNode)) return kNoValue;
  }
  const auto [at, added] = demand_ids_.emplace(literals, static_cast<DemandId>(forms_.demands.size()));
  if (added) {
    budget_.Charge(8 + static_cast<int64_t>(literals.size()), "allOf");
    forms_.demands.push_back({.literals = std::move(literals)});
  }
  return at->second;
}

const std::vector<Form>& Expander::FormsOf(DemandId demand, ValueType type) {
  const auto t = static_cast<size_t>(type);
  if (forms_.demands[static_cast<size_t>(demand)].expanded[t] == 0) {
    forms_.demands[static_cast<size_t>(demand)].expanded[t] = 1;
    Work work{.gathered = {.type = type}};
    for (const Literal literal : forms_.demands[static_cast<size_t>(demand)].literals) work.todo.push_back({literal});
    std::vector<Form> forms;
    Expand(std::move(work), forms, 0);
    Demand& done = forms_.demands[static_cast<size_t>(demand)];
    done.forms[t] = std::move(forms);
    done.expanded[t] = 2;
  }
  return forms_.demands[static_cast<size_t>(demand)].forms[t];
}

void Expander::Take(Work& work, const Option& option) const {
  work.todo.insert(work.todo.end(), option.atoms.begin(), option.atoms.end());
  if (option.effect) option.effect(work.gathered);
}

void Expander::Expand(Work work, std::vector<Form>& forms, int depth) {
  for (;;) {
    while (!work.todo.empty() && !work.gathered.dead) {
      const Atom atom = work.todo.back();
      work.todo.pop_back();
      budget_.Charge(1, "anyOf");
      if (work.seen.insert(atom).second) Apply(work, atom);
    }
    if (work.gathered.dead) return;
    const auto single =
        std::find_if(work.choices.begin(), work.choices.end(), [](const auto& options) { return options.size() <= 1; });
    if (single == work.choices.end()) break;
    const std::vector<Option> options = std::move(*single);
    work.choices.erase(single);
    if (options.empty()) return;
    Take(work, options[0]);
  }
  if (work.choices.empty()) {
    Finish(work.gathered, forms);
    return;
  }
  if (depth >= kMaxChoices) RefuseForm("anyOf", "too many alternatives one within the other");
  const auto fewest = std::min_element(work.choices.begin(), work.choices.end(),
                                       [](const auto& a, const auto& b) { return a.size() < b.size(); });
  const std::vector<Option> options = std::move(*fewest);
  work.choices.erase(fewest);
  for (const Option& option : options) {
    Work branch = work;
    budget_.Charge(static_cast<int64_t>(8 + work.seen.size() + work.choices.size() + work.gathered.required.size()),
                   "anyOf");
    Take(branch, option);
    Expand(std::move(branch), forms, depth + 1);
  }
}

void Expander::Apply(Work& work, const Atom& atom) {
  const Literal literal = atom.condition < 0 ? Canonical(atom.literal) : atom.literal;
  const bool fulfilled = literal % 2 == 0;
  const SchemaNode& node = source_.node(literal / 2);
  switch (node.kind) {
    case SchemaNode::Kind::kTrue:
      work.gathered.dead |= !fulfilled;
      return;
    case SchemaNode::Kind::kFalse:
      work.gathered.dead |= fulfilled;
      return;
    case SchemaNode::Kind::kValue:
      ApplyValue(work, *node.value, fulfilled);
      return;
    case SchemaNode::Kind::kSchema:
      break;
  }
  if (atom.condition >= 0) {
    ApplyCondition(work, node.conditions[static_cast<size_t>(atom.condition)], fulfilled);
  } else if (fulfilled) {
    for (const Condition& condition : node.conditions) {
      if (work.gathered.dead) return;
      ApplyCondition(work, condition, true);
    }
  } else {
    std::vector<Option> options;
    for (size_t i = 0; i < node.conditions.size(); i++) {
      ValueType only;
      if (ConcernsOnly(node.conditions[i].keyword, only) && only != work.gathered.type) continue;
      options.push_back({.atoms = {{literal, static_cast<int32_t>(i)}}});
    }
    work.choices.push_back(std::move(options));
  }
}

void Expander::ApplyValue(Work& work, const JsonTree& value, bool fulfilled) {
  Gathered& g = work.gathered;
  if (!IsSameType(g.type, value.kind)) {
    g.dead |= fulfilled;
    return;
  }
  switch (value.kind) {
    case JsonTree::Kind::kNull:
      g.dead |= !fulfilled;
      return;
    case JsonTree::Kind::kBool:
      (value.truth == fulfilled ? g.can_be_false : g.can_be_true) = false;
      return;
    case JsonTree::Kind::kNumber: {
      const auto number = Decimal::Read(value.text);
      if (!number) RefuseForm("const", "numbers beyond 1e400 are not taken");
      if (fulfilled) {
        g.number.Only({*number});
      } else {
        g.number.Except({*number});
      }
      return;
    }
    case JsonTree::Kind::kString:
    case JsonTree::Kind::kArray:
    case JsonTree::Kind::kObject:
      break;
  }
  const auto [at, added] = of_value_.emplace(&value, nullptr);
  if (added) {
    Condition made{.keyword = Keyword::kEnum, .name = "const"};
    if (value.IsArray()) {
      made.keyword = Keyword::kItems;
      for (const JsonTree& item : value.items) made.nodes.push_back(source_.ValueNode(item));
    } else if (value.IsObject()) {
      made.keyword = Keyword::kProperties;
      for (const auto& [name, member] : value.members) made.named.emplace_back(name, source_.ValueNode(member));
    } else {
      made.nodes.push_back(source_.ValueNode(value));
    }
    if (!value.IsString()) made.other = SchemaSource::kFalseNode;
    at->second = &Keep(std::move(made));
  }
  const Condition* made = at->second;
  if (value.IsString()) {
    ApplyEnum(work, *made, fulfilled);
    return;
  }
  const auto count = static_cast<int64_t>(value.IsArray() ? value.items.size() : value.members.size());
  if (fulfilled) {
    (value.IsArray() ? g.lists : g.maps).push_back(made);
    for (const auto& [name, member] : value.members) g.required.insert(name);
    g.AtLeast(count);
    g.AtMost(count);
    return;
  }
  std::vector<Option> options;
  if (value.IsArray() && count > 0) options.push_back({.effect = [count](Gathered& to) { to.AtMost(count - 1); }});
  options.push_back({.effect = [count, made](Gathered& to) {
    to.AtLeast(count + 1);
    for (const auto& [name, member] : made->named) to.required.insert(name);
  }});
  for (size_t i = 0; i < made->nodes.size(); i++) {
    options.push_back({.effect = [i, made](Gathered& to) {
      to.AtLeast(static_cast<int64_t>(i) + 1);
      to.items.emplace_back(static_cast<int64_t>(i), NotFulfilled(made->nodes[i]));
    }});
  }
  for (const auto& member : made->named) {
    options.push_back({.effect = [&member](Gathered& to) { to.absent.insert(member.first); }});
    options.push_back({.effect = [&member](Gathered& to) {
      to.required.insert(member.first);
      to.members.emplace_back(member.first, NotFulfilled(member.second));
    }});
  }
  work.choices.push_back(std::move(options));
}

void Expander::ApplyEnum(Work& work, const Condition& condition, bool fulfilled) {
  Gathered& g = work.gathered;
  if (g.type == ValueType::kString) {
    const auto [at, added] = enum_parts_.emplace(&condition, -1);
    if (added) {
      std::vector<std::u32string> texts;
      for (const NodeId id : condition.nodes) {
        const JsonTree& value = *source_.node(id).value;
        if (value.IsString()) texts.push_back(CharactersOf(value.text));
      }
      at->second = AddPart(TextDfa::OfTexts(std::move(texts), budget_));
    }
    const auto [part, fresh] = g.texts.emplace(at->second, fulfilled);
    g.dead |= !fresh && part->second != fulfilled;
    return;
  }
  if (g.type == ValueType::kNumber) {
    std::vector<Decimal> numbers;
    for (const NodeId id : condition.nodes) {
      const JsonTree& value = *source_.node(id).value;
      if (value.kind != JsonTree::Kind::kNumber) continue;
      const auto number = Decimal::Read(value.text);
      if (!number) RefuseForm(condition.name, "numbers beyond 1e400 are not taken");
      numbers.push_back(*number);
    }
    std::sort(numbers.begin(), numbers.end());
    budget_.Charge(static_cast<int64_t>(numbers.size()), condition.name);
    if (fulfilled) {
      g.number.Only(numbers);
    } else {
      g.number.Except(numbers);
    }
    return;
  }
  std::vector<Option> options;
  for (const NodeId id : condition.nodes) {
    if (!IsSameType(g.type, source_.node(id).value->kind)) continue;
    if (fulfilled) {
      options.push_back({.atoms = {{Fulfilled(id)}}});
    } else {
      work.todo.push_back({NotFulfilled(id)});
    }
  }
  if (fulfilled) work.choices.push_back(std::move(options));
}

void Expander::ApplyNumber(Work& work, const Condition& condition, bool fulfilled) {
  NumberRule& number = work.gathered.number;
  if (condition.keyword == Keyword::kMultipleOf) {
    if (fulfilled) {
      number.MultipleOf(condition.number);
    } else {
      number.not_steps.push_back(condition.number);
    }
  } else if (condition.low == fulfilled) {
    number.AtLeast({condition.number, condition.flag == fulfilled});
  } else {
    number.AtMost({condition.number, condition.flag == fulfilled});
  }
}

void Expander::ApplyCount(Work& work, const Condition& condition, bool fulfilled) const {
  Gathered& g = work.gathered;
  if (condition.low == fulfilled) {
    g.AtLeast(condition.count + (fulfilled ? 0 : 1));
  } else {
    g.AtMost(condition.count - (fulfilled ? 0 : 1));
  }
}

void Expander::ApplyArray(Work& work, const Condition& condition, bool fulfilled) const {
  Gathered& g = work.gathered;
  std::vector<Option> options;
  if (condition.keyword == Keyword::kUniqueItems) {
    if (!fulfilled) RefuseForm("uniqueItems", "its opposite (under not, oneOf or if) is not supported");
    g.unique = true;
  } else if (condition.keyword == Keyword::kItems && fulfilled) {
    g.lists.push_back(&condition);
  } else if (condition.keyword == Keyword::kItems) {
    for (size_t i = 0; i < condition.nodes.size(); i++) {
      options.push_back({.effect = [&condition, i](Gathered& to) {
        to.AtLeast(static_cast<int64_t>(i) + 1);
        to.items.emplace_back(static_cast<int64_t>(i), NotFulfilled(condition.nodes[i]));
      }});
    }
    if (condition.other >= 0) {
      options.push_back({.effect = [&condition](Gathered& to) {
        const auto from = static_cast<int64_t>(condition.nodes.size());
        to.AtLeast(from + 1);
        to.contains.push_back({NotFulfilled(condition.other), {from, 1, -1}});
      }});
    }
    work.choices.push_back(std::move(options));
  } else if (fulfilled) {
    g.contains.push_back({Fulfilled(condition.other), {0, condition.count, condition.most}});
    g.AtLeast(condition.count);
  } else {
    if (condition.count > 0) {
      options.push_back({.effect = [&condition](Gathered& to) {
        to.contains.push_back({Fulfilled(condition.other), {0, 0, condition.count - 1}});
      }});
    }
    if (condition.most >= 0) {
      options.push_back({.effect = [&condition](Gathered& to) {
        to.contains.push_back({Fulfilled(condition.other), {0, condition.most + 1, -1}});
        to.AtLeast(condition.most + 1);
      }});
    }
    work.choices.push_back(std::move(options));
  }
}

void Expander::ApplyObject(Work& work, const Condition& condition, bool fulfilled) const {
  Gathered& g = work.gathered;
  std::vector<Option> options;
  switch (condition.keyword) {
    case Keyword::kProperties:
      if (fulfilled) {
        g.maps.push_back(&condition);
        return;
      }
      if (!condition.patterns.empty() || condition.other >= 0) {
        RefuseForm(condition.name, "its opposite (under not, oneOf or if) is not supported");
      }
      for (const auto& member : condition.named) {
        options.push_back({.effect = [&member](Gathered& to) {
          to.required.insert(member.first);
          to.members.emplace_back(member.first, NotFulfilled(member.second));
        }});
      }
      break;
    case Keyword::kRequired:
      if (fulfilled) {
        g.required.insert(condition.names.begin(), condition.names.end());
        return;
      }
      for (const std::string& name : condition.names) {
        options.push_back({.effect = [&name](Gathered& to) { to.absent.insert(name); }});
      }
      break;
    default:
      if (!fulfilled) RefuseForm("propertyNames", "its opposite (under not, oneOf or if) is not supported");
      g.names.push_back(Fulfilled(condition.other));
      return;
  }
  work.choices.push_back(std::move(options));
}

void Expander::ApplyDependent(Work& work, const Condition& condition, bool fulfilled) const {
  std::vector<Option> broken;
  const auto depend = [&](const std::string& name, const Option& then) {
    std::vector<Option> options = {{.effect = [&name](Gathered& to) { to.absent.insert(name); }}};
    options.push_back({.atoms = then.atoms, .effect = [&name, then](Gathered& to) {
                         to.required.insert(name);
                         if (then.effect) then.effect(to);
                       }});
    work.choices.push_back(std::move(options));
  };
  for (const auto& [name, needed] : condition.lists) {
    if (fulfilled) {
      const auto* names = &needed;
      depend(name, {.effect = [names](Gathered& to) { to.required.insert(names->begin(), names->end()); }});
      continue;
    }
    for (const std::string& other : needed) {
      const std::string* present = &name;
      broken.push_back({.effect = [present, &other](Gathered& to) {
        to.required.insert(*present);
        to.absent.insert(other);
      }});
    }
  }
  for (const auto& [name, node] : condition.named) {
    if (fulfilled) {
      depend(name, {.atoms = {{Fulfilled(node)}}});
      continue;
    }
    const std::string* present = &name;
    broken.push_back(
        {.atoms = {{NotFulfilled(node)}}, .effect = [present](Gathered& to) { to.required.insert(*present); }});
  }
  if (!fulfilled) work.choices.push_back(std::move(broken));
}

void Expander::ApplyOneOf(Work& work, const Condition& condition, bool fulfilled) {
  const ValueType type = work.gathered.type;
  std::vector<NodeId> possible;
  for (const NodeId node : condition.nodes) {
    if (!NothingFulfils({Fulfilled(node)}, type)) possible.push_back(node);
  }
  const size_t n = possible.size();
  std::vector<std::vector<bool>> meet(n, std::vector<bool>(n, false));
  for (size_t i = 0; i < n; i++) {
    for (size_t k = i + 1; k < n; k++) {
      budget_.Charge(4, "oneOf");
      meet[i][k] = meet[k][i] = !NothingFulfils({Fulfilled(possible[i]), Fulfilled(possible[k])}, type);
    }
  }
  std::vector<Option> options;
  for (size_t i = 0; i < n; i++) {
    Option only{.atoms = {{Fulfilled(possible[i])}}};
    for (size_t k = 0; k < n; k++) {
      if (!meet[i][k]) continue;
      if (fulfilled) {
        only.atoms.push_back({NotFulfilled(possible[k])});
      } else if (k > i) {
        options.push_back({.atoms = {{Fulfilled(possible[i])}, {Fulfilled(possible[k])}}});
      }
    }
    if (fulfilled) options.push_back(std::move(only));
  }
  if (!fulfilled) {
    Option none;
    for (const NodeId node : possible) none.atoms.push_back({NotFulfilled(node)});
    options.push_back(std::move(none));
  }
  work.choices.push_back(std::move(options));
}

void Expander::ApplyLogic(Work& work, const Condition& condition, bool fulfilled) {
  const auto literal = [&](NodeId node) { return fulfilled ? Fulfilled(node) : NotFulfilled(node); };
  std::vector<Option> options;
  switch (condition.keyword) {
    case Keyword::kAllOf:
    case Keyword::kAnyOf:
      for (const NodeId node : condition.nodes) {
        if (fulfilled == (condition.keyword == Keyword::kAllOf)) {
          work.todo.push_back({literal(node)});
        } else {
          options.push_back({.atoms = {{literal(node)}}});
        }
      }
      if (options.empty()) return;
      break;
    case Keyword::kNot:
      work.todo.push_back({fulfilled ? NotFulfilled(condition.other) : Fulfilled(condition.other)});
      return;
    case Keyword::kRef:
      work.todo.push_back({literal(condition.other)});
      return;
    default:  // if
      options.push_back({.atoms = {{Fulfilled(condition.nodes[0])}, {literal(condition.nodes[1])}}});
      options.push_back({.atoms = {{NotFulfilled(condition.nodes[0])}, {literal(condition.nodes[2])}}});
  }
  work.choices.push_back(std::move(options));
}

void Expander::ApplyCondition(Work& work, const Condition& condition, bool fulfilled) {
  Gathered& g = work.gathered;
  ValueType only;
  if (ConcernsOnly(condition.keyword, only) && only != g.type) {
    g.dead |= !fulfilled;
    return;
  }
  switch (condition.keyword) {
    case Keyword::kType: {
      const bool among = (condition.types >> static_cast<int>(g.type) & 1) != 0;
      if (g.type == ValueType::kNumber && among && (condition.types & kIntegersOnly) != 0) {
        ApplyNumber(work, {.keyword = Keyword::kMultipleOf, .name = "type", .number = Decimal::Of(false, "1", 0)},
                    fulfilled);
      } else {
        g.dead |= among != fulfilled;
      }
      return;
    }
    case Keyword::kEnum:
      ApplyEnum(work, condition, fulfilled);
      return;
    case Keyword::kNumberBound:
    case Keyword::kMultipleOf:
      ApplyNumber(work, condition, fulfilled);
      return;
    case Keyword::kLength:
    case Keyword::kItemCount:
    case Keyword::kPropertyCount:
      ApplyCount(work, condition, fulfilled);
      return;
    case Keyword::kPattern: {
      const auto [part, fresh] = g.texts.emplace(PartOfPattern(condition.text), fulfilled);
      g.dead |= !fresh && part->second != fulfilled;
      return;
    }
    case Keyword::kItems:
    case Keyword::kContains:
    case Keyword::kUniqueItems:
      ApplyArray(work, condition, fulfilled);
      return;
    case Keyword::kProperties:
    case Keyword::kRequired:
    case Keyword::kPropertyNames:
      ApplyObject(work, condition, fulfilled);
      return;
    case Keyword::kDependentRequired:
    case Keyword::kDependentSchemas:
      ApplyDependent(work, condition, fulfilled);
      return;
    case Keyword::kOneOf:
      ApplyOneOf(work, condition, fulfilled);
      return;
    default:
      ApplyLogic(work, condition, fulfilled);
      return;
  }
}

bool Expander::NothingFulfils(std::vector<Literal> literals, ValueType type) {
  if (disjoint_depth_ >= kDisjointDepth) return false;
  return SurelyEmpty(DemandOf(std::move(literals)), type);
}

// What is under way is taken to be fulfilled by something.
bool Expander::SurelyEmpty(DemandId demand, ValueType type) {
  if (forms_.demands[static_cast<size_t>(demand)].expanded[static_cast<size_t>(type)] == 1) return false;
  disjoint_depth_++;
  const std::vector<Form> forms = FormsOf(demand, type);
  bool empty = true;
  for (const Form& form : forms) empty = empty && SurelyEmpty(form);
  disjoint_depth_--;
  return empty;
}

bool Expander::SurelyEmpty(DemandId demand) {
  if (demand == kNoValue) return true;
  if (demand == kAnyValue || disjoint_depth_ >= kDisjointDepth) return false;
  for (int type = 0; type < kValueTypes; type++) {
    if (!SurelyEmpty(demand, static_cast<ValueType>(type))) return false;
  }
  return true;
}

bool Expander::SurelyEmpty(const Form& form) {
  if (form.type == ValueType::kObject) {
    const ObjectRule& rule = forms_.objects[static_cast<size_t>(form.rule)];
    for (size_t i = 0; i < rule.names.size(); i++) {
      if (rule.required[i] && SurelyEmpty(rule.of_name[i])) return true;
    }
  } else if (form.type == ValueType::kArray) {
    const ArrayRule& rule = forms_.arrays[static_cast<size_t>(form.rule)];
    for (size_t i = 0; i < rule.items.size() && static_cast<int64_t>(i) < rule.least; i++) {
      const auto& choices = rule.items[i];
      if (std::all_of(choices.begin(), choices.end(), [&](const auto& c) { return SurelyEmpty(c.demand); }))
        return true;
    }
  }
  return false;
}

int32_t Expander::AddPart(TextDfa dfa) {
  parts_.push_back(std::move(dfa));
  return static_cast<int32_t>(parts_.size()) - 1;
}

int32_t Expander::PartOfPattern(const std::string& pattern) {
  const auto found = pattern_parts_.find(pattern);
  if (found != pattern_parts_.end()) return found->second;
  return pattern_parts_[pattern] = AddPart(TextDfa::OfPattern(pattern, budget_));
}

const Condition& Expander::Keep(Condition condition) {
  made_.push_back(std::move(condition));
  return made_.back();
}

}  // namespace fathom::grammar
