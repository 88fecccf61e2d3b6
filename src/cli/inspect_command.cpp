// fathom inspect: a model's configuration, size, memory and, for a checkpoint, the audit of its tensors.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/checkpoint.h"
#include "checkpoint/memory_plan.h"
#include "checkpoint/scan.h"
#include "cli/commands.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"

namespace fathom::cli {
namespace {

using checkpoint::MemoryPlan;
using checkpoint::Precision;
using nlohmann::json;

struct InspectFlags {
  std::string model, config;
  bool as_json = false, scan = false;
};

struct Report {
  model::ModelConfig config;
  model::ParamCount count;
  std::vector<std::string> warnings;
  std::optional<checkpoint::Checkpoint> checkpoint;
  std::optional<std::vector<checkpoint::NonFinite>> scan;

  int64_t tensors() const { return checkpoint ? checkpoint->audit().tensors : count.tensors; }
  int64_t fp8() const {
    if (checkpoint) return checkpoint->audit().fp8_tensors;
    return config.quantization_config ? count.fp8_tensors : 0;
  }
  int64_t scales() const { return checkpoint ? checkpoint->audit().scales : fp8(); }
  bool Faulty() const { return (checkpoint && !checkpoint->audit().problems.empty()) || (scan && !scan->empty()); }
};

// "671,026,419,200"
std::string Grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::vector<int64_t> Contexts(const model::ModelConfig& c) {
  std::vector<int64_t> out;
  for (int64_t n : {int64_t{4096}, int64_t{32768}, c.max_position_embeddings}) {
    n = std::min(n, c.max_position_embeddings);
    if (out.empty() || n > out.back()) out.push_back(n);
  }
  return out;
}

class Page {
 public:
  void Title(std::string_view text) { out_ += fmt::format("{}{}\n", out_.empty() ? "" : "\n", text); }
  void Row(std::string_view name, std::string_view value) { out_ += fmt::format("  {:<24}{}\n", name, value); }
  void Blank() { out_ += '\n'; }
  void Line(std::string_view text) { out_ += fmt::format("  {}\n", text); }
  const std::string& text() const { return out_; }

 private:
  std::string out_;
};

void WriteArchitecture(Page& page, const model::ModelConfig& c) {
  int64_t dense = 0;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) dense += !c.IsMoe(i);
  std::string layers = Grouped(c.num_hidden_layers);
  if (c.n_routed_experts > 0) layers += fmt::format(" ({} dense, {} with experts)", dense, c.num_hidden_layers - dense);
  if (c.num_nextn_predict_layers > 0)
    layers += fmt::format(" + {} for multi-token prediction", c.num_nextn_predict_layers);
  page.Row("layers", layers);
  page.Row("hidden size", Grouped(c.hidden_size));
  page.Row("attention heads", fmt::format("{}, of {} + {} rotated; values of {}", c.num_attention_heads,
                                          c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim));
  page.Row("latent",
           fmt::format("{} + {} rotated for keys and values, {}", c.kv_lora_rank, c.qk_rope_head_dim,
                       c.q_lora_rank ? fmt::format("{} for queries", Grouped(*c.q_lora_rank)) : "none for queries"));
  page.Row("dense width", Grouped(c.intermediate_size));
  if (c.n_routed_experts > 0) {
    std::string experts = fmt::format("{} of {} a token", c.num_experts_per_tok, c.n_routed_experts);
    if (c.n_shared_experts > 0) experts += fmt::format(" + {} shared", c.n_shared_experts);
    page.Row("experts", experts + ", width " + Grouped(c.moe_intermediate_size));
    std::string gate = c.topk_method + ", " + c.scoring_func;
    if (c.topk_method != "greedy" && c.n_group > 1) gate += fmt::format(", {} of {} groups", c.topk_group, c.n_group);
    page.Row("gate", gate + fmt::format(", x {}{}", c.routed_scaling_factor, c.norm_topk_prob ? ", normalised" : ""));
  }
  page.Row("vocabulary", Grouped(c.vocab_size));
  std::string context = Grouped(c.max_position_embeddings) + " tokens";
  if (c.rope_scaling)
    context += fmt::format(" (YaRN x{} from {})", c.rope_scaling->factor,
                           Grouped(c.rope_scaling->original_max_position_embeddings));
  page.Row("context", context);
  std::string stored = c.torch_dtype;
  if (c.quantization_config)
    stored = fmt::format("FP8 E4M3 in 128x128 blocks{}, the rest {}",
                         c.quantization_config->ue8m0 ? " with power-of-two scales" : "", c.torch_dtype);
  page.Row("stored as", stored);
}

void WriteMemory(Page& page, const model::ModelConfig& c) {
  const std::vector<int64_t> contexts = Contexts(c);
  std::string head = fmt::format("{:<7}{:>10}{:>16}", "", "weights", "cache a token");
  for (int64_t n : contexts) head += fmt::format("{:>16}", "at " + Grouped(n));
  page.Line(head);
  std::vector<std::string> machines;
  for (Precision p : {Precision::kF32, Precision::kBf16, Precision::kFp8}) {
    const MemoryPlan plan = checkpoint::PlanMemory(c, p);
    std::string row = fmt::format("{:<7}{:>10}{:>16}", Name(p), io::HumanBytes(plan.weight_bytes),
                                  Grouped(plan.cache_bytes_per_token) + " B");
    for (int64_t n : contexts) row += fmt::format("{:>16}", io::HumanBytes(plan.TotalAt(n)));
    page.Line(row);
    machines.push_back(fmt::format("{} needs {}", Name(p), checkpoint::DescribeMachine(plan.TotalAt(contexts[0]))));
  }
  page.Blank();
  for (const std::string& m : machines) page.Line(m);
  const double here = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  page.Line(fmt::format("this machine has {:.0f} GiB; figures are for one sequence, working memory comes on top",
                        here / 0x1p30));
}

void WriteAudit(Page& page, const Report& r) {
  const checkpoint::Audit& audit = r.checkpoint->audit();
  page.Title("Files");
  page.Row("files", fmt::format("{}{}", audit.files.size(), r.checkpoint->is_demo() ? " shards of the demo" : ""));
  page.Row("bytes of tensors", fmt::format("{} ({})", Grouped(audit.bytes), io::HumanBytes(audit.bytes)));
  for (const auto& [type, stored] : audit.stored)
    page.Row(type, fmt::format("{} tensors, {}", Grouped(stored.tensors), io::HumanBytes(stored.bytes)));
  page.Title("Audit");
  if (audit.problems.empty()) {
    page.Line("every tensor of the configuration is there, in its shape and type, and no other");
  } else {
    page.Line(fmt::format("{} problem{}:", Grouped(static_cast<int64_t>(audit.problems.size())),
                          audit.problems.size() == 1 ? "" : "s"));
    for (const checkpoint::Problem& p : audit.problems) page.Line(fmt::format("  {}", p.Line()));
  }
  if (!r.scan) return;
  page.Title("Scan");
  if (r.scan->empty()) page.Line("no NaN and no infinity in any weight");
  for (const checkpoint::NonFinite& n : *r.scan)
    page.Line(fmt::format("{}: {} value{} not finite, the first is {} at {}", n.tensor, Grouped(n.count),
                          n.count == 1 ? " is" : "s are", n.nan ? "NaN" : "infinity", n.first));
}

std::string HumanPage(const InspectFlags& flags, const Report& r) {
  Page page;
  page.Title(fmt::format("{}: {}", flags.model, r.config.model_type));
  WriteArchitecture(page, r.config);
  page.Title("Parameters");
  page.Row("main model", Grouped(r.count.main));
  if (r.count.with_mtp_copies != r.count.main) page.Row("with MTP and its copies", Grouped(r.count.with_mtp_copies));
  page.Row("used for a token", Grouped(r.count.activated));
  page.Title("Tensors");
  page.Row("weights", Grouped(r.tensors()));
  page.Row("of these FP8", Grouped(r.fp8()));
  if (r.scales() > 0) page.Row("with weight_scale_inv", Grouped(r.tensors() + r.scales()));
  page.Title("Memory");
  WriteMemory(page, r.config);
  if (r.checkpoint) WriteAudit(page, r);
  return page.text();
}

json JsonReport(const InspectFlags& flags, const Report& r) {
  json out;
  out["model"] = flags.model;
  out["config"] = json::parse(model::ToJson(r.config));
  out["parameters"] = {
      {"main", r.count.main}, {"with_mtp_copies", r.count.with_mtp_copies}, {"activated", r.count.activated}};
  out["tensors"] = {{"total", r.tensors()}, {"fp8", r.fp8()}, {"with_scales", r.tensors() + r.scales()}};
  out["cache_bytes_per_token"] = checkpoint::CacheBytesPerToken(r.config, SizeOf(DType::kBF16));
  for (Precision p : {Precision::kF32, Precision::kBf16, Precision::kFp8}) {
    const MemoryPlan plan = checkpoint::PlanMemory(r.config, p);
    json& m = out["memory"][std::string(Name(p))];
    m = {{"weight_bytes", plan.weight_bytes},
         {"main_weight_bytes", plan.main_weight_bytes},
         {"cache_bytes_per_token", plan.cache_bytes_per_token},
         {"machine_gib", checkpoint::MachineGib(plan.TotalAt(Contexts(r.config)[0]))}};
    for (int64_t n : Contexts(r.config)) m["total_bytes"][std::to_string(n)] = plan.TotalAt(n);
  }
  out["warnings"] = r.warnings;
  if (!r.checkpoint) return out;
  const checkpoint::Audit& audit = r.checkpoint->audit();
  json& a = out["audit"];
  a = {{"ok", audit.problems.empty()}, {"files", audit.files}, {"bytes", audit.bytes}, {"problems", json::array()}};
  for (const auto& [type, stored] : audit.stored)
    a["stored"][type] = {{"tensors", stored.tensors}, {"bytes", stored.bytes}};
  for (const checkpoint::Problem& p : audit.problems)
    a["problems"].push_back({{"fault", Name(p.fault)}, {"tensor", p.tensor}, {"got", p.got}, {"expected", p.expected}});
  if (r.scan) {
    json& s = out["scan"]["nonfinite"] = json::array();
    for (const checkpoint::NonFinite& n : *r.scan)
      s.push_back({{"tensor", n.tensor}, {"count", n.count}, {"first", n.first}, {"kind", n.nan ? "nan" : "infinity"}});
  }
  return out;
}

int RunInspect(const InspectFlags& flags) {
  Report r;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(flags.model, ignored)) {
    if (flags.scan) throw Error("--scan reads weights", flags.model, "the directory of a checkpoint");
    model::ParsedConfig parsed = model::ReadConfigFile(flags.model);
    r.config = std::move(parsed.config);
    r.warnings = std::move(parsed.warnings);
  } else {
    r.checkpoint = checkpoint::Open(flags.model, {.config_path = flags.config, .audit_only = true});
    r.config = r.checkpoint->config();
    r.warnings = r.checkpoint->warnings();
  }
  r.count = model::CountParams(r.config);
  if (flags.scan) {
    // What has to be copied is not bound by audit_only.
    if (r.checkpoint->audit().copied_bytes > 0 && r.checkpoint->audit().problems.empty())
      r.checkpoint = checkpoint::Open(flags.model, {.config_path = flags.config});
    ThreadPool pool(DefaultThreadCount());
    ProgressBar bar("scanning");
    try {
      r.scan = checkpoint::ScanForNonFinite(*r.checkpoint, pool, bar.Callback());
    } catch (const ProgressBar::Stopped& stopped) {
      return stopped.exit_code;
    }
  }
  for (const std::string& w : r.warnings) std::fprintf(stderr, "fathom: warning: %s\n", w.c_str());
  Print(flags.as_json ? JsonReport(flags, r).dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                      : HumanPage(flags, r));
  return r.Faulty() ? kExitError : 0;
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("inspect", "Show a model's configuration, size and memory, and audit its tensors");
  const auto flags = std::make_shared<InspectFlags>();
  c->add_option("MODEL", flags->model, "Directory of a checkpoint, or a configuration file")->required();
  c->add_option("--config", flags->config, "Configuration, where the directory has none");
  c->add_flag("--json", flags->as_json, "Print JSON");
  c->add_flag("--scan", flags->scan, "Read all weights and name tensors with NaN or infinity");
  c->footer(
      "Only headers are read, unless --scan is given. Exit code 1 if tensors are missing, unexpected, misshapen, of a\n"
      "wrong type, or not finite.\n"
      "Example: fathom inspect configs/models/deepseek-v3.json");
  c->callback([flags, &exit_code] { exit_code = RunInspect(*flags); });
}

}  // namespace fathom::cli
