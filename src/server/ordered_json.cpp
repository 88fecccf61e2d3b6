#include "server/ordered_json.h"

#include <string>
#include <vector>

namespace fathom::server {
namespace {

using Ordered = nlohmann::ordered_json;

// Members are put at the end of their object without looking for an equal key, which would be quadratic.
class OrderedReader : public nlohmann::json_sax<Ordered> {
 public:
  explicit OrderedReader(std::string_view key) : wanted_(key) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool v) override { return Add(v); }
  bool number_integer(number_integer_t v) override { return Add(v); }
  bool number_unsigned(number_unsigned_t v) override { return Add(v); }
  bool number_float(number_float_t v, const string_t&) override { return Add(v); }
  bool string(string_t& v) override { return Add(std::move(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Ordered::object()); }
  bool start_array(size_t) override { return Open(Ordered::array()); }
  bool key(string_t& v) override {
    if (depth_ == 1) inside_ = v == wanted_;
    if (inside_) keys_.push_back(std::move(v));
    return true;
  }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  Ordered found;

 private:
  bool Open(Ordered container) {
    ++depth_;
    if (inside_) open_.push_back(std::move(container));
    return true;
  }
  bool Close() {
    --depth_;
    if (!inside_) return true;
    Ordered whole = std::move(open_.back());
    open_.pop_back();
    return Add(std::move(whole));
  }
  bool Add(Ordered value) {
    if (!inside_) return true;
    if (open_.empty()) {
      found = std::move(value);
      inside_ = false;
      keys_.clear();
      return true;
    }
    if (open_.back().is_array()) {
      open_.back().push_back(std::move(value));
    } else {
      auto& members = open_.back().get_ref<Ordered::object_t&>();
      static_cast<Ordered::object_t::Container&>(members).emplace_back(std::move(keys_.back()), std::move(value));
      keys_.pop_back();
    }
    return true;
  }

  const std::string_view wanted_;
  int depth_ = 0;
  bool inside_ = false;
  std::vector<std::string> keys_;
  std::vector<Ordered> open_;
};

}  // namespace

nlohmann::ordered_json OrderedMember(std::string_view body, std::string_view key) {
  OrderedReader reader(key);
  Ordered::sax_parse(body.begin(), body.end(), &reader);
  return std::move(reader.found);
}

}  // namespace fathom::server
