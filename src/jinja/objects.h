// The objects that templates meet.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "jinja/interpreter.h"

namespace fathom::jinja {

class Namespace : public Object {
 public:
  std::string Text() const override { return "<Namespace>"; }
  Value Attribute(std::string_view name) const override;
  void Set(const std::string& name, Value value);
  void Clear() { members_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> members_;
};

class Function : public Object {
 public:
  using Code = std::function<Value(Interpreter&, const Arguments&)>;
  Function(std::string name, Code code, int depth = 0)
      : name_(std::move(name)), code_(std::move(code)), depth_(depth) {}
  std::string Text() const override { return "<function " + name_ + ">"; }
  bool callable() const override { return true; }
  Value Call(Interpreter& in, const Arguments& arguments) const override { return code_(in, arguments); }
  int depth() const override { return depth_; }

 private:
  std::string name_;
  Code code_;
  int depth_;
};

class Macro : public Object {
 public:
  Macro(std::shared_ptr<const MacroCode> code, Scope* scope) : code_(std::move(code)), scope_(scope) {}
  std::string Text() const override { return "<Macro '" + code_->name + "'>"; }
  bool callable() const override { return true; }
  Value Attribute(std::string_view name) const override;
  Value Call(Interpreter& in, const Arguments& arguments) const override;

 private:
  std::shared_ptr<const MacroCode> code_;
  Scope* scope_;
};

// `loop` within a for.
class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(Value list) : list_(std::move(list)) {}
  std::string Text() const override;
  Value Attribute(std::string_view name) const override;
  int depth() const override { return list_.Depth() + 1; }
  void set_index(size_t index) { index_ = index; }

 private:
  Value list_;
  size_t index_ = 0;
  mutable std::optional<std::vector<Value>> last_;  // of changed()
};

}  // namespace fathom::jinja
