#include "tokenizer/model_files.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tokenizer/json_read.h"

namespace fathom::tokenizer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxConfig = 16u << 20;

json ReadJson(const std::string& path) {
  json out = json::parse(ReadTextFile(path, kMaxConfig), nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) throw Error("not a JSON object", path);
  return out;
}

// A token of tokenizer_config.json: a string, or an object with its content.
std::string TokenText(const json& config, std::string_view key, const std::string& path) {
  const json* v = Find(config, key);
  if (v == nullptr || v->is_null()) return "";
  if (v->is_object() && v->contains("content")) v = &v->at("content");
  if (!v->is_string())
    throw Error(fmt::format("{}: {} is no token", path, key), Shorten(*v), "a string, or an object with \"content\"");
  return v->get<std::string>();
}

std::optional<TokenId> IdOfText(const Tokenizer& tokenizer, const std::string& text, std::string_view key,
                                const std::string& path) {
  if (text.empty()) return std::nullopt;
  const std::optional<TokenId> id = tokenizer.IdOf(text);
  if (!id) throw Error(fmt::format("{}: {} is not in the tokenizer's vocabulary", path, key), text);
  return id;
}

std::optional<TokenId> IdOfConfig(const Tokenizer& tokenizer, const json& config, std::string_view key) {
  const json* v = Find(config, key);
  if (v != nullptr && v->is_array() && !v->empty()) v = &v->front();
  int64_t id = -1;
  if (v == nullptr || !Get(*v, &id) || id < 0 || id >= tokenizer.vocab_size()) return std::nullopt;
  return static_cast<TokenId>(id);
}

// "chat_template": a string, or a list of {name, template} of which "default" counts.
std::optional<std::string> TemplateOf(const json& config, const std::string& path) {
  const json* v = Find(config, "chat_template");
  if (v == nullptr || v->is_null()) return std::nullopt;
  if (v->is_string()) return v->get<std::string>();
  if (v->is_array()) {
    for (const json& item : *v) {
      const json *name = Find(item, "name"), *source = Find(item, "template");
      if (name != nullptr && *name == "default" && source != nullptr && source->is_string())
        return source->get<std::string>();
    }
  }
  throw Error(fmt::format("{}: chat_template has the wrong type", path), Shorten(*v),
              "a string, or a list with a \"default\"");
}

}  // namespace

std::string ReadTextFile(const std::string& path, size_t most) {
  if (fs::is_directory(path)) throw Error("cannot read a directory as a file", path);
  errno = 0;
  gzFile file = gzopen(path.c_str(), "rb");  // reads plain files as they are
  if (file == nullptr) throw Error("cannot open a file", fmt::format("{}: {}", path, std::strerror(errno)));
  std::string out;
  int n = 0;
  constexpr unsigned kStep = 1 << 20;
  do {
    const size_t size = out.size();
    out.resize(size + kStep);
    n = gzread(file, out.data() + size, kStep);
    out.resize(size + std::max(n, 0));
  } while (n > 0 && out.size() <= most);
  const bool failed = n < 0 || gzclose_r(file) != Z_OK;
  if (failed) throw Error("cannot read a file", path, "", "it may be cut short or no gzip file");
  if (out.size() > most) throw Error("a file is too large", path, fmt::format("at most {} bytes", most));
  return out;
}

ModelText LoadModelText(const std::string& path) {
  constexpr std::string_view kName = "tokenizer.json";
  fs::path file = path;
  if (fs::is_directory(file)) {
    file /= kName;
    if (!fs::exists(file) && fs::exists(file.string() + ".gz")) file += ".gz";
  }
  if (!fs::exists(file)) {
    throw Error("no tokenizer found", file.string(), "a model directory with tokenizer.json, or such a file");
  }
  const std::string name = file.filename().string();
  const size_t at = name.rfind(kName);
  const std::string prefix = at == std::string::npos ? "" : name.substr(0, at);
  const bool has_neighbours = at != std::string::npos;
  auto beside = [&](const char* other) { return (file.parent_path() / (prefix + other)).string(); };

  ModelText out{.tokenizer = Tokenizer::FromJson(ReadTextFile(file.string(), Tokenizer::kMaxFile)).Value(),
                .bos_token = "",
                .eos_token = "",
                .chat_template = std::nullopt};
  if (!has_neighbours) return out;
  if (const std::string p = beside("tokenizer_config.json"); fs::exists(p)) {
    const json config = ReadJson(p);
    out.bos_token = TokenText(config, "bos_token", p);
    out.eos_token = TokenText(config, "eos_token", p);
    out.tokenizer.set_bos_id(IdOfText(out.tokenizer, out.bos_token, "bos_token", p));
    out.tokenizer.set_eos_id(IdOfText(out.tokenizer, out.eos_token, "eos_token", p));
    if (const json* add = Find(config, "add_bos_token"); add != nullptr && add->is_boolean())
      out.add_bos_token = add->get<bool>();
    out.chat_template = TemplateOf(config, p);
  }
  if (const std::string p = beside("chat_template.jinja"); fs::exists(p))
    out.chat_template = ReadTextFile(p, kMaxConfig);
  if (const std::string p = beside("config.json");
      fs::exists(p) && (!out.tokenizer.bos_id() || !out.tokenizer.eos_id())) {
    const json config = ReadJson(p);
    auto fill = [&](std::optional<TokenId> have, std::string_view key, std::string& text) {
      const std::optional<TokenId> id = have ? have : IdOfConfig(out.tokenizer, config, key);
      if (id && text.empty()) text = std::string(out.tokenizer.TokenBytes(*id));
      return id;
    };
    out.tokenizer.set_bos_id(fill(out.tokenizer.bos_id(), "bos_token_id", out.bos_token));
    out.tokenizer.set_eos_id(fill(out.tokenizer.eos_id(), "eos_token_id", out.eos_token));
  }
  return out;
}

}  // namespace fathom::tokenizer
