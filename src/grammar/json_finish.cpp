// What has been gathered about a value becomes a form.
#include <fmt/format.h>

#include <algorithm>

#include "grammar/json_expand.h"

namespace fathom::grammar {
namespace {

constexpr size_t kMaxFormsOfType = 512;
constexpr int64_t kMaxFirst = 20'000;
constexpr size_t kMaxParts = 60;
constexpr int64_t kMaxCounted = 250;

// Of literals and demands, as a part of a form's key.
template <class T>
std::string JoinedKey(const std::vector<T>& values) {
  std::string key;
  for (const T value : values) key += fmt::format("{},", value);
  return key;
}

std::string RangeKey(char type, int64_t least, int64_t most) { return fmt::format("{}{},{};", type, least, most); }

}  // namespace

void Expander::Finish(const Gathered& g, std::vector<Form>& forms) {
  const auto add = [&](Form form) {
    if (std::find(forms.begin(), forms.end(), form) == forms.end()) forms.push_back(form);
  };
  budget_.Charge(static_cast<int64_t>(4 + forms.size()), "anyOf");
  if (forms.size() >= kMaxFormsOfType) throw SchemaError("anyOf", "", "too many alternatives");
  switch (g.type) {
    case ValueType::kNull:
      add({g.type, 0});
      return;
    case ValueType::kBool:
      if (g.can_be_false) add({g.type, 0});
      if (g.can_be_true) add({g.type, 1});
      return;
    case ValueType::kNumber: {
      NumberRule rule = g.number;
      if (rule.not_steps.size() > 1) {
        std::sort(rule.not_steps.begin(), rule.not_steps.end());
        rule.not_steps.erase(std::unique(rule.not_steps.begin(), rule.not_steps.end()), rule.not_steps.end());
        if (rule.not_steps.size() > 1) throw SchemaError("multipleOf", "", "two of them under not are not supported");
      }
      std::string key = "n";  // no "n" + ...: gcc 12 warns of it (-Wrestrict)
      key += rule.Key();
      const auto known = form_ids_.find(key);
      if (known != form_ids_.end()) {
        if (known->second.rule >= 0) add(known->second);
        return;
      }
      const bool some = rule.IsAny() || NumberWalker(rule).Start() != NumberWalker::kDead;
      if (some) forms_.numbers.push_back(std::move(rule));
      const Form form{g.type, some ? static_cast<int32_t>(forms_.numbers.size()) - 1 : -1};
      form_ids_.emplace(key, form);
      if (some) add(form);
      return;
    }
    case ValueType::kString:
      FinishText(g, forms);
      return;
    case ValueType::kArray:
      FinishArray(g, forms);
      return;
    case ValueType::kObject:
      FinishObject(g, forms);
      return;
  }
}

void Expander::FinishText(const Gathered& g, std::vector<Form>& forms) {
  std::string key = RangeKey('s', g.least, g.most);
  for (const auto& [part, member] : g.texts) key += fmt::format("{}{}", member ? '+' : '-', part);
  const auto [at, added] = form_ids_.emplace(key, Form{ValueType::kString, -1});
  if (added) {
    TextRule rule{.least = g.least, .most = g.most};
    if (!g.texts.empty()) {
      if (g.texts.size() > kMaxParts) throw SchemaError("pattern", "", "too many of them for one string");
      rule.counted = false;
      std::vector<const TextDfa*> parts;
      uint64_t wanted = 0;
      for (const auto& [part, member] : g.texts) {
        wanted |= uint64_t{member} << parts.size();
        parts.push_back(&parts_[static_cast<size_t>(part)]);
      }
      TextDfa length;
      if (g.least > 0 || g.most >= 0) {
        length = TextDfa::OfLength(g.least, g.most, budget_);
        wanted |= uint64_t{1} << parts.size();
        parts.push_back(&length);
      }
      rule.dfa = TextDfa::Combined(
          parts, [wanted](uint64_t bits) { return bits == wanted ? 0 : -1; }, budget_, "pattern");
    }
    if (rule.counted || rule.dfa.start() != TextDfa::kDead) {
      forms_.texts.push_back(std::move(rule));
      at->second.rule = static_cast<int32_t>(forms_.texts.size()) - 1;
    }
  }
  if (at->second.rule >= 0 && std::find(forms.begin(), forms.end(), at->second) == forms.end()) {
    forms.push_back(at->second);
  }
}

void Expander::FinishArray(const Gathered& g, std::vector<Form>& forms) {
  ArrayRule rule{.least = g.least, .most = g.most};
  if (g.unique && (g.most < 0 || g.most > 1)) {
    throw SchemaError("uniqueItems", "", "items are not compared; only with \"maxItems\" of at most 1");
  }
  std::vector<Gathered::Contains> contains;
  for (const auto& c : g.contains) {
    if (c.counter.least == 0 && c.counter.most < 0) continue;
    if (c.counter.least > kMaxCounted || c.counter.most > kMaxCounted) {
      throw SchemaError("contains", "", "more than 250 are not counted");
    }
    contains.push_back(c);
    rule.counters.push_back(c.counter);
  }
  if (contains.size() > 4) throw SchemaError("contains", "", "at most four of them for one array are supported");
  int64_t first = 0;
  for (const Condition* list : g.lists) first = std::max(first, static_cast<int64_t>(list->nodes.size()));
  for (const auto& [index, literal] : g.items) first = std::max(first, index + 1);
  for (const auto& c : contains) first = std::max(first, c.counter.from);
  if (first > kMaxFirst) throw SchemaError("prefixItems", "", "too many items");
  std::string key = RangeKey('a', g.least, g.most);
  for (int64_t i = 0; i <= first; i++) {
    std::vector<Literal> base;
    for (const Condition* list : g.lists) {
      const bool named = i < static_cast<int64_t>(list->nodes.size());
      const NodeId node = named ? list->nodes[static_cast<size_t>(i)] : list->other;
      if (node >= 0) base.push_back(Fulfilled(node));
    }
    for (const auto& [index, literal] : g.items) {
      if (index == i) base.push_back(literal);
    }
    std::vector<ArrayRule::Choice> choices;
    for (uint32_t counts = 0; counts < 1u << contains.size(); counts++) {
      std::vector<Literal> literals = base;
      bool possible = true;
      for (size_t c = 0; c < contains.size(); c++) {
        const bool counted = (counts >> c & 1) != 0;
        if (counted) literals.push_back(contains[c].literal);
        if (counted && i < contains[c].counter.from) possible = false;
        if (!counted && contains[c].counter.most >= 0) literals.push_back(contains[c].literal ^ 1);
      }
      const DemandId demand = possible ? DemandOf(std::move(literals)) : kNoValue;
      if (demand != kNoValue) choices.push_back({demand, counts});
    }
    budget_.Charge(static_cast<int64_t>(1 + choices.size()), "items");
    key += ';';
    for (const auto& choice : choices) key += fmt::format("{}:{},", choice.demand, choice.counts);
    rule.items.push_back(std::move(choices));
  }
  for (const auto& counter : rule.counters) {
    key += fmt::format("|{},{},{}", counter.from, counter.least, counter.most);
  }
  const auto [at, added] = form_ids_.emplace(key, Form{ValueType::kArray, static_cast<int32_t>(forms_.arrays.size())});
  if (added) forms_.arrays.push_back(std::move(rule));
  if (std::find(forms.begin(), forms.end(), at->second) == forms.end()) forms.push_back(at->second);
}

void Expander::FinishObject(const Gathered& g, std::vector<Form>& forms) {
  for (const std::string& name : g.required) {
    if (g.absent.contains(name)) return;
  }
  // What names must be, as parts of the automaton of names: of each demand one of these parts (-1: any).
  std::vector<const TextDfa*> parts;
  std::deque<TextDfa> lengths;
  std::vector<std::vector<int32_t>> name_parts;
  std::vector<std::vector<const TextRule*>> name_rules;
  for (const Literal literal : g.names) {
    name_parts.emplace_back();
    name_rules.emplace_back();
    for (const Form& form : std::vector<Form>(FormsOf(DemandOf({literal}), ValueType::kString))) {
      const TextRule& rule = forms_.texts[static_cast<size_t>(form.rule)];
      name_rules.back().push_back(&rule);
      if (rule.IsAny()) {
        name_parts.back().push_back(-1);
        continue;
      }
      if (rule.counted) lengths.push_back(TextDfa::OfLength(rule.least, rule.most, budget_));
      name_parts.back().push_back(static_cast<int32_t>(parts.size()));
      parts.push_back(rule.counted ? &lengths.back() : &rule.dfa);
    }
  }
  std::map<std::string, int32_t> pattern_at;
  for (const Condition* map : g.maps) {
    for (const auto& [pattern, node] : map->patterns) {
      if (!pattern_at.emplace(pattern, static_cast<int32_t>(parts.size())).second) continue;
      parts.push_back(&parts_[static_cast<size_t>(PartOfPattern(pattern))]);
    }
  }
  if (parts.size() > kMaxParts) throw SchemaError("patternProperties", "", "too many patterns for one object");

  std::map<std::u32string, std::vector<Literal>> named;
  const auto mention = [&](const std::string& name) -> std::vector<Literal>& { return named[CharactersOf(name)]; };
  for (const std::string& name : g.required) mention(name);
  for (const std::string& name : g.absent) mention(name).push_back(Fulfilled(SchemaSource::kFalseNode));
  for (const auto& [name, literal] : g.members) mention(name).push_back(literal);
  for (const Condition* map : g.maps) {
    for (const auto& [name, node] : map->named) mention(name);
  }
  for (const Condition* map : g.maps) {
    std::map<std::u32string, NodeId> own;
    for (const auto& [name, node] : map->named) own.emplace(CharactersOf(name), node);
    budget_.Charge(static_cast<int64_t>(named.size() * (1 + map->patterns.size())), "properties");
    for (auto& [name, literals] : named) {
      const auto at = own.find(name);
      bool known = at != own.end();
      if (known) literals.push_back(Fulfilled(at->second));
      for (const auto& [pattern, node] : map->patterns) {
        if (parts[static_cast<size_t>(pattern_at.at(pattern))]->ClassOf(name) < 0) continue;
        literals.push_back(Fulfilled(node));
        known = true;
      }
      if (!known && map->other >= 0) literals.push_back(Fulfilled(map->other));
    }
  }

  ObjectRule rule{.least = g.least, .most = g.most};
  std::vector<bool> allowed;
  for (auto& [name, literals] : named) {
    for (const auto& rules : name_rules) {
      const bool fits =
          std::any_of(rules.begin(), rules.end(), [&known = name](const TextRule* r) { return r->Contains(known); });
      if (!fits) literals.push_back(Fulfilled(SchemaSource::kFalseNode));
    }
    rule.names.push_back(name);
    rule.of_name.push_back(DemandOf(literals));
    rule.required.push_back(false);
  }
  for (const std::string& name : g.required) {
    const auto at = std::lower_bound(rule.names.begin(), rule.names.end(), CharactersOf(name));
    rule.required[static_cast<size_t>(at - rule.names.begin())] = true;
  }
  std::map<DemandId, int32_t> classes;
  const auto class_of = [&](uint64_t bits) -> int32_t {
    for (const auto& choices : name_parts) {
      const bool fits = std::any_of(choices.begin(), choices.end(),
                                    [&](int32_t part) { return part < 0 || (bits >> part & 1) != 0; });
      if (!fits) return -1;
    }
    std::vector<Literal> literals;
    for (const Condition* map : g.maps) {
      bool known = false;
      for (const auto& [pattern, node] : map->patterns) {
        if ((bits >> pattern_at.at(pattern) & 1) == 0) continue;
        literals.push_back(Fulfilled(node));
        known = true;
      }
      if (!known && map->other >= 0) literals.push_back(Fulfilled(map->other));
    }
    const DemandId demand = DemandOf(std::move(literals));
    if (demand == kNoValue) return -1;
    const auto [at, added] = classes.emplace(demand, static_cast<int32_t>(rule.of_class.size()));
    if (added) rule.of_class.push_back(demand);
    return at->second;
  };
  std::string key = RangeKey('o', g.least, g.most) + JoinedKey(rule.of_name);
  for (size_t i = 0; i < rule.names.size(); i++) {
    key += rule.required[i] ? '!' : '?';
    for (const char32_t c : rule.names[i]) key += fmt::format("{}.", static_cast<uint32_t>(c));
  }
  rule.free = TextDfa::Combined(parts, class_of, budget_, "patternProperties");
  key += ';';
  key += JoinedKey(rule.of_class);
  for (const TextDfa* part : parts) key += fmt::format(",{}", static_cast<const void*>(part));
  const bool may_be_known = lengths.empty();
  if (may_be_known) {
    const auto known = form_ids_.find(key);
    if (known != form_ids_.end()) {
      if (std::find(forms.begin(), forms.end(), known->second) == forms.end()) forms.push_back(known->second);
      return;
    }
  }
  for (const auto& name : rule.names) rule.otherwise_free.push_back(rule.free.ClassOf(name) >= 0);
  const Form form{ValueType::kObject, static_cast<int32_t>(forms_.objects.size())};
  if (may_be_known) form_ids_.emplace(std::move(key), form);
  forms_.objects.push_back(std::move(rule));
  forms.push_back(form);
}

}  // namespace fathom::grammar
