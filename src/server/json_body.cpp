#include "server/json_body.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "core/utf8.h"

namespace fathom::server {
namespace {

ApiError Malformed(std::string message) { return BadField("", "the body " + std::move(message), "invalid_json"); }

// Builds the tree from the parser's events (the parser itself does not recurse), so that every limit is checked before
// anything is kept.
class Builder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Put(nullptr); }
  bool boolean(bool v) override { return Put(v); }
  bool number_integer(int64_t v) override { return Put(v); }
  bool number_unsigned(uint64_t v) override { return Put(v); }
  bool number_float(double v, const std::string&) override { return Put(v); }
  bool string(std::string& v) override { return Put(std::move(v)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(std::string& name) override {
    Count();
    const auto [it, fresh] = open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!fresh) throw Malformed(fmt::format("has the key \"{}\" twice in one object", it->first.substr(0, 100)));
    slot_ = &it->second;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw Malformed(fmt::format("is not valid JSON (at byte {})", position));
  }

  Json Take() { return std::move(root_); }

 private:
  void Count() {
    if (++scalars_ > kMaxScalars) throw Malformed(fmt::format("has more than {} values", kMaxScalars));
  }
  // Where a value belongs: the root, behind the last of the open array, or under the key just read.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.get_ref<Json::array_t&>().push_back(std::move(value));
      return &parent.get_ref<Json::array_t&>().back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool Put(Json value) {
    Count();
    Place(std::move(value));
    return true;
  }
  bool Open(Json empty) {
    if (open_.size() >= kMaxDepth) throw Malformed(fmt::format("is nested more than {} deep", kMaxDepth));
    if (++containers_ > kMaxContainers) {
      throw Malformed(fmt::format("has more than {} objects and arrays", kMaxContainers));
    }
    open_.push_back(Place(std::move(empty)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  Json* slot_ = nullptr;
  // An array's elements move when it grows, but only while none of them is open.
  std::vector<Json*> open_;
  size_t scalars_ = 0, containers_ = 0;
};

}  // namespace

Json ParseBody(std::string_view body) {
  if (body.empty()) throw Malformed("is empty: a JSON object is expected");
  if (!IsUtf8(body)) throw Malformed("is not valid UTF-8");
  Builder builder;
  Json::sax_parse(body.begin(), body.end(), &builder);
  Json root = builder.Take();
  if (!root.is_object()) throw Malformed("is not a JSON object");
  return root;
}

}  // namespace fathom::server
