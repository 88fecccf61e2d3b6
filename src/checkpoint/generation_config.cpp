#include "checkpoint/generation_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace fathom::checkpoint {
namespace {

using nlohmann::json;

Error Wrong(const char* key, const json& got, std::string expected) {
  std::string text = got.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 80) + "...";
  return Error(key, std::move(text), std::move(expected));
}

const json* Find(const json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

void Read(const json& object, const char* key, double min, double max, std::optional<double>& out) {
  const json* v = Find(object, key);
  if (!v) return;
  const double x = v->is_number() ? v->get<double>() : -1;
  if (!v->is_number() || !(x >= min && x <= max)) throw Wrong(key, *v, fmt::format("a number from {} to {}", min, max));
  out = x;
}

int64_t Integer(const char* key, const json& v) {
  constexpr int64_t kMost = 1 << 30;
  if (!v.is_number_integer() || v.get<int64_t>() < 0 || v.get<int64_t>() > kMost)
    throw Wrong(key, v, fmt::format("a whole number from 0 to {}", kMost));
  return v.get<int64_t>();
}

}  // namespace

Result<GenerationConfig> ParseGenerationConfig(std::string_view text) {
  constexpr size_t kMaxBytes = 1 << 20, kMaxIds = 1000;
  if (text.size() > kMaxBytes)
    return Error("the file is too large", fmt::format("{} bytes", text.size()), "at most 1 MiB");
  const json document = json::parse(text.begin(), text.end(), nullptr, false);
  if (!document.is_object()) return Error("not a JSON object");
  GenerationConfig out;
  try {
    if (const json* v = Find(document, "do_sample")) {
      if (!v->is_boolean()) throw Wrong("do_sample", *v, "true or false");
      out.do_sample = v->get<bool>();
    }
    Read(document, "temperature", 0, 100, out.temperature);
    Read(document, "top_p", 0, 1, out.top_p);
    Read(document, "min_p", 0, 1, out.min_p);
    Read(document, "repetition_penalty", 1e-3, 1e3, out.repetition_penalty);
    if (const json* v = Find(document, "top_k")) out.top_k = Integer("top_k", *v);
    if (const json* v = Find(document, "bos_token_id")) out.bos_token_id = Integer("bos_token_id", *v);
    if (const json* v = Find(document, "eos_token_id")) {
      if (!v->is_array()) {
        out.eos_token_id.push_back(Integer("eos_token_id", *v));
      } else {
        if (v->size() > kMaxIds) throw Wrong("eos_token_id", *v, fmt::format("at most {} ids", kMaxIds));
        for (const json& id : *v) out.eos_token_id.push_back(Integer("eos_token_id", id));
      }
    }
  } catch (const Error& e) {
    return e;
  }
  return out;
}

}  // namespace fathom::checkpoint
