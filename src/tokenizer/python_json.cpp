#include "tokenizer/python_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "jinja/text.h"

namespace fathom::tokenizer {
namespace {

using nlohmann::json;

constexpr size_t kMaxValueDepth = 200;

// Values become text as they end; an open container keeps the text of its members.
class Printer : public nlohmann::json_sax<json> {
 public:
  bool null() override { return Add("null"); }
  bool boolean(bool v) override { return Add(v ? "true" : "false"); }
  bool number_integer(number_integer_t v) override { return Add(std::to_string(v)); }
  bool number_unsigned(number_unsigned_t v) override { return Add(std::to_string(v)); }
  bool number_float(number_float_t v, const string_t& written) override {
    const bool integer = written.find_first_of(".eE") == std::string::npos;  // too large for 64 bits
    return Add(integer ? written : jinja::FloatText(v));
  }
  bool string(string_t& v) override { return Add(jinja::QuoteJson(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(string_t& v) override {
    open_.back().key = jinja::QuoteJson(v);
    return true;
  }
  bool end_object() override { return Close('{', '}'); }
  bool end_array() override { return Close('[', ']'); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    problem = fmt::format("byte {}: {}", position, e.what());
    return false;
  }

  std::string result, problem;

 private:
  struct Container {
    bool object;
    std::string key;                                         // of the value to come
    std::vector<std::pair<std::string, std::string>> items;  // key and value, as printed
  };

  bool Open(bool object) {
    if (open_.size() == kMaxValueDepth) {
      problem = fmt::format("nested more than {} deep", kMaxValueDepth);
      return false;
    }
    open_.push_back({object, "", {}});
    return true;
  }
  bool Add(std::string text) {
    if (open_.empty()) {
      result = std::move(text);
      return true;
    }
    open_.back().items.emplace_back(open_.back().key, std::move(text));
    return true;
  }
  bool Close(char first, char last) {
    Container c = std::move(open_.back());
    open_.pop_back();
    if (c.object) KeepLastOfEqualKeys(c.items);
    std::string text(1, first);
    for (size_t i = 0; i < c.items.size(); ++i) {
      if (i > 0) text += ", ";
      if (c.object) text.append(c.items[i].first).append(": ");
      text += c.items[i].second;
    }
    return Add(text + last);
  }
  static void KeepLastOfEqualKeys(std::vector<std::pair<std::string, std::string>>& items) {
    std::unordered_map<std::string, size_t> place;
    size_t kept = 0;
    for (auto& item : items) {
      const auto [it, fresh] = place.emplace(item.first, kept);
      if (fresh) {
        if (&items[kept] != &item) items[kept] = std::move(item);
        ++kept;
      } else {
        items[it->second].second = std::move(item.second);
      }
    }
    items.resize(kept);
  }

  std::vector<Container> open_;
};

}  // namespace

Result<std::string> PythonJson(std::string_view text) {
  Printer printer;
  if (!json::sax_parse(text.begin(), text.end(), &printer)) {
    return Error("not valid JSON", printer.problem, "", std::string(text.substr(0, 200)));
  }
  return std::move(printer.result);
}

}  // namespace fathom::tokenizer
