#include "grammar/json_forms.h"

#include <algorithm>
#include <map>

#include "grammar/json_expand.h"

namespace fathom::grammar {
namespace {

constexpr int64_t kCompileSteps = 6'000'000;
constexpr size_t kMaxPositions = 100'000;

int64_t SaturatedIndex(const ArrayRule& rule) {
  return std::max({static_cast<int64_t>(rule.items.size()) - 1, rule.least, rule.most});
}

// The positions that can be reached and finished, by choices of live demands.
std::unordered_set<uint64_t> LivePositions(const ArrayRule& rule, const std::vector<Demand>& demands) {
  std::map<uint64_t, size_t> ids;
  std::vector<ArrayPosition> positions;
  std::vector<std::vector<size_t>> before;
  const auto intern = [&](const ArrayPosition& position) {
    const auto [at, added] = ids.emplace(position.Key(), positions.size());
    if (added) {
      if (positions.size() >= kMaxPositions) throw SchemaError("contains", "", "too many items to count");
      positions.push_back(position);
      before.emplace_back();
    }
    return at->second;
  };
  intern({});
  for (size_t i = 0; i < positions.size(); i++) {
    for (const ArrayRule::Choice& choice : rule.ItemsAt(positions[i].index)) {
      ArrayPosition next = positions[i];
      if (!demands[static_cast<size_t>(choice.demand)].live || !Advance(rule, choice, next)) continue;
      before[intern(next)].push_back(i);
    }
  }
  std::vector<size_t> todo;
  std::unordered_set<uint64_t> live;
  for (size_t i = 0; i < positions.size(); i++) {
    if (MayEnd(rule, positions[i]) && live.insert(positions[i].Key()).second) todo.push_back(i);
  }
  while (!todo.empty()) {
    const size_t at = todo.back();
    todo.pop_back();
    for (const size_t from : before[at]) {
      if (live.insert(positions[from].Key()).second) todo.push_back(from);
    }
  }
  return live;
}

class Liveness {
 public:
  Liveness(Expander& expander, JsonForms& forms, Budget& budget)
      : expander_(expander), forms_(forms), budget_(budget) {}

  void Run() {
    Reach(forms_.root);
    for (size_t i = 0; i < reached_.size(); i++) ExpandDemand(reached_[i]);
    while (!todo_.empty()) {
      const DemandId id = todo_.back();
      todo_.pop_back();
      for (const size_t user : users_[id]) Check(user);
    }
    Finish();
  }

 private:
  struct Use {
    Form form;
    std::vector<DemandId> of = {};
    bool live = false;
  };

  void Reach(DemandId id) {
    if (id != kNoValue && seen_.insert(id).second) reached_.push_back(id);
  }

  size_t UseOf(const Form& form) {
    const auto [at, added] = use_ids_.emplace(std::pair(form.type, form.rule), uses_.size());
    const size_t index = at->second;
    if (!added) return index;
    uses_.push_back({.form = form});
    const auto uses = [&](DemandId demand) {
      Reach(demand);
      users_[demand].push_back(index);
    };
    if (form.type == ValueType::kObject) {
      const ObjectRule& rule = forms_.objects[static_cast<size_t>(form.rule)];
      for (const DemandId demand : rule.of_name) uses(demand);
      for (const DemandId demand : rule.of_class) uses(demand);
    } else if (form.type == ValueType::kArray) {
      for (const auto& choices : forms_.arrays[static_cast<size_t>(form.rule)].items) {
        for (const auto& choice : choices) uses(choice.demand);
      }
    }
    return index;
  }

  void ExpandDemand(DemandId id) {
    for (int type = 0; type < kValueTypes; type++) {
      const std::vector<Form> forms = expander_.FormsOf(id, static_cast<ValueType>(type));
      for (const Form& form : forms) {
        const size_t use = UseOf(form);
        uses_[use].of.push_back(id);
        if (uses_[use].live) MakeLive(id);
        Check(use);
      }
    }
  }

  void MakeLive(DemandId id) {
    if (std::exchange(forms_.demands[static_cast<size_t>(id)].live, true)) return;
    todo_.push_back(id);
  }

  bool IsLive(DemandId id) const { return forms_.demands[static_cast<size_t>(id)].live; }

  void Check(size_t index) {
    if (uses_[index].live || !CanBe(uses_[index].form)) return;
    uses_[index].live = true;
    for (const DemandId id : uses_[index].of) MakeLive(id);
  }

  bool CanBe(const Form& form) {
    if (form.type == ValueType::kObject) return CanBeObject(forms_.objects[static_cast<size_t>(form.rule)]);
    if (form.type != ValueType::kArray) return true;
    const ArrayRule& rule = forms_.arrays[static_cast<size_t>(form.rule)];
    if (!rule.counters.empty()) {
      const auto live = LivePositions(rule, forms_.demands);
      budget_.Charge(static_cast<int64_t>(live.size()), "contains");
      return live.contains(ArrayPosition{}.Key());
    }
    for (size_t i = 0; i < rule.items.size() && static_cast<int64_t>(i) < rule.least; i++) {
      budget_.Charge(1, "items");
      if (rule.items[i].empty() || !IsLive(rule.items[i][0].demand)) return false;
    }
    return true;
  }

  bool CanBeObject(const ObjectRule& rule) {
    budget_.Charge(static_cast<int64_t>(rule.names.size()) / 8 + 1, "properties");
    int64_t required = 0, possible = 0;
    for (size_t i = 0; i < rule.names.size(); i++) {
      const bool live = IsLive(rule.of_name[i]);
      if (rule.required[i] && !live) return false;
      required += rule.required[i] ? 1 : 0;
      possible += live ? 1 : 0;
    }
    const bool others = std::any_of(rule.of_class.begin(), rule.of_class.end(), [&](DemandId d) { return IsLive(d); });
    if (others && rule.least > required + 1) {
      throw SchemaError("minProperties", "", "names that the schema does not mention are not compared with each other");
    }
    return possible + (others ? 1 : 0) >= rule.least && (rule.most < 0 || required <= rule.most);
  }

  // Leaves only what is live.
  void Finish() {
    for (const DemandId id : reached_) {
      for (auto& forms : forms_.demands[static_cast<size_t>(id)].forms) {
        std::erase_if(forms, [&](const Form& form) { return !uses_[UseOf(form)].live; });
      }
    }
    for (const Use& use : uses_) {
      if (use.form.type == ValueType::kArray) {
        ArrayRule& rule = forms_.arrays[static_cast<size_t>(use.form.rule)];
        if (!rule.counters.empty()) rule.live = LivePositions(rule, forms_.demands);
        for (auto& choices : rule.items) std::erase_if(choices, [&](const auto& c) { return !IsLive(c.demand); });
      } else if (use.form.type == ValueType::kObject) {
        ObjectRule& rule = forms_.objects[static_cast<size_t>(use.form.rule)];
        for (DemandId& demand : rule.of_name) {
          if (!IsLive(demand)) demand = kNoValue;
        }
        std::vector<bool> keep;
        for (const DemandId demand : rule.of_class) keep.push_back(IsLive(demand));
        rule.free.Keep(keep);
        for (size_t i = 0; i < rule.names.size(); i++) rule.otherwise_free[i] = rule.free.ClassOf(rule.names[i]) >= 0;
      }
    }
  }

  Expander& expander_;
  JsonForms& forms_;
  Budget& budget_;
  std::unordered_set<DemandId> seen_;
  std::vector<DemandId> reached_;
  std::vector<Use> uses_;
  std::map<std::pair<ValueType, int32_t>, size_t> use_ids_;
  std::unordered_map<DemandId, std::vector<size_t>> users_;
  std::vector<DemandId> todo_;
};

}  // namespace

bool TextRule::Contains(const std::u32string& text) const {
  if (!counted) return dfa.ClassOf(text) >= 0;
  const auto length = static_cast<int64_t>(text.size());
  return length >= least && (most < 0 || length <= most);
}

bool Advance(const ArrayRule& rule, const ArrayRule::Choice& choice, ArrayPosition& position) {
  if (rule.most >= 0 && position.index >= rule.most) return false;
  position.index = std::min(position.index + 1, SaturatedIndex(rule));
  for (size_t i = 0; i < rule.counters.size(); i++) {
    if ((choice.counts >> i & 1) == 0) continue;
    const auto& counter = rule.counters[i];
    if (counter.most >= 0 && position.counts[i] >= counter.most) return false;
    if (counter.most >= 0 || position.counts[i] < counter.least) position.counts[i]++;
  }
  return true;
}

bool MayEnd(const ArrayRule& rule, const ArrayPosition& position) {
  for (size_t i = 0; i < rule.counters.size(); i++) {
    if (position.counts[i] < rule.counters[i].least) return false;
  }
  return position.index >= rule.least;
}

JsonForms CompileForms(SchemaSource& source) {
  JsonForms forms;
  Budget budget(kCompileSteps);
  Expander expander(source, forms, budget);
  forms.root = expander.DemandOf({Expander::Fulfilled(source.root())});
  Liveness(expander, forms, budget).Run();
  return forms;
}

}  // namespace fathom::grammar
