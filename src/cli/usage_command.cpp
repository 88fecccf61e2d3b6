// fathom usage: what keys of a server have used, from the file of its --usage-db.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "server/usage_ledger.h"

namespace fathom::cli {
namespace {

struct UsageFlags {
  std::string file, from, by = "day,key,model";
  bool json = false;
};

// The columns of `by`, in its order.
std::vector<std::string> GroupOf(const server::UsageRow& row, const std::vector<std::string>& by) {
  std::vector<std::string> group;
  for (const std::string& column : by)
    group.push_back(column == "day" ? row.day : column == "key" ? row.key : row.model);
  return group;
}

std::vector<std::string> Columns(const std::string& by) {
  std::vector<std::string> columns;
  for (size_t at = 0; at <= by.size();) {
    const size_t comma = std::min(by.find(',', at), by.size());
    columns.push_back(by.substr(at, comma - at));
    const std::string& c = columns.back();
    if (c != "day" && c != "key" && c != "model") throw Error("unknown column in --by", c, "day, key or model");
    at = comma + 1;
  }
  return columns;
}

void ShowUsage(const UsageFlags& f) {
  const std::vector<std::string> by = Columns(f.by);
  std::map<std::vector<std::string>, server::UsageSums> groups;
  server::UsageSums all;
  for (const server::UsageRow& row : server::ReadUsage(f.file, f.from)) {
    groups[GroupOf(row, by)].Add(row.sums);
    all.Add(row.sums);
  }
  const auto figures = [](const server::UsageSums& s) {
    return std::vector<int64_t>{s.requests, s.errors, s.prompt_tokens, s.cached_tokens, s.completion_tokens};
  };
  const std::vector<std::string> names = {"requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens"};
  std::vector<std::vector<std::string>> table;
  std::string lines;
  for (const auto& [group, sums] : groups) {
    nlohmann::ordered_json line;
    std::vector<std::string>& row = table.emplace_back(group);
    for (size_t i = 0; i < by.size(); ++i) line[by[i]] = group[i];
    const std::vector<int64_t> values = figures(sums);
    for (size_t i = 0; i < names.size(); ++i) {
      line[names[i]] = values[i];
      row.push_back(fmt::format("{}", values[i]));
    }
    lines += line.dump() + "\n";
  }
  if (f.json) return Print(lines);
  std::vector<std::string>& total = table.emplace_back(by.size(), "");
  total.front() = "total";
  for (int64_t v : figures(all)) total.push_back(fmt::format("{}", v));
  std::vector<std::string> head = by;
  for (const char* name : {"requests", "errors", "prompt", "of it cached", "completion"}) head.emplace_back(name);
  table.insert(table.begin(), head);
  std::vector<size_t> widths(head.size(), 0);
  for (const auto& row : table) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : table) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += "  ";
      text += i < by.size() ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("{:>{}}", row[i], widths[i]);
    }
    text += "\n";
  }
  Print(text);
}

}  // namespace

void AddUsageCommand(CLI::App& app, int&) {
  auto f = std::make_shared<UsageFlags>();
  CLI::App* c = app.add_subcommand("usage", "Show what API keys of a server have used");
  c->add_option("FILE", f->file, "The file of fathom serve --usage-db")->required();
  c->add_option("--by", f->by, "Columns that sums are for: day, key, model")->capture_default_str()->type_name("LIST");
  c->add_option("--from", f->from, "First day, as in 2026-01-31 (UTC)")->type_name("DAY");
  c->add_flag("--json", f->json, "A JSON object a line");
  c->callback([f] { ShowUsage(*f); });
}

}  // namespace fathom::cli
