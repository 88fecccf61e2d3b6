#include "train/run_state_json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/hash.h"

namespace fathom::train {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr std::string_view kFirstKey = "{\"checksum\": \"";
constexpr size_t kFirstLine = kFirstKey.size() + 16 + 3;  // with the quote, the comma and the line's end

std::string Hex(uint64_t x) { return fmt::format("{:016x}", x); }

uint64_t FromHex(const std::string& text) {
  uint64_t x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size())
    throw Error("not a checksum", text, "16 hexadecimal digits");
  return x;
}

// JSON has no numbers that are not finite.
json FromDoubles(const std::vector<double>& values) {
  json out = json::array();
  for (double x : values) out.push_back(std::isfinite(x) ? json(x) : json(fmt::format("{}", x)));
  return out;
}

std::vector<double> ToDoubles(const json& values) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<double> out;
  for (const json& x : values) {
    const std::string name = x.is_string() ? x.get<std::string>() : "";
    out.push_back(name.empty()     ? x.get<double>()
                  : name == "inf"  ? kInf
                  : name == "-inf" ? -kInf
                                   : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

// v(key, field) for every field but the doubles.
template <class State, class Visitor>
void VisitState(State& s, const Visitor& v) {
  v("step", s.step);
  v("tokens", s.tokens);
  v("optimizer_steps", s.optimizer_steps);
  v("seed", s.seed);
  v("data_cursor", s.data_cursor);
  v("recipe_toml", s.recipe_toml);
  v("model_config_json", s.model_config_json);
  v("skipped_steps", s.skipped_steps);
  v("skips_in_a_row", s.skips_in_a_row);
}

StateContents FromJson(const json& j) {
  if (j.at("format").get<int>() != kFormat)
    throw Error("a format that is not known", std::to_string(j.at("format").get<int>()), std::to_string(kFormat),
                "it was saved by another version of fathom");
  StateContents out;
  const json& state = j.at("state");
  VisitState(out.state, [&](const char* key, auto& field) { state.at(key).get_to(field); });
  out.state.recent_losses = ToDoubles(state.at("recent_losses"));
  out.state.recent_norms = ToDoubles(state.at("recent_norms"));
  for (const json& file : j.at("files")) {
    StateFile& f = out.files.emplace_back();
    file.at("name").get_to(f.name);
    file.at("bytes").get_to(f.bytes);
    f.head = FromHex(file.at("head"));
    for (const auto& [name, checksum] : file.at("tensors").items()) f.tensors.emplace(name, FromHex(checksum));
  }
  return out;
}

}  // namespace

uint64_t ChecksumOf(std::string_view bytes) { return data::HashText(bytes); }

uint64_t ChecksumOfPieces(std::span<const uint64_t> pieces) {
  uint64_t hash = pieces.size();
  for (uint64_t piece : pieces) hash = data::HashPair(hash, piece);
  return hash;
}

std::string StateText(const StateContents& contents) {
  json state = json::object(), files = json::array();
  VisitState(contents.state, [&](const char* key, const auto& field) { state[key] = field; });
  state["recent_losses"] = FromDoubles(contents.state.recent_losses);
  state["recent_norms"] = FromDoubles(contents.state.recent_norms);
  for (const StateFile& f : contents.files) {
    json tensors = json::object();
    for (const auto& [name, checksum] : f.tensors) tensors[name] = Hex(checksum);
    files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"head", Hex(f.head)}, {"tensors", std::move(tensors)}});
  }
  try {
    const std::string rest =
        fmt::format("\"format\": {},\n\"state\": {},\n\"files\": {}}}\n", kFormat, state.dump(1), files.dump(1));
    return fmt::format("{}{}\",\n{}", kFirstKey, Hex(ChecksumOf(rest)), rest);
  } catch (const json::exception& e) {
    throw Error("the run's state cannot be written as JSON", e.what(), "text in UTF-8",
                "are there bytes in the recipe's paths that are not UTF-8?");
  }
}

Result<StateContents> ParseStateText(std::string_view text, const std::string& path) {
  if (text.size() < kFirstLine || text.substr(0, kFirstKey.size()) != kFirstKey)
    return Error(path + " is damaged", "no checksum on its first line");
  try {
    const uint64_t said = FromHex(std::string(text.substr(kFirstKey.size(), 16)));
    const uint64_t is = ChecksumOf(text.substr(kFirstLine));
    if (said != is || text.substr(kFirstLine - 3, 3) != "\",\n")
      return Error(path + " is damaged", "checksum " + Hex(is), Hex(said));
    return FromJson(json::parse(text));
  } catch (const Error& e) {
    return Error(path + ": " + e.summary(), e.got(), e.expected(), e.hint());
  } catch (const json::exception& e) {
    return Error(path + " is not the state of a run", e.what());
  }
}

}  // namespace fathom::train
