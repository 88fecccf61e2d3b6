// What a template computes with: Python's values, as far as chat templates need them. Values are immutable but for
// namespaces, so that they share what they hold. Lists and dictionaries know how deep they are, which bounds every
// recursion here, and how large they would be written out (a value that is shared counts as often as it is met), which
// bounds its time: Failure where either is too much.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace fathom::jinja {

inline constexpr int kMaxNesting = 100;
inline constexpr int64_t kMaxWeight = 256 << 20;

// What went wrong while a template ran; the interpreter adds the line.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& what) : std::runtime_error(what) {}
};

class Value;
class Interpreter;

// A list, a tuple, and what only gives its elements one by one: a generator once, a view such as keys() ever again.
enum class Form : uint8_t { kList, kTuple, kGenerator, kView };

struct Sequence;
struct Mapping;

// Arguments of a call, filter or test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// What is none of JSON's values: namespaces, macros, functions, methods, loop.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string Text() const = 0;  // as printed
  virtual int depth() const { return 0; }
  // Undefined if there is no such attribute.
  virtual Value Attribute(std::string_view name) const;
  virtual bool callable() const { return false; }
  virtual Value Call(Interpreter& interpreter, const Arguments& arguments) const;
};

class Value {
 public:
  struct Missing {  // Jinja's Undefined; what it was, for errors
    std::shared_ptr<const std::string> what;
  };
  struct BigInteger {  // one that does not fit 64 bits: printed, not computed with
    std::shared_ptr<const std::string> digits;
  };
  struct None {};

  Value() = default;                                                               // None
  Value(bool v) : v_(v) {}                                                         // NOLINT: implicit
  Value(int64_t v) : v_(v) {}                                                      // NOLINT
  Value(double v) : v_(v) {}                                                       // NOLINT
  Value(std::string v) : v_(std::make_shared<const std::string>(std::move(v))) {}  // NOLINT
  Value(std::string_view v) : v_(std::make_shared<const std::string>(v)) {}        // NOLINT
  Value(const char* v) : Value(std::string_view(v)) {}                             // NOLINT
  Value(std::shared_ptr<const Sequence> v) : v_(std::move(v)) {}                   // NOLINT
  Value(std::shared_ptr<const Mapping> v) : v_(std::move(v)) {}                    // NOLINT
  Value(std::shared_ptr<const Object> v) : v_(std::move(v)) {}                     // NOLINT
  static Value Undefined(std::string what);
  static Value List(std::vector<Value> items, Form form = Form::kList);
  static Value Dict(std::vector<std::pair<Value, Value>> items);  // of equal keys the last value, at the first's place
  // Throws Failure if it is nested too deeply.
  static Value FromJson(const nlohmann::ordered_json& json);

  bool IsUndefined() const { return std::holds_alternative<Missing>(v_); }
  bool IsNone() const { return std::holds_alternative<None>(v_); }
  bool IsBool() const { return std::holds_alternative<bool>(v_); }
  bool IsString() const { return std::holds_alternative<StringPtr>(v_); }
  bool IsFloat() const { return std::holds_alternative<double>(v_); }
  bool IsBig() const { return std::holds_alternative<BigInteger>(v_); }
  bool IsInteger() const { return std::holds_alternative<int64_t>(v_); }  // no bool, no BigInteger
  bool IsNumber() const { return IsInteger() || IsBool() || IsFloat(); }  // what can be computed with
  const Sequence* AsSequence() const;                                     // nullptr if it is none
  const Mapping* AsMapping() const;
  const Object* AsObject() const;

  // Of a value of that kind.
  const std::string& String() const { return *std::get<StringPtr>(v_); }
  bool Bool() const { return std::get<bool>(v_); }
  int64_t Integer() const { return IsBool() ? int64_t{Bool()} : std::get<int64_t>(v_); }
  double Number() const { return IsFloat() ? std::get<double>(v_) : static_cast<double>(Integer()); }
  const std::string& Digits() const { return *std::get<BigInteger>(v_).digits; }
  const std::string& UndefinedWhat() const { return *std::get<Missing>(v_).what; }

  bool Truth() const;
  int Depth() const;              // 0 for what holds nothing
  int64_t Weight() const;         // about the bytes of its text
  std::string_view Kind() const;  // Python's name of the type
  std::string Text() const;       // str()
  std::string Repr() const;
  bool SameAs(const Value& other) const;  // Python's `is`

 private:
  using StringPtr = std::shared_ptr<const std::string>;
  std::variant<None, Missing, bool, int64_t, double, BigInteger, StringPtr, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Mapping>, std::shared_ptr<const Object>>
      v_;
};

struct Sequence {
  std::vector<Value> items;
  Form form = Form::kList;
  int depth = 1;
  int64_t weight = 2;
  mutable size_t taken = 0;  // of a generator
};

struct Mapping {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
  int64_t weight = 2;
  // nullptr if there is none.
  const Value* Find(const Value& key) const;
  const Value* FindText(std::string_view key) const;

 private:
  friend class Value;
  std::unordered_map<std::string_view, size_t> index_;  // of keys that are strings, where there are many
};

bool Equal(const Value& a, const Value& b);
// -1, 0, 1; throws Failure if they have no order.
int Compare(const Value& a, const Value& b);

}  // namespace fathom::jinja
