#include "tokenizer/v3_files.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tokenizer/published_scanner.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

Json AddedTokens(int64_t vocabulary) {
  Json list = Json::array();
  auto add = [&](const std::string& content, int64_t id) {
    list.push_back({{"id", id},
                    {"content", content},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  };
  for (size_t i = 0; i < V3FirstTokens().size(); ++i) add(V3FirstTokens()[i], static_cast<int64_t>(i));
  for (const std::string& content : V3LastTokens()) add(content, vocabulary++);
  return list;
}

Json PreTokenizerJson() {
  Json steps = Json::array();
  for (const std::string_view expression : PublishedScanner::Expressions()) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", std::string(expression)}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Json ByteLevel(bool trim_offsets) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", trim_offsets}, {"use_regex", true}};
}

std::string Quoted(const std::string& text) { return Json(text).dump(); }

}  // namespace

const std::vector<std::string>& V3FirstTokens() {
  static const std::vector<std::string> tokens = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
  return tokens;
}

const std::vector<std::string>& V3LastTokens() {
  static const std::vector<std::string> tokens = {"<｜fim▁hole｜>",
                                                  "<｜fim▁begin｜>",
                                                  "<｜fim▁end｜>",
                                                  "<｜User｜>",
                                                  "<｜Assistant｜>",
                                                  "<|EOT|>",
                                                  "<｜tool▁calls▁begin｜>",
                                                  "<｜tool▁calls▁end｜>",
                                                  "<｜tool▁call▁begin｜>",
                                                  "<｜tool▁call▁end｜>",
                                                  "<｜tool▁outputs▁begin｜>",
                                                  "<｜tool▁outputs▁end｜>",
                                                  "<｜tool▁output▁begin｜>",
                                                  "<｜tool▁output▁end｜>",
                                                  "<｜tool▁sep｜>"};
  return tokens;
}

std::string V3TokenizerJson(const BpeSource& bpe) {
  FATHOM_CHECK(bpe.vocabulary.size() >= V3FirstTokens().size());
  const Json head = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", AddedTokens(static_cast<int64_t>(bpe.vocabulary.size()))},
                     {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array()}}},
                     {"pre_tokenizer", PreTokenizerJson()},
                     {"post_processor", ByteLevel(false)},
                     {"decoder", ByteLevel(true)}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false}};
  // The two long tables are written out by hand: one entry a line.
  std::string out = head.dump(2);
  out.resize(out.size() - 2);  // "\n}"
  out += ",\n  \"model\": {\n";
  for (const auto& [key, value] : model.items()) out += "    " + Quoted(key) + ": " + value.dump() + ",\n";
  out += "    \"vocab\": {";
  const char* between = "\n";
  for (const auto& [name, id] : bpe.vocabulary) {
    out.append(between).append("      ").append(Quoted(name)).append(": ").append(std::to_string(id));
    between = ",\n";
  }
  out += "\n    },\n    \"merges\": [";
  between = "\n";
  for (const auto& [left, right] : bpe.merges) {
    out.append(between).append("      ").append(Quoted(left + " " + right));
    between = ",\n";
  }
  return out + "\n    ]\n  }\n}\n";
}

std::string V3TokenizerConfig(int64_t model_max_length) {
  auto token = [](const std::string& content) -> Json {
    return {{"__type", "AddedToken"}, {"content", content}, {"lstrip", false},
            {"normalized", true},     {"rstrip", false},    {"single_word", false}};
  };
  const Json config = {{"add_bos_token", true},
                       {"add_eos_token", false},
                       {"bos_token", token(V3FirstTokens()[0])},
                       {"clean_up_tokenization_spaces", false},
                       {"eos_token", token(V3FirstTokens()[1])},
                       {"legacy", true},
                       {"model_max_length", model_max_length},
                       {"pad_token", token(V3FirstTokens()[2])},
                       {"sp_model_kwargs", Json::object()},
                       {"unk_token", nullptr},
                       {"tokenizer_class", "LlamaTokenizerFast"}};
  return config.dump(2) + "\n";
}

}  // namespace fathom::tokenizer
