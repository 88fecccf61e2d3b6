// Recipes as TOML: reading with errors that name the place and the nearest key, --set, and printing.
#include "train/recipe_toml.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "io/file.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxRecipeBytes = 1 << 20;
constexpr size_t kMaxSegments = 1000;
constexpr std::string_view kStagesPrefix = "stages.";
constexpr const char* kRopeKeys =
    "a table {type = \"yarn\", factor, original_max_position_embeddings, beta_fast = 32, beta_slow = 1, mscale = 1, "
    "mscale_all_dim = 1}";

template <class S, class Visitor>
void VisitRopeFields(S& s, Visitor&& v) {
  v("factor", s.factor);
  v("original_max_position_embeddings", s.original_max_position_embeddings);
  v("beta_fast", s.beta_fast);
  v("beta_slow", s.beta_slow);
  v("mscale", s.mscale);
  v("mscale_all_dim", s.mscale_all_dim);
}

// The names of an enumeration's values, in order; the first parameter only chooses the overload.
constexpr std::array<std::string_view, 3> Names(Precision) { return {"bf16", "fp32", "fp8"}; }
constexpr std::array<std::string_view, 2> Names(model::Recompute) { return {"paper", "full"}; }
constexpr std::array<std::string_view, 3> Names(MomentType) { return {"fp32", "bf16", "auto"}; }
constexpr std::array<std::string_view, 2> Names(GradientTiles) { return {"1x128", "128x128"}; }
constexpr std::array<std::string_view, 4> Names(ExportType) { return {"auto", "f32", "bf16", "fp8"}; }
constexpr std::array<std::string_view, 3> Names(PipelineSchedule) { return {"1f1b", "zb1p", "dualpipe"}; }
constexpr std::array<std::string_view, 3> Names(PeakKind) { return {"bf16", "fp8", "fp32"}; }
constexpr std::array<std::string_view, 2> Names(NonfinitePolicy) { return {"skip", "stop"}; }
constexpr std::array<std::string_view, 3> Names(SegmentKind) { return {"constant", "linear", "cosine"}; }

template <class E>
std::string NameOf(E value) {
  return fmt::format("\"{}\"", Names(value)[static_cast<size_t>(value)]);
}

// Insertions, deletions, replacements and swaps of neighbours that lead from a to b.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::string_view LastPart(std::string_view key) { return key.substr(key.rfind('.') + 1); }

// The known key that is meant by `key`: near as a whole, or of the same name in another section. Empty if none is near.
std::string Nearest(std::string_view key, const std::vector<std::string>& known) {
  constexpr size_t kLongest = 200;
  std::string best;
  size_t least = std::max<size_t>(2, key.size() / 4) + 1;
  if (key.size() > kLongest) return best;
  for (const std::string& k : known) {
    const size_t whole = EditDistance(key, k), last = EditDistance(LastPart(key), LastPart(k)) + 1;
    const size_t distance = LastPart(k).size() >= 2 * last ? std::min(whole, last) : whole;
    if (distance < least) {
      least = distance;
      best = k;
    }
  }
  return best;
}

// Reads nodes of one TOML text.
class Reader {
 public:
  Reader(std::string origin, std::string folder) : origin_(std::move(origin)), folder_(std::move(folder)) {}

  [[noreturn]] void Fail(const std::string& what, const toml::node& node, const std::string& expected,
                         const std::string& hint = "") const {
    throw Error{fmt::format("{} {}", origin_, what), Describe(node), expected, hint};
  }

  [[noreturn]] void FailUnknown(const std::string& key, const toml::node& node,
                                const std::vector<std::string>& known) const {
    const std::string nearest = Nearest(key, known), section = key.substr(0, key.rfind('.') + 1);
    std::string expected = nearest;
    if (nearest.empty()) {
      for (const std::string& k : known) {
        if (section.empty() || k.rfind(section, 0) == 0) expected += (expected.empty() ? "" : ", ") + k;
      }
    }
    throw Error{fmt::format("{} has a key that is not known", origin_), fmt::format("{}{}", key, Line(node)),
                expected.empty() ? "a key of docs/train-recipe.md" : expected,
                nearest.empty() ? "docs/train-recipe.md has every key" : fmt::format("did you mean {}?", nearest)};
  }

  void Read(const toml::node& node, const std::string& key, const FieldInfo& info, std::string& out) const {
    if (!node.is_string()) FailType(key, node, "a string");
    out = node.as_string()->get();
    if (info.path) out = Resolved(out);
  }
  void Read(const toml::node& node, const std::string& key, const FieldInfo&, bool& out) const {
    if (!node.is_boolean()) FailType(key, node, "true or false");
    out = node.as_boolean()->get();
  }
  void Read(const toml::node& node, const std::string& key, const FieldInfo& info, double& out) const {
    const auto number = node.value<double>();
    if (!number || node.is_boolean()) FailType(key, node, "a number");
    out = *number;
    CheckRange(key, node, info, out);
  }
  void Read(const toml::node& node, const std::string& key, const FieldInfo& info, std::optional<double>& out) const {
    double value = 0;
    Read(node, key, info, value);
    out = value;
  }
  // Whole numbers may be written as floats: 14.8e12.
  void Read(const toml::node& node, const std::string& key, const FieldInfo& info, int64_t& out) const {
    if (node.is_integer()) {
      out = node.as_integer()->get();
    } else if (node.is_floating_point()) {
      const double value = node.as_floating_point()->get();
      if (!(std::fabs(value) < 9e18) || value != std::floor(value)) FailType(key, node, "a whole number");
      out = static_cast<int64_t>(value);
    } else {
      FailType(key, node, "a whole number");
    }
    CheckRange(key, node, info, static_cast<double>(out));
  }
  void Read(const toml::node& node, const std::string& key, FieldInfo info, uint64_t& out) const {
    int64_t value = 0;
    info.min = std::max(info.min, 0.0);
    Read(node, key, info, value);
    out = static_cast<uint64_t>(value);
  }
  template <class E, class = std::enable_if_t<std::is_enum_v<E>>>
  void Read(const toml::node& node, const std::string& key, const FieldInfo&, E& out) const {
    const auto names = Names(E{});
    const auto text = node.value<std::string>();
    const auto found = text ? std::find(names.begin(), names.end(), *text) : names.end();
    if (found == names.end()) FailType(key, node, fmt::format("\"{}\"", fmt::join(names, "\", \"")));
    out = static_cast<E>(found - names.begin());
  }
  void Read(const toml::node& node, const std::string& key, const FieldInfo& info, std::vector<int64_t>& out) const {
    if (!node.is_array()) FailType(key, node, "a list of whole numbers");
    out.clear();
    for (const toml::node& element : *node.as_array()) {
      int64_t value = 0;
      Read(element, key, info, value);
      out.push_back(value);
    }
  }
  void Read(const toml::node& node, const std::string& key, const FieldInfo&, Schedule& out) const {
    if (node.is_number()) {
      double value = 0;
      Read(node, key, {}, value);
      out = Schedule::Constant(value);
      return;
    }
    const char* expected = "a number, or a list of segments {kind, to, tokens}";
    if (!node.is_array()) FailType(key, node, expected);
    const toml::array& list = *node.as_array();
    if (list.size() > kMaxSegments) Fail(fmt::format("has too many segments in {}", key), node, "at most 1000");
    out.segments.clear();
    for (const toml::node& element : list) {
      if (!element.is_table()) FailType(key, element, expected);
      Segment segment;
      ReadTable(*element.as_table(), key, [&](auto&& visit) { VisitSegmentFields(segment, visit); });
      if (!element.as_table()->contains("kind"))
        Fail(fmt::format("has no kind in a segment of {}", key), element, "kind");
      out.segments.push_back(segment);
    }
  }
  // The keys of Hugging Face's rope_scaling.
  void Read(const toml::node& node, const std::string& key, const FieldInfo&,
            std::optional<model::RopeScaling>& out) const {
    if (!node.is_table()) FailType(key, node, kRopeKeys);
    model::RopeScaling scaling{.mscale_all_dim = 1.0};
    std::string type, rope_type;
    ReadTable(*node.as_table(), key, [&](auto&& visit) {
      visit("type", type);
      visit("rope_type", rope_type);
      VisitRopeFields(scaling, visit);
    });
    if (type.empty()) type = rope_type;
    if (!rope_type.empty() && rope_type != type) FailType(key, node, "one of type and rope_type");
    if (type == "default") {
      out = model::RopeScaling{.factor = 1.0};
      return;
    }
    if (type != "yarn") FailType(key + ".type", node, "\"yarn\", or \"default\" for none");
    const toml::table& table = *node.as_table();
    for (const char* needed : {"factor", "original_max_position_embeddings"}) {
      if (!table.contains(needed)) Fail(fmt::format("has no {} in {}", needed, key), node, needed);
    }
    CheckRange(key + ".factor", node, {.min = 1, .max = 1e6}, scaling.factor);
    CheckRange(key + ".original_max_position_embeddings", node, {.min = 1, .max = 1 << 30},
               static_cast<double>(scaling.original_max_position_embeddings));
    CheckRange(key + ".beta_slow", node, {.min = 1e-6, .max = 1e6}, scaling.beta_slow);
    CheckRange(key + ".beta_fast", node, {.min = scaling.beta_slow, .max = 1e6}, scaling.beta_fast);
    CheckRange(key + ".mscale", node, {.min = 0, .max = 1e3}, scaling.mscale);
    CheckRange(key + ".mscale_all_dim", node, {.min = 0, .max = 1e3}, scaling.mscale_all_dim);
    out = scaling;
  }
  // One source or a list of them, each a path or a table.
  void Read(const toml::node& node, const std::string& key, const FieldInfo&,
            std::vector<data::SourceOptions>& out) const {
    out.clear();
    if (!node.is_array()) {
      out.push_back(ReadSource(node, key));
      return;
    }
    for (const toml::node& element : *node.as_array()) out.push_back(ReadSource(element, key));
  }

 private:
  static std::string Line(const toml::node& node) {
    const auto line = node.source().begin.line;
    return line == 0 ? "" : fmt::format(" (line {})", line);
  }

  static std::string Describe(const toml::node& node) {
    std::ostringstream text;
    if (node.is_table() || node.is_array()) {
      text << (node.is_table() ? "a table" : "a list");
    } else {
      node.visit([&](const auto& n) {
        if constexpr (toml::is_value<decltype(n)>) text << n;
      });
    }
    constexpr size_t kShown = 80;
    std::string shown = text.str();
    if (shown.size() > kShown) shown = shown.substr(0, kShown) + "...";
    return shown + Line(node);
  }

  [[noreturn]] void FailType(const std::string& key, const toml::node& node, const std::string& expected) const {
    Fail(fmt::format("has a wrong value of {}", key), node, expected);
  }

  void CheckRange(const std::string& key, const toml::node& node, const FieldInfo& info, double value) const {
    if (value >= info.min && value <= info.max && std::isfinite(value)) return;
    Fail(fmt::format("has a value of {} that is out of range", key), node,
         std::isfinite(info.min) || std::isfinite(info.max) ? fmt::format("{} to {}", info.min, info.max)
                                                            : "a finite number");
  }

  std::string Resolved(const std::string& path) const {
    if (path.empty()) return path;
    const fs::path joined = fs::path(path).is_absolute() ? fs::path(path) : fs::path(folder_) / path;
    return fs::absolute(joined).lexically_normal().string();
  }

  // visit_fields(v) calls v(name, field) for each field of what the table is read into.
  template <class VisitAll>
  void ReadTable(const toml::table& table, const std::string& key, VisitAll&& visit_fields) const {
    std::vector<std::string> known;
    visit_fields([&](const char* name, auto& field) {
      const std::string whole = fmt::format("{}.{}", key, name);
      known.push_back(whole);
      if (const toml::node* node = table.get(name))
        Read(*node, whole, FieldInfo{.path = LastPart(whole) == "path"}, field);
    });
    for (const auto& [name, node] : table) {
      const std::string whole = fmt::format("{}.{}", key, name.str());
      if (std::find(known.begin(), known.end(), whole) == known.end()) FailUnknown(whole, node, known);
    }
  }

  data::SourceOptions ReadSource(const toml::node& node, const std::string& key) const {
    data::SourceOptions source;
    if (node.is_string()) {
      Read(node, key, FieldInfo{.path = true}, source.path);
    } else if (node.is_table()) {
      ReadTable(*node.as_table(), key, [&](auto&& visit) { data::VisitSourceFields(source, visit); });
    } else {
      FailType(key, node, "paths, or tables {path, weight, format, text_key, separator}");
    }
    return source;
  }

  std::string origin_, folder_;
};

// Kept in the order of the keys, as TOML's tables are.
void SetStageValue(StageTable& stage, const std::string& key, const std::string& value) {
  const auto at = std::lower_bound(stage.values.begin(), stage.values.end(), key,
                                   [](const auto& entry, const std::string& k) { return entry.first < k; });
  if (at != stage.values.end() && at->first == key) {
    at->second = value;
  } else {
    stage.values.emplace(at, key, value);
  }
}

// Hands every value of the table to its field, sections being tables whose name begins a known key.
void ReadSection(const Reader& reader, const toml::table& table, const std::string& prefix, Recipe& recipe,
                 const std::vector<std::string>& known) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const toml::node& value = node;
    bool found = false;
    VisitFields(recipe, [&](const std::string& field_key, auto& field, const FieldInfo& info) {
      if (field_key != key) return;
      reader.Read(value, key, info, field);
      found = true;
    });
    if (found) continue;
    const bool section =
        std::any_of(known.begin(), known.end(), [&](const auto& k) { return k.rfind(key + ".", 0) == 0; });
    if (!value.is_table() || (!section && value.as_table()->empty())) reader.FailUnknown(key, value, known);
    ReadSection(reader, *value.as_table(), key + ".", recipe, known);
  }
}

// Every leaf of a stage's table, kept as the recipe would print it.
void ReadStageKeys(const Reader& reader, const toml::table& table, const std::string& prefix, StageTable& stage) {
  const std::vector<std::string> known = RecipeKeys();
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    if (key == "name") continue;
    const toml::node& value = node;
    bool found = false;
    Recipe scratch;
    VisitFields(scratch, [&](const std::string& field_key, auto& field, const FieldInfo& info) {
      if (field_key != key) return;
      reader.Read(value, key, info, field);
      SetStageValue(stage, key, ToTomlValue(field));
      found = true;
    });
    if (found) continue;
    const bool section =
        std::any_of(known.begin(), known.end(), [&](const auto& k) { return k.rfind(key + ".", 0) == 0; });
    if (!value.is_table() || (!section && value.as_table()->empty())) reader.FailUnknown(key, value, known);
    ReadStageKeys(reader, *value.as_table(), key + ".", stage);
  }
}

void ReadStages(const Reader& reader, const toml::node& node, Recipe& recipe) {
  const char* expected = "tables [[stages]], each with a name";
  if (!node.is_array()) reader.Fail("has a wrong value of stages", node, expected);
  for (const toml::node& element : *node.as_array()) {
    const toml::table* table = element.as_table();
    const toml::node* name = table ? table->get("name") : nullptr;
    if (!name || !name->is_string()) reader.Fail("has a stage without a name", element, expected);
    StageTable stage{.name = name->as_string()->get(), .values = {}};
    ReadStageKeys(reader, *table, "", stage);
    recipe.stages.push_back(std::move(stage));
  }
}

toml::table ParseToml(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& e) {
    throw Error{fmt::format("{} is no TOML", origin),
                fmt::format("{} (line {}, column {})", e.description(), e.source().begin.line, e.source().begin.column),
                "TOML 1.0"};
  }
}

}  // namespace

std::string ToTomlValue(const std::string& value) {
  std::string out = "\"";
  for (unsigned char c : value) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\u{:04X}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}
std::string ToTomlValue(bool value) { return value ? "true" : "false"; }
std::string ToTomlValue(int64_t value) { return fmt::format("{}", value); }
std::string ToTomlValue(uint64_t value) { return fmt::format("{}", value); }
std::string ToTomlValue(double value) { return fmt::format("{}", value); }
std::string ToTomlValue(const std::optional<double>& value) { return value ? ToTomlValue(*value) : ""; }
std::string ToTomlValue(Precision value) { return NameOf(value); }
std::string ToTomlValue(model::Recompute value) { return NameOf(value); }
std::string ToTomlValue(MomentType value) { return NameOf(value); }
std::string ToTomlValue(GradientTiles value) { return NameOf(value); }
std::string ToTomlValue(ExportType value) { return NameOf(value); }
std::string ToTomlValue(NonfinitePolicy value) { return NameOf(value); }
std::string ToTomlValue(PipelineSchedule value) { return NameOf(value); }
std::string ToTomlValue(PeakKind value) { return NameOf(value); }

std::string ToTomlValue(const std::optional<model::RopeScaling>& value) {
  if (!value) return "";
  if (value->factor == 1) return "{type = \"default\"}";
  std::string out = "{type = \"yarn\"";
  VisitRopeFields(*value, [&](const char* name, const auto& field) { out += fmt::format(", {} = {}", name, field); });
  return out + "}";
}
std::string ToTomlValue(const std::vector<int64_t>& value) { return fmt::format("[{}]", fmt::join(value, ", ")); }

std::string ToTomlValue(const Schedule& value) {
  if (value.segments.empty()) return "";
  const Segment& first = value.segments.front();
  const bool number = value.segments.size() == 1 && first.kind == SegmentKind::kConstant && first.to &&
                      first.tokens == 0 && first.steps == 0 && first.until == 0;
  if (number) return ToTomlValue(*first.to);
  std::string out = "[\n";
  for (const Segment& s : value.segments) {
    out += fmt::format("  {{kind = {}", NameOf(s.kind));
    if (s.from) out += fmt::format(", from = {}", *s.from);
    if (s.to) out += fmt::format(", to = {}", *s.to);
    if (s.tokens > 0) out += fmt::format(", tokens = {}", s.tokens);
    if (s.steps > 0) out += fmt::format(", steps = {}", s.steps);
    if (s.until > 0) out += fmt::format(", until = {}", s.until);
    out += "},\n";
  }
  return out + "]";
}

std::string ToTomlValue(const std::vector<data::SourceOptions>& value) {
  if (value.empty()) return "[]";
  std::string out = "[\n";
  for (const data::SourceOptions& source : value) {
    std::string fields;
    data::VisitSourceFields(source, [&](const char* name, const auto& field) {
      fields += fmt::format("{}{} = {}", fields.empty() ? "" : ", ", name, ToTomlValue(field));
    });
    out += fmt::format("  {{{}}},\n", fields);
  }
  return out + "]";
}

Recipe ParseRecipe(std::string_view toml, const std::string& origin, const std::string& folder) {
  Recipe recipe;
  toml::table table = ParseToml(toml, origin);
  const Reader reader(origin, folder);
  if (const toml::node* name = table.get("name")) reader.Read(*name, "name", {}, recipe.name);
  if (const toml::node* stages = table.get("stages")) ReadStages(reader, *stages, recipe);
  table.erase("name");
  table.erase("stages");
  ReadSection(reader, table, "", recipe, RecipeKeys());
  return recipe;
}

Recipe ReadRecipe(const std::string& path) {
  const std::string text = io::ReadFile(path, kMaxRecipeBytes).Value();
  return ParseRecipe(text, path, fs::path(path).parent_path().string());
}

void SetField(Recipe& recipe, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw Error{"--set has no key=value", std::string(assignment), "--set train.steps=10"};
  }
  const auto trim = [](std::string_view s) {
    const size_t begin = s.find_first_not_of(" \t"), end = s.find_last_not_of(" \t");
    return begin == std::string_view::npos ? std::string() : std::string(s.substr(begin, end - begin + 1));
  };
  const std::string key = trim(assignment.substr(0, equals)), text = trim(assignment.substr(equals + 1));
  const Reader reader("--set", "");
  toml::table table;
  toml::table bare;
  bare.insert("v", text);
  try {
    table = toml::parse("v = " + text);
  } catch (const toml::parse_error&) {
    table = bare;
  }
  if (table.size() != 1) table = bare;
  if (key == "name") {
    reader.Read(*(table.get("v")->is_string() ? table : bare).get("v"), key, {}, recipe.name);
    return;
  }
  // Of a stage: read into a recipe that is thrown away, printed into the stage's table.
  StageTable* stage = nullptr;
  std::string field_name = key;
  if (key.rfind(kStagesPrefix, 0) == 0) {
    const size_t dot = key.find('.', kStagesPrefix.size());
    const std::string name = key.substr(kStagesPrefix.size(), dot - kStagesPrefix.size());
    const auto at =
        std::find_if(recipe.stages.begin(), recipe.stages.end(), [&](const auto& s) { return s.name == name; });
    if (dot == std::string::npos || at == recipe.stages.end()) {
      std::string names;
      for (const StageTable& s : recipe.stages) names += (names.empty() ? "" : ", ") + s.name;
      throw Error("--set names a stage that the recipe does not have", key,
                  names.empty() ? "a recipe with [[stages]]" : fmt::format("stages.NAME.key, NAME one of {}", names));
    }
    stage = &*at;
    field_name = key.substr(dot + 1);
  }
  Recipe scratch;
  bool found = false;
  VisitFields(stage ? scratch : recipe, [&](const std::string& field_key, auto& field, const FieldInfo& info) {
    if (field_key != field_name) return;
    found = true;
    const bool is_text = std::is_same_v<std::decay_t<decltype(field)>, std::string>;
    const toml::table& from = is_text && !table.get("v")->is_string() ? bare : table;
    reader.Read(*from.get("v"), key, info, field);
    if (stage) SetStageValue(*stage, field_name, ToTomlValue(field));
  });
  if (!found) reader.FailUnknown(field_name, *bare.get("v"), RecipeKeys());
}

void SetPrinted(Recipe& recipe, const std::string& key, const std::string& value) {
  const toml::table table = ParseToml("v = " + value, key);
  const Reader reader(key, "");
  VisitFields(recipe, [&](const std::string& field_key, auto& field, const FieldInfo& info) {
    if (field_key == key) reader.Read(*table.get("v"), key, info, field);
  });
}

std::string ToToml(const Recipe& recipe) {
  std::string out, section;
  if (!recipe.stages.empty() || recipe.name != Recipe().name)
    out += fmt::format("name = {}\n\n", ToTomlValue(recipe.name));
  VisitFields(recipe, [&](const std::string& key, const auto& field, const FieldInfo&) {
    const std::string its_section = key.substr(0, key.find('.'));
    if (its_section != section) {
      out += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", its_section);
      section = its_section;
    }
    const std::string value = ToTomlValue(field);
    out += value.empty() ? fmt::format("# {} is not set\n", LastPart(key))
                         : fmt::format("{} = {}\n", LastPart(key), value);
  });
  for (const StageTable& stage : recipe.stages) {
    out += fmt::format("\n[[stages]]\nname = {}\n", ToTomlValue(stage.name));
    for (const auto& [key, value] : stage.values) out += fmt::format("{} = {}\n", key, value);
  }
  return out;
}

}  // namespace fathom::train
