#include "tokenizer/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "tokenizer/json_read.h"
#include "tokenizer/tokenizer.h"

namespace fathom::tokenizer {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxAddedTokens = 1 << 20;
constexpr size_t kMaxAddedContent = 1 << 12;

// Events of nlohmann's parser to TokenizerJson. The path is kept as the open containers; model.vocab and model.merges
// are diverted.
class Reader : public nlohmann::json_sax<json> {
 public:
  explicit Reader(TokenizerJson* out) : out_(out) {}
  bool saw_vocab() const { return saw_vocab_; }
  bool saw_merges() const { return saw_merges_; }
  std::optional<Error> TakeError() { return std::move(error_); }

  bool null() override { return Value(nullptr); }
  bool boolean(bool v) override { return Value(v); }
  bool number_integer(number_integer_t v) override { return Number(v, v >= 0); }
  bool number_unsigned(number_unsigned_t v) override { return Number(v, true); }
  bool number_float(number_float_t v, const string_t&) override { return Value(v); }
  bool binary(binary_t&) override { return false; }
  bool string(string_t& v) override {
    if (mode_ == Mode::kMerges) return AddMerge(v);
    if (mode_ == Mode::kPair) {
      if (pair_size_ == 2)
        return Fail("tokenizer.json: a merge of more than two tokens",
                    fmt::format("merge {}", out_->bpe.merges.size()));
      pair_[pair_size_++] = std::move(v);
      return true;
    }
    return Value(std::move(v));
  }
  bool key(string_t& v) override {
    key_ = std::move(v);
    return true;
  }
  bool start_object(size_t) override {
    if (mode_ != Mode::kDom) return Misplaced("an object");
    if (stack_.size() == 2 && InModel() && key_ == "vocab") {
      if (saw_vocab_) return Fail("tokenizer.json: model.vocab comes twice");
      saw_vocab_ = true;
      mode_ = Mode::kVocab;
      return true;
    }
    return Open(json::object());
  }
  bool end_object() override {
    if (mode_ == Mode::kVocab) {
      mode_ = Mode::kDom;
      return true;
    }
    stack_.pop_back();
    return true;
  }
  bool start_array(size_t) override {
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kPair;
      pair_size_ = 0;
      return true;
    }
    if (mode_ != Mode::kDom) return Misplaced("a list");
    if (stack_.size() == 2 && InModel() && key_ == "merges") {
      if (saw_merges_) return Fail("tokenizer.json: model.merges comes twice");
      saw_merges_ = true;
      mode_ = Mode::kMerges;
      return true;
    }
    return Open(json::array());
  }
  bool end_array() override {
    if (mode_ == Mode::kPair) {
      if (pair_size_ != 2)
        return Fail("tokenizer.json: a merge of fewer than two tokens",
                    fmt::format("merge {}", out_->bpe.merges.size()));
      out_->bpe.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      mode_ = Mode::kMerges;
      return true;
    }
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kDom;
      return true;
    }
    stack_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    return Fail("tokenizer.json is not valid JSON", fmt::format("byte {}: {}", position, e.what()));
  }

 private:
  enum class Mode { kDom, kVocab, kMerges, kPair };

  bool Fail(std::string what, std::string got = "", std::string expected = "") {
    if (!error_) error_ = Error(std::move(what), std::move(got), std::move(expected));
    return false;
  }
  bool Misplaced(std::string_view what) {
    const bool vocab = mode_ == Mode::kVocab;
    return Fail(fmt::format("tokenizer.json: {} in model.{}", what, vocab ? "vocab" : "merges"), "",
                vocab ? "token strings with integer ids" : "\"a b\" or [\"a\", \"b\"]");
  }
  bool InModel() const { return model_ != nullptr && stack_[1] == model_; }

  json* Put(json value) {
    if (stack_.empty()) return &(out_->rest = std::move(value));
    json& top = *stack_.back();
    if (top.is_array()) return &top.emplace_back(std::move(value));
    return &(top[key_] = std::move(value));
  }
  bool Value(json value) {
    if (mode_ != Mode::kDom) return Misplaced(value.type_name());
    Put(std::move(value));
    return true;
  }
  bool Open(json value) {
    if (stack_.size() == kMaxDepth)
      return Fail("tokenizer.json is nested too deeply", "", fmt::format("at most {} levels", kMaxDepth));
    const bool model = stack_.size() == 1 && stack_[0]->is_object() && key_ == "model";
    stack_.push_back(Put(std::move(value)));
    if (model) model_ = stack_.back();
    return true;
  }
  template <class T>
  bool Number(T v, bool natural) {
    if (mode_ != Mode::kVocab) return Value(v);
    if (!natural || static_cast<uint64_t>(v) >= static_cast<uint64_t>(Tokenizer::kMaxIds)) {
      return Fail("tokenizer.json: a token id is out of range", fmt::format("{} for \"{}\"", v, key_),
                  fmt::format("0 to {}", Tokenizer::kMaxIds - 1));
    }
    out_->bpe.vocabulary.emplace_back(key_, static_cast<TokenId>(v));
    return true;
  }
  bool AddMerge(const std::string& v) {
    const size_t space = v.find(' ');
    if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos) {
      return Fail("tokenizer.json: a merge is not two tokens with a space between",
                  fmt::format("merge {}: \"{}\"", out_->bpe.merges.size(), v));
    }
    out_->bpe.merges.emplace_back(v.substr(0, space), v.substr(space + 1));
    return true;
  }

  TokenizerJson* out_;
  std::optional<Error> error_;
  std::vector<json*> stack_;  // open containers, but those that are diverted
  const json* model_ = nullptr;
  std::string key_;
  Mode mode_ = Mode::kDom;
  bool saw_vocab_ = false, saw_merges_ = false;
  std::string pair_[2];
  int pair_size_ = 0;
};

bool IsAbsent(const json& object, std::string_view key) {
  const json* v = Find(object, key);
  return v == nullptr || v->is_null();
}

Error Unsupported(std::string_view what, const json& got, std::string_view expected) {
  return Error(fmt::format("tokenizer.json: {} is not supported", what), Shorten(got), std::string(expected));
}

std::optional<Error> CheckModel(const json& model, BpeSource* bpe) {
  std::string type;
  if (IsAbsent(model, "type")) {
    type = "BPE";  // old files leave it out
  } else if (auto e = Read(model, "model", "type", &type)) {
    return e;
  }
  if (type != "BPE") return Unsupported("this model type", model.at("type"), "BPE");
  const json* dropout = Find(model, "dropout");
  if (dropout != nullptr && !dropout->is_null() && *dropout != 0)
    return Unsupported("model.dropout", *dropout, "null: encoding is not random");
  for (std::string_view affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!IsAbsent(model, affix) && *Find(model, affix) != "") {
      return Unsupported(fmt::format("model.{}", affix), *Find(model, affix), "null: a byte-level vocabulary has none");
    }
  }
  // unk_token, fuse_unk and byte_fallback say what becomes of characters without a token: a byte-level vocabulary has
  // none such.
  return ReadOr(model, "model", "ignore_merges", false, &bpe->ignore_merges);
}

std::optional<Error> CheckNormalizer(const json& root) {
  if (IsAbsent(root, "normalizer")) return std::nullopt;
  const json& node = *Find(root, "normalizer");
  const json* list = Find(node, "normalizers");
  const json* type = Find(node, "type");
  if (type != nullptr && *type == "Sequence" && list != nullptr && list->is_array() && list->empty())
    return std::nullopt;
  return Unsupported("this normalizer", node, "null or an empty Sequence");
}

std::optional<Error> CheckDecoder(const json& root) {
  const json* decoder = Find(root, "decoder");
  const json* type = decoder == nullptr ? nullptr : Find(*decoder, "type");
  if (type != nullptr && *type == "ByteLevel") return std::nullopt;
  return Unsupported("this decoder", decoder == nullptr ? json(nullptr) : *decoder, "ByteLevel");
}

std::optional<Error> ReadAddedTokens(const json& root, TokenizerJson* out) {
  const json* list = Find(root, "added_tokens");
  if (list == nullptr || list->is_null()) return std::nullopt;
  if (!list->is_array()) return Error("tokenizer.json: added_tokens is not a list", Shorten(*list));
  if (list->size() > kMaxAddedTokens)
    return Error("tokenizer.json: too many added tokens", fmt::format("{}", list->size()),
                 fmt::format("at most {}", kMaxAddedTokens));
  constexpr std::string_view kWhere = "added_tokens[]";
  for (const json& node : *list) {
    AddedToken t;
    int64_t id = -1;
    if (auto e = Read(node, kWhere, "content", &t.content)) return e;
    if (auto e = Read(node, kWhere, "id", &id)) return e;
    if (auto e = ReadOr(node, kWhere, "special", false, &t.special)) return e;
    if (auto e = ReadOr(node, kWhere, "normalized", !t.special, &t.normalized)) return e;
    if (auto e = ReadOr(node, kWhere, "lstrip", false, &t.lstrip)) return e;
    if (auto e = ReadOr(node, kWhere, "rstrip", false, &t.rstrip)) return e;
    if (auto e = ReadOr(node, kWhere, "single_word", false, &t.single_word)) return e;
    if (id < 0 || id >= Tokenizer::kMaxIds)
      return Error("tokenizer.json: an added token's id is out of range", Shorten(node),
                   fmt::format("0 to {}", Tokenizer::kMaxIds - 1));
    if (t.content.size() > kMaxAddedContent)
      return Error("tokenizer.json: an added token is too long", fmt::format("id {}, {} bytes", id, t.content.size()),
                   fmt::format("at most {}", kMaxAddedContent));
    if (t.content.empty()) continue;  // can never be met
    t.id = static_cast<TokenId>(id);
    out->added_tokens.push_back(std::move(t));
  }
  auto& tokens = out->added_tokens;
  std::stable_sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  std::unordered_map<std::string_view, TokenId> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if ((i > 0 && tokens[i].id == tokens[i - 1].id) || !seen.emplace(tokens[i].content, tokens[i].id).second) {
      return Error("tokenizer.json: two added tokens share an id or a content",
                   fmt::format("id {}, \"{}\"", tokens[i].id, tokens[i].content));
    }
  }
  return std::nullopt;
}

}  // namespace

Result<TokenizerJson> ReadTokenizerJson(std::string_view bytes) {
  if (bytes.size() > Tokenizer::kMaxFile) {
    return Error("tokenizer.json is too large", fmt::format("{} bytes", bytes.size()),
                 fmt::format("at most {}", Tokenizer::kMaxFile));
  }
  TokenizerJson out;
  Reader reader(&out);
  if (!json::sax_parse(bytes.begin(), bytes.end(), &reader)) {
    std::optional<Error> error = reader.TakeError();
    return error ? *std::move(error) : Error("tokenizer.json is not valid JSON");
  }
  const json& root = out.rest;
  const json* model = Find(root, "model");
  if (model == nullptr || !model->is_object()) {
    return Error("tokenizer.json has no \"model\"", Shorten(root), "an object with model, pre_tokenizer and decoder",
                 "the file that Hugging Face tokenizers writes (Tokenizer.save)");
  }
  if (auto e = CheckModel(*model, &out.bpe)) return *std::move(e);
  // A table of the right type was diverted and is not in the rest.
  if (!reader.saw_vocab() || model->contains("vocab")) {
    return Error("tokenizer.json: model.vocab is missing or no object", "", "token strings with integer ids");
  }
  if (!reader.saw_merges() || model->contains("merges")) {
    return Error("tokenizer.json: model.merges is missing or no list", "", "\"a b\" or [\"a\", \"b\"] each");
  }
  if (auto e = CheckNormalizer(root)) return *std::move(e);
  if (auto e = CheckDecoder(root)) return *std::move(e);
  if (auto e = ReadAddedTokens(root, &out)) return *std::move(e);
  return out;
}

}  // namespace fathom::tokenizer
