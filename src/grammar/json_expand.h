// Demands into forms: conditions of one type of value gathered, alternatives multiplied out. Negation is carried down
// to single conditions, so that not, oneOf and if are exact.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar/json_budget.h"
#include "grammar/json_forms.h"

namespace fathom::grammar {

// A node that a value must fulfil, or must not.
using Literal = int32_t;

class Expander {
 public:
  Expander(SchemaSource& source, JsonForms& forms, Budget& budget);

  DemandId DemandOf(std::vector<Literal> literals);
  static Literal Fulfilled(NodeId node) { return node * 2; }
  static Literal NotFulfilled(NodeId node) { return node * 2 + 1; }
  const std::vector<Form>& FormsOf(DemandId demand, ValueType type);

 private:
  // What has been gathered about a value of one type.
  struct Gathered {
    ValueType type;
    bool dead = false;
    bool can_be_false = true, can_be_true = true;  // a null: can_be_false
    NumberRule number = {};
    std::map<int32_t, bool> texts = {};  // of parts_: must it be in it?
    int64_t least = 0, most = -1;        // characters, items or properties
    std::vector<const Condition*> lists = {};
    std::vector<std::pair<int64_t, Literal>> items = {};  // of one position
    struct Contains {
      Literal literal;
      ArrayRule::Counter counter;
    };
    std::vector<Contains> contains = {};
    bool unique = false;
    std::vector<const Condition*> maps = {};
    std::set<std::string> required = {}, absent = {};
    std::vector<std::pair<std::string, Literal>> members = {};
    std::vector<Literal> names = {};

    void AtLeast(int64_t count);
    void AtMost(int64_t count);
  };
  // A node, or one of its conditions.
  struct Atom {
    Literal literal;
    int32_t condition = -1;
    auto operator<=>(const Atom&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 sees a 0 in it
  };
  struct Option {
    std::vector<Atom> atoms = {};
    std::function<void(Gathered&)> effect = nullptr;
  };
  struct Work {
    Gathered gathered;
    std::vector<Atom> todo = {};
    std::vector<std::vector<Option>> choices = {};
    std::set<Atom> seen = {};
  };

  Literal Canonical(Literal literal) const;
  void Expand(Work work, std::vector<Form>& forms, int depth);
  void Take(Work& work, const Option& option) const;
  void Apply(Work& work, const Atom& atom);
  void ApplyValue(Work& work, const JsonTree& value, bool fulfilled);
  void ApplyCondition(Work& work, const Condition& condition, bool fulfilled);
  void ApplyEnum(Work& work, const Condition& condition, bool fulfilled);
  void ApplyNumber(Work& work, const Condition& condition, bool fulfilled);
  void ApplyCount(Work& work, const Condition& condition, bool fulfilled) const;
  void ApplyArray(Work& work, const Condition& condition, bool fulfilled) const;
  void ApplyObject(Work& work, const Condition& condition, bool fulfilled) const;
  void ApplyDependent(Work& work, const Condition& condition, bool fulfilled) const;
  void ApplyOneOf(Work& work, const Condition& condition, bool fulfilled);
  void ApplyLogic(Work& work, const Condition& condition, bool fulfilled);
  void Finish(const Gathered& gathered, std::vector<Form>& forms);
  void FinishText(const Gathered& gathered, std::vector<Form>& forms);
  void FinishArray(const Gathered& gathered, std::vector<Form>& forms);
  void FinishObject(const Gathered& gathered, std::vector<Form>& forms);
  bool NothingFulfils(std::vector<Literal> literals, ValueType type);
  bool SurelyEmpty(DemandId demand, ValueType type);
  bool SurelyEmpty(DemandId demand);
  bool SurelyEmpty(const Form& form);
  int32_t PartOfPattern(const std::string& pattern);
  int32_t AddPart(TextDfa dfa);
  const Condition& Keep(Condition condition);

  SchemaSource& source_;
  JsonForms& forms_;
  Budget& budget_;
  std::map<std::vector<Literal>, DemandId> demand_ids_;
  std::deque<TextDfa> parts_;
  std::unordered_map<std::string, int32_t> pattern_parts_;
  std::unordered_map<const Condition*, int32_t> enum_parts_;
  std::unordered_map<std::string, Form> form_ids_;
  std::deque<Condition> made_;
  std::unordered_map<const JsonTree*, const Condition*> of_value_;
  int disjoint_depth_ = 0;
};

}  // namespace fathom::grammar
