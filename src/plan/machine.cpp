#include "plan/machine.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "io/file.h"

namespace fathom::plan {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;
constexpr double kLarge = 1e12;

// v(key, field, least, greatest) for every key.
template <class Visitor>
void VisitFields(Machine& m, Visitor&& v) {
  v("name", m.name, 0, 0);
  v("source", m.source, 0, 0);
  v("devices", m.devices, 1, 1e7);
  v("devices_per_node", m.devices_per_node, 1, 1e4);
  v("memory_gib", m.memory_gib, 1e-3, kLarge);
  v("host_memory_gib", m.host_memory_gib, 0, kLarge);
  v("peak_bf16_tflops", m.peak_bf16_tflops, 1e-6, kLarge);
  v("peak_fp8_tflops", m.peak_fp8_tflops, 1e-6, kLarge);
  v("peak_fp32_tflops", m.peak_fp32_tflops, 1e-6, kLarge);
  v("node_gb_s", m.node_gb_s, 0, kLarge);
  v("network_gb_s", m.network_gb_s, 0, kLarge);
  v("usd_per_device_hour", m.usd_per_device_hour, 0, kLarge);
  v("mfu", m.mfu, 1e-6, 1);
}

std::string Shown(const toml::node& node) {
  std::string text = "a table or list";
  if (node.is_string()) text = fmt::format("\"{}\"", node.as_string()->get());
  if (node.is_integer()) text = fmt::format("{}", node.as_integer()->get());
  if (node.is_floating_point()) text = fmt::format("{}", node.as_floating_point()->get());
  if (node.is_boolean()) text = node.as_boolean()->get() ? "true" : "false";
  constexpr size_t kShown = 80;
  if (text.size() > kShown) text = text.substr(0, kShown) + "...";
  return fmt::format("{} (line {})", text, node.source().begin.line);
}

[[noreturn]] void FailValue(const std::string& path, const char* key, const toml::node& node,
                            const std::string& expected) {
  throw Error{fmt::format("the machine file {} has a wrong value of {}", path, key), Shown(node), expected};
}

void Read(const std::string& path, const char* key, const toml::node& node, double, double, std::string& out) {
  if (!node.is_string()) FailValue(path, key, node, "a string");
  out = node.as_string()->get();
}
void Read(const std::string& path, const char* key, const toml::node& node, double least, double greatest,
          double& out) {
  const bool number = node.is_integer() || node.is_floating_point();
  const double value = number ? *node.value<double>() : NAN;
  if (!(value >= least && value <= greatest)) {
    FailValue(path, key, node, fmt::format("a number from {:g} to {:g}", least, greatest));
  }
  out = value;
}
void Read(const std::string& path, const char* key, const toml::node& node, double least, double greatest,
          int64_t& out) {
  double value = 0;
  Read(path, key, node, least, greatest, value);
  if (value != std::floor(value)) FailValue(path, key, node, "a whole number");
  out = static_cast<int64_t>(value);
}

}  // namespace

double Machine::Peak(train::PeakKind kind) const {
  switch (kind) {
    case train::PeakKind::kBf16:
      return peak_bf16_tflops * 1e12;
    case train::PeakKind::kFp8:
      return peak_fp8_tflops * 1e12;
    default:
      return peak_fp32_tflops * 1e12;
  }
}

const char* Name(train::PeakKind kind) {
  switch (kind) {
    case train::PeakKind::kBf16:
      return "BF16";
    case train::PeakKind::kFp8:
      return "FP8";
    default:
      return "FP32";
  }
}

Machine ParseMachine(std::string_view text, const std::string& path) {
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& e) {
    throw Error{fmt::format("the machine file {} is no TOML", path),
                fmt::format("{} (line {}, column {})", e.description(), e.source().begin.line, e.source().begin.column),
                "TOML 1.0"};
  }
  Machine machine;
  machine.path = path;
  std::vector<std::string> keys, missing;
  VisitFields(machine, [&](const char* key, auto&, double, double) {
    keys.emplace_back(key);
    if (!table.contains(key)) missing.emplace_back(key);
  });
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(keys.begin(), keys.end(), name) != keys.end()) continue;
    throw Error{fmt::format("the machine file {} has a key that is not known", path),
                fmt::format("{} (line {})", name, node.source().begin.line),
                missing.empty() ? fmt::format("{}", fmt::join(keys, ", "))
                                : fmt::format("{}, which it lacks", fmt::join(missing, ", ")),
                "docs/plan.md has every key"};
  }
  if (!missing.empty()) {
    throw Error{fmt::format("the machine file {} lacks {}", path, missing.front()),
                fmt::format("{} keys", table.size()),
                fmt::format("{}: every key must be given", fmt::join(missing, ", ")), "docs/plan.md has every key"};
  }
  VisitFields(machine, [&](const char* key, auto& field, double least, double greatest) {
    Read(path, key, *table.get(key), least, greatest, field);
  });
  if (machine.devices % machine.devices_per_node != 0) {
    throw Error{fmt::format("the machine file {} contradicts itself", path),
                fmt::format("devices = {}, devices_per_node = {}", machine.devices, machine.devices_per_node),
                "whole nodes"};
  }
  return machine;
}

Machine ReadMachine(const std::string& path) { return ParseMachine(io::ReadFile(path, kMaxBytes).Value(), path); }

std::vector<Machine> MachinesBeside(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<Machine> machines;
  std::error_code ignored;
  const fs::path folder = fs::path(path).parent_path();
  for (const auto& entry : fs::directory_iterator(folder.empty() ? fs::path(".") : folder, ignored)) {
    if (entry.path().extension() != ".toml") continue;
    try {
      machines.push_back(ReadMachine(entry.path().string()));
    } catch (const Error&) {
      continue;  // another kind of file
    }
  }
  std::sort(machines.begin(), machines.end(), [](const Machine& a, const Machine& b) {
    return std::tie(a.usd_per_device_hour, a.devices, a.path) < std::tie(b.usd_per_device_hour, b.devices, b.path);
  });
  return machines;
}

}  // namespace fathom::plan
