#include "cli/serve_config.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "core/error.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

constexpr int64_t kMaxFile = 1 << 20;

[[noreturn]] void Fail(const std::string& path, const toml::node& node, const std::string& what,
                       const std::string& expected = "") {
  throw Error(fmt::format("{}: line {}: {}", path, node.source().begin.line, what), "", expected,
              "fathom serve --help has all options");
}

// A value as the command line would have it.
std::string Text(const toml::node& node, const std::string& path, const std::string& key) {
  if (const auto* v = node.as_string()) return v->get();
  if (const auto* v = node.as_boolean()) return v->get() ? "true" : "false";
  if (const auto* v = node.as_integer()) return fmt::format("{}", v->get());
  if (const auto* v = node.as_floating_point()) return fmt::format("{}", v->get());
  Fail(path, node, fmt::format("{} has the wrong type", key), "a string, a number, true or false, or a list of these");
}

std::string OptionNames(const CLI::App& command) {
  std::string names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return names;
}

void Apply(CLI::App& command, const toml::table& table, const std::string& path, bool top) {
  for (const auto& [name, node] : table) {
    std::string key(name.str());
    if (top && key == "models" && node.is_array_of_tables()) continue;
    std::replace(key.begin(), key.end(), '_', '-');
    if (!top && key == "name") key = "served-model-name";
    if (!top && key == "path") key = "model";
    CLI::Option* option = command.get_option_no_throw(key == "model" ? "MODEL" : "--" + key);
    if (!option || key == "config" || key == "help") {
      Fail(path, node, fmt::format("unknown key {}", std::string(name.str())), OptionNames(command));
    }
    if (option->count() > 0) continue;
    std::vector<std::string> values;
    if (const toml::array* list = node.as_array()) {
      for (const toml::node& element : *list) values.push_back(Text(element, path, key));
    } else {
      values.push_back(Text(node, path, key));
    }
    if (option->get_expected_max() <= 1 && values.size() != 1) Fail(path, node, fmt::format("{} takes one value", key));
    try {
      for (const std::string& value : values) option->add_result(value);
      option->run_callback();
    } catch (const CLI::Error& e) {
      Fail(path, node, fmt::format("{}: {}", key, e.what()));
    }
  }
}

}  // namespace

void ApplyConfigFile(CLI::App& command, const std::string& path, std::vector<ApplyTable>* models) {
  toml::table table;
  try {
    table = toml::parse(io::ReadFile(path, kMaxFile).Value(), path);
  } catch (const toml::parse_error& e) {
    throw Error(fmt::format("{} is not valid TOML: line {}: {}", path, e.source().begin.line, e.description()));
  }
  Apply(command, table, path, true);
  const toml::node* list = table.get("models");
  if (!list) return;
  if (!models) Fail(path, *list, "this command has no [[models]]");
  for (const toml::node& one : *list->as_array()) {
    models->push_back([one = *one.as_table(), path](CLI::App& app) { Apply(app, one, path, false); });
  }
}

}  // namespace fathom::cli
