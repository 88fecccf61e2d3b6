// tojson as transformers defines it: json.dumps(value, ensure_ascii=False, indent=None, separators=None,
// sort_keys=False), nothing of it escaped for HTML.
#include <fmt/format.h>

#include <algorithm>

#include "jinja/interpreter.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

class JsonPrinter {
 public:
  JsonPrinter(Interpreter& in, bool ensure_ascii, std::optional<std::string> indent, std::string comma,
              std::string colon, bool sorted)
      : in_(in),
        ascii_(ensure_ascii),
        indent_(std::move(indent)),
        comma_(std::move(comma)),
        colon_(std::move(colon)),
        sorted_(sorted) {}

  void Print(const Value& v) {
    if (v.IsString()) {
      Add(QuoteJson(v.String(), ascii_));
    } else if (const Mapping* m = v.AsMapping()) {
      PrintMapping(*m);
    } else if (const Sequence* s = v.AsSequence(); s && (s->form == Form::kList || s->form == Form::kTuple)) {
      for (size_t i = 0; i < s->items.size(); ++i) {
        Between('[', i);
        Print(s->items[i]);
      }
      Close('[', ']', s->items.empty());
    } else if (v.IsNone() || v.IsNumber() || v.IsBig()) {
      Add(Scalar(v));
    } else {
      throw Failure(v.IsUndefined() ? v.UndefinedWhat() : fmt::format("tojson of {}", v.Kind()));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string Scalar(const Value& v) {
    if (v.IsNone()) return "null";
    if (v.IsBool()) return v.Bool() ? "true" : "false";
    std::string text = v.Repr();
    if (text == "nan") return "NaN";
    return text == "inf" ? "Infinity" : text == "-inf" ? "-Infinity" : text;
  }

  void PrintMapping(const Mapping& m) {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : m.items) items.push_back(&item);
    if (sorted_) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return Compare(a->first, b->first) < 0; });
    }
    for (size_t i = 0; i < items.size(); ++i) {
      Between('{', i);
      const Value& key = items[i]->first;
      if (!key.IsString() && !key.IsNone() && !key.IsNumber() && !key.IsBig())
        throw Failure(fmt::format("tojson of a dictionary with {} as a key", key.Kind()));
      Add(QuoteJson(key.IsString() ? key.String() : Scalar(key), ascii_));
      Add(colon_);
      Print(items[i]->second);
    }
    Close('{', '}', items.empty());
  }

  void Add(std::string_view text) {
    in_.SpendBytes(static_cast<int64_t>(text.size()));
    out_ += text;
  }
  void NewLine() {
    if (!indent_) return;
    out_ += '\n';
    for (int i = 0; i < depth_; ++i) Add(*indent_);
  }
  void Between(char open, size_t i) {
    if (i == 0) {
      out_ += open;
      ++depth_;
    } else {
      Add(comma_);
    }
    NewLine();
  }
  void Close(char open, char close, bool empty) {
    in_.Spend(1);
    if (empty) {
      out_ += open;
    } else {
      --depth_;
      NewLine();
    }
    out_ += close;
  }

  Interpreter& in_;
  const bool ascii_;
  const std::optional<std::string> indent_;
  const std::string comma_, colon_;
  const bool sorted_;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

std::string ToJson(Interpreter& in, const Value& value, const Arguments& arguments) {
  const Bound b("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  std::optional<std::string> indent;
  if (b.Has(1) && !b.Need(1).IsNone()) {
    constexpr int64_t kMostIndent = 64;
    indent = b.Need(1).IsString()
                 ? b.Need(1).String()
                 : std::string(static_cast<size_t>(std::clamp<int64_t>(b.Integer(1, 0), 0, kMostIndent)), ' ');
  }
  std::string comma = indent ? "," : ", ", colon = ": ";
  if (b.Has(2) && !b.Need(2).IsNone()) {
    const std::vector<Value> two = in.Elements(b.Need(2));
    if (two.size() != 2) throw Failure("tojson needs two separators");
    comma = in.Text(two[0]);
    colon = in.Text(two[1]);
  }
  JsonPrinter printer(in, b.Truth(0), std::move(indent), std::move(comma), std::move(colon), b.Truth(3));
  printer.Print(value);
  return printer.Take();
}

}  // namespace fathom::jinja
