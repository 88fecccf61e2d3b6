// fathom bench: tokens a second of a model on this machine, each figure beside what the machine would allow.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bench_accumulator.h"
#include "cli/bench_model.h"
#include "cli/bench_serve.h"
#include "cli/bench_speculation.h"
#include "cli/bench_train.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/numbers.h"
#include "cli/random_model.h"
#include "cli/terminal.h"
#include "core/machine.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

using nlohmann::ordered_json;

struct BenchFlags {
  ModelOptions model;
  std::string dtype = "auto";
  BenchPlan plan;
  TrainBenchPlan train_plan;
  bool speculation = false;
  SpeculationBenchPlan speculation_plan;
  bool json = false, no_decode = false, no_prefill = false, train = false, accumulator = false;
};

// A checkpoint, or a configuration with random weights in memory.
struct Subject {
  std::optional<LoadedModel> loaded;
  std::optional<ThreadPool> pool;
  std::optional<Context> random_ctx;
  std::optional<RandomModel> random;
  model::Compute compute = model::Compute::kF32;
  int64_t program_bytes = 0;

  Context& ctx() { return loaded ? loaded->ctx() : *random_ctx; }
  const model::ModelConfig& config() const { return loaded ? loaded->config() : random->config(); }
  const model::ModelParams& params() const { return loaded ? loaded->checkpoint().params() : random->params(); }
};

bool IsConfigFile(const std::string& path) { return path.size() > 5 && path.compare(path.size() - 5, 5, ".json") == 0; }

void Load(const BenchFlags& o, Subject& s) {
  if (!IsConfigFile(o.model.model)) {
    s.loaded.emplace(o.model);
    s.compute = s.loaded->compute();
    s.program_bytes = ResidentBytes();
    return;
  }
  const model::ParsedConfig parsed = model::ReadConfigFile(o.model.model);
  s.pool.emplace(o.model.threads > 0 ? o.model.threads : DefaultThreadCount());
  s.random_ctx.emplace(Context{.pool = *s.pool, .isa = ChooseIsa(o.model.force_isa), .verbose = {}});
  s.program_bytes = ResidentBytes();
  s.random.emplace(parsed.config, o.dtype, *s.random_ctx);
  s.compute = ChooseCompute(o.model.compute, parsed.config);
}

DType LinearType(const model::ModelParams& params) { return params.layers.front().self_attn.o_proj.dtype; }

ordered_json AsJson(const kernels::Peaks& p) {
  return {{"read_gb_s", p.read_gb_s},   {"bf16_tflop_s", p.bf16_tflop_s}, {"f32_tflop_s", p.f32_tflop_s},
          {"int8_top_s", p.int8_top_s}, {"read_pattern", p.read_pattern}, {"bf16_unit", p.bf16_unit},
          {"f32_unit", p.f32_unit},     {"int8_unit", p.int8_unit}};
}

ordered_json AsJson(const DecodeRow& r) {
  ordered_json j = {{"batch", r.batch}, {"context", r.context}};
  if (!r.skipped.empty()) {
    j["skipped"] = r.skipped;
    return j;
  }
  j["tokens_per_s"] = r.tokens_per_s();
  j["fraction_of_bandwidth"] = r.fraction();
  j["bound_tokens_per_s"] = r.bound_tokens_per_s();
  j["fraction_of_roofline"] = r.fraction_of_roofline();
  j["roofline_tokens_per_s"] = r.roofline_tokens_per_s();
  j["steps"] = r.steps;
  j["step_seconds"] = r.seconds;
  j["body_seconds"] = r.body_seconds;
  j["head_seconds"] = r.head_seconds;
  j["body_fraction"] = r.body_bound_seconds / r.body_seconds;
  j["head_fraction"] = r.head_bound_seconds / r.head_seconds;
  j["body_bytes"] = r.body_bytes;
  j["head_bytes"] = r.head_bytes;
  j["cache_bytes"] = r.cache_bytes;
  j["distinct_experts_per_layer"] = r.experts_per_layer;
  j["peak"] = AsJson(r.peaks);
  return j;
}

ordered_json AsJson(const PrefillRow& r) {
  ordered_json j = {{"tokens", r.tokens}};
  if (!r.skipped.empty()) {
    j["skipped"] = r.skipped;
    return j;
  }
  j["tokens_per_s"] = r.tokens_per_s();
  j["fraction_of_peak"] = r.fraction_of_peak();
  j["fraction_of_bound"] = r.fraction_of_bound();
  j["bound_tokens_per_s"] = r.bound_tokens_per_s();
  j["steps"] = r.steps;
  j["seconds"] = r.seconds;
  j["operations"] = r.operations;
  j["bytes"] = r.bytes;
  j["distinct_experts_per_layer"] = r.experts_per_layer;
  j["peak"] = AsJson(r.peaks);
  return j;
}

void PrintJson(const BenchFlags& o, Subject& s, const BenchResult& r) {
  ordered_json j;
  j["model"] = o.model.model;
  j["machine"] = {
      {"cpu", CpuName()}, {"threads", s.ctx().pool.size()}, {"isa", Name(s.ctx().isa)}, {"commit", BuildCommit()}};
  j["compute"] = kernels::Name(s.compute);
  j["weights"] = Name(LinearType(s.params()));
  j["peak"] = AsJson(r.peaks);
  j["decode"] = ordered_json::array();
  for (const DecodeRow& row : r.decode) j["decode"].push_back(AsJson(row));
  j["prefill"] = ordered_json::array();
  for (const PrefillRow& row : r.prefill) j["prefill"].push_back(AsJson(row));
  const MemoryFigures& m = r.memory;
  j["memory"] = {{"planned_bytes", m.planned()},        {"peak_bytes", m.peak},   {"program_bytes", m.program},
                 {"weight_bytes", m.weights},           {"cache_bytes", m.cache}, {"arena_bytes", m.arena},
                 {"arena_overflows", m.arena_overflows}};
  j["seconds"] = r.seconds;
  Print(j.dump(2) + "\n");
}

std::string Percent(double fraction) { return fmt::format("{:.0f} %", 100 * fraction); }

void PrintTables(const BenchFlags& o, Subject& s, const BenchResult& r) {
  const model::ParamCount count = model::CountParams(s.config());
  const kernels::Peaks& p = r.peaks;
  std::string t =
      fmt::format("model    {}: {:.0f}M parameters, {:.0f}M active a token, {}; computing in {}\n", o.model.model,
                  static_cast<double>(count.main) * 1e-6, static_cast<double>(count.activated) * 1e-6,
                  Name(LinearType(s.params())), kernels::Name(s.compute));
  t += fmt::format("machine  {}, {} thread{}, {}; commit {}\n", CpuName(), s.ctx().pool.size(),
                   s.ctx().pool.size() == 1 ? "" : "s", Name(s.ctx().isa), BuildCommit());
  t += fmt::format("peaks    memory read {:.1f} GB/s ({})\n", p.read_gb_s, p.read_pattern);
  t += fmt::format("         bf16 {:.3f} TFLOP/s ({}), f32 {:.3f} TFLOP/s ({}), int8 {:.3f} TOP/s ({})\n\n",
                   p.bf16_tflop_s, p.bf16_unit, p.f32_tflop_s, p.f32_unit, p.int8_top_s, p.int8_unit);
  t += fmt::format("{:<8} {:>9} {:>10} {:>10} {:>9} {:>8} {:>8} {:>10} {:>10} {:>12}\n", "decode", "context",
                   "tokens/s", "bound", "of bound", "body", "head", "read GB/s", "experts", "of roofline");
  for (const DecodeRow& d : r.decode) {
    t += fmt::format("{:<8} {:>9} ", fmt::format("x {}", d.batch), d.context);
    if (!d.skipped.empty()) {
      t += fmt::format("{:>10} {}\n", "-", d.skipped);
      continue;
    }
    t += fmt::format("{:>10.1f} {:>10.1f} {:>9} {:>8} {:>8} {:>10.1f} {:>10.1f} {:>12}\n", d.tokens_per_s(),
                     d.bound_tokens_per_s(), Percent(d.fraction()), Percent(d.body_bound_seconds / d.body_seconds),
                     Percent(d.head_bound_seconds / d.head_seconds), d.peaks.read_gb_s, d.experts_per_layer,
                     Percent(d.fraction_of_roofline()));
  }
  t += fmt::format("\n{:<8} {:>9} {:>10} {:>10} {:>9} {:>8} {:>19} {:>10}\n", "prefill", "tokens", "tokens/s", "bound",
                   "of bound", "of peak", "peak TFLOP/s", "experts");
  for (const PrefillRow& d : r.prefill) {
    t += fmt::format("{:<8} {:>9} ", "", d.tokens);
    if (!d.skipped.empty()) {
      t += fmt::format("{:>10} {}\n", "-", d.skipped);
      continue;
    }
    t += fmt::format("{:>10.1f} {:>10.1f} {:>9} {:>8} {:>19.3f} {:>10.1f}\n", d.tokens_per_s(), d.bound_tokens_per_s(),
                     Percent(d.fraction_of_bound()), Percent(d.fraction_of_peak()), d.peak_tera_per_s,
                     d.experts_per_layer);
  }
  const MemoryFigures& m = r.memory;
  t += fmt::format("\nmemory   planned {} = program {} + weights {} + caches {} + scratch {}; peak {}\n",
                   io::HumanBytes(m.planned()), io::HumanBytes(m.program), io::HumanBytes(m.weights),
                   io::HumanBytes(m.cache), io::HumanBytes(m.arena), io::HumanBytes(m.peak));
  t += fmt::format(
      "         experts: distinct ones a layer and step, of {}. Bounds: weights used (each once a step) and cache "
      "rows\n"
      "         over the read bandwidth of the same bytes between the steps, plus attention over the arithmetic peak;\n"
      "         prefill the longer of arithmetic and bytes. Roofline of decode: each matrix takes the longer of "
      "reading it\n"
      "         and of multiplying, which the bound leaves out. Took {:.0f} s.\n",
      s.config().n_routed_experts, r.seconds);
  Print(t);
}

// Takes out of the plan what is longer than the model's context, and gives rows that say so.
BenchResult TakeOutTooLong(BenchPlan& plan, const model::ModelConfig& config) {
  BenchResult rows;
  const int64_t limit = config.max_position_embeddings;
  const std::string why = fmt::format("beyond the model's {} positions", limit);
  std::erase_if(plan.contexts, [&](int64_t context) {
    for (int64_t batch : plan.batches) {
      if (context < limit) break;
      DecodeRow& row = rows.decode.emplace_back();
      row.batch = batch;
      row.context = context;
      row.skipped = why;
    }
    return context >= limit;
  });
  std::erase_if(plan.prefills, [&](int64_t tokens) {
    if (tokens <= limit) return false;
    PrefillRow& row = rows.prefill.emplace_back();
    row.tokens = tokens;
    row.skipped = why;
    return true;
  });
  return rows;
}

// Only the configuration of MODEL matters.
int RunTrain(const BenchFlags& o) {
  const model::ModelConfig config = IsConfigFile(o.model.model) ? model::ReadConfigFile(o.model.model).config
                                                                : checkpoint::Open(o.model.model).config();
  ThreadPool pool(o.model.threads > 0 ? o.model.threads : DefaultThreadCount());
  Context ctx{.pool = pool, .isa = ChooseIsa(o.model.force_isa), .verbose = {}};
  const model::Compute compute =
      o.model.compute == "auto" ? model::Compute::kBf16 : ChooseCompute(o.model.compute, config);
  if (compute == model::Compute::kW8A8) throw Error("--train does not compute in w8a8", "", "bf16 or f32");
  const bool show = StderrIsTerminal();
  const TrainBenchResult r = RunTrainBench(ctx, config, compute, o.train_plan, [&](const std::string& what) {
    if (show) std::fprintf(stderr, "\r\033[K%s ...", what.c_str());
  });
  if (show) std::fprintf(stderr, "\r\033[K");
  const std::pair<const char*, double> phases[] = {{"forward", r.forward_seconds},
                                                   {"head and loss", r.head_seconds},
                                                   {"backward", r.backward_seconds},
                                                   {"optimizer", r.optimizer_seconds}};
  if (o.json) {
    ordered_json j;
    j["model"] = o.model.model;
    j["machine"] = {{"cpu", CpuName()}, {"threads", pool.size()}, {"isa", Name(ctx.isa)}, {"commit", BuildCommit()}};
    j["compute"] = kernels::Name(compute);
    j["peak"] = AsJson(r.peaks);
    ordered_json& t = j["train"];
    t = {{"tokens_per_s", r.tokens_per_s},
         {"mfu", r.mfu},
         {"peak_bytes", r.peak_bytes},
         {"planned_bytes", r.planned_bytes()},
         {"sequences", o.train_plan.sequences},
         {"length", o.train_plan.length},
         {"micro_batch", o.train_plan.micro_batch},
         {"moments", o.train_plan.moments},
         {"steps", r.steps},
         {"step_seconds", r.seconds},
         {"flops_per_token", r.flops_per_token},
         {"peak_tflop_s", r.peak_tera_per_s},
         {"peak_unit", r.peak_unit}};
    for (const auto& [name, s] : phases) {
      std::string key = name;
      std::replace(key.begin(), key.end(), ' ', '_');
      t["phases"][key] = s / r.seconds;
    }
    Print(j.dump(2) + "\n");
    return 0;
  }
  const model::ParamCount count = model::CountParams(config);
  std::string t =
      fmt::format("model    {}: {:.0f}M parameters, {:.0f}M active a token; {}, moments {}\n", o.model.model,
                  static_cast<double>(count.main) * 1e-6, static_cast<double>(count.activated) * 1e-6,
                  kernels::Name(compute), o.train_plan.moments);
  t += fmt::format("machine  {}, {} thread{}, {}; commit {}\n", CpuName(), pool.size(), pool.size() == 1 ? "" : "s",
                   Name(ctx.isa), BuildCommit());
  t += fmt::format("train    {:.0f} tokens/s, {} x {} tokens a step of {:.3f} s (median of {})\n", r.tokens_per_s,
                   o.train_plan.sequences, o.train_plan.length, r.seconds, r.steps);
  t += fmt::format("         {} of the peak {:.3f} TFLOP/s ({}), {:.1f} MFLOP a token\n", Percent(r.mfu),
                   r.peak_tera_per_s, r.peak_unit, r.flops_per_token * 1e-6);
  for (const auto& [name, s] : phases) t += fmt::format("         {:<14} {:>5}\n", name, Percent(s / r.seconds));
  t += fmt::format("memory   planned {} = program {} + weights, gradients, moments {} + activations {}; peak {}\n",
                   io::HumanBytes(r.planned_bytes()), io::HumanBytes(r.program_bytes), io::HumanBytes(r.store_bytes),
                   io::HumanBytes(r.work_bytes), io::HumanBytes(r.peak_bytes));
  Print(t);
  return 0;
}

int RunSpeculation(const BenchFlags& o) {
  LoadedModel model(o.model);
  const SpeculationBenchResult r = RunSpeculationBench(model, o.speculation_plan);
  if (o.json) {
    Print(nlohmann::ordered_json{{"machine", {{"cpu", CpuName()}, {"threads", model.ctx().pool.size()}}},
                                 {"commit", BuildCommit()},
                                 {"drafts", o.speculation_plan.drafts},
                                 {"acceptance", r.acceptance},
                                 {"token_s", r.token_seconds},
                                 {"verify_s", r.verify_seconds},
                                 {"draft_s", r.draft_seconds},
                                 {"tokens_per_s", {{"plain", r.plain_rate}, {"speculative", r.speculative_rate}}},
                                 {"speedup", r.speedup()},
                                 {"bound", r.bound()},
                                 {"fraction_of_bound", r.speedup() / r.bound()}}
              .dump(2) +
          "\n");
    return 0;
  }
  const int64_t k = o.speculation_plan.drafts;
  std::string t = fmt::format("model    {}; {}\n", o.model.model, model.Description());
  t += fmt::format("machine  {}; commit {}\n", CpuName(), BuildCommit());
  t += fmt::format("plain    {:8.1f} tokens/s   t1 {:.3f} ms a token\n", r.plain_rate, r.token_seconds * 1e3);
  t += fmt::format("drafts   {:8.1f} tokens/s   t{} {:.3f} ms a step of {} rows, td {:.3f} ms a draft\n",
                   r.speculative_rate, k + 1, r.verify_seconds * 1e3, k + 1, r.draft_seconds * 1e3);
  t += fmt::format("kept     {} of {} drafts ({}), {:.2f} tokens a step\n", r.accepted, r.drafted,
                   Percent(r.acceptance), 1 + r.kept_per_step);
  t += fmt::format("speed-up {:.2f}, {} of the bound {:.2f} = (1 + kept a step) t1 / (t{} + {}td)\n", r.speedup(),
                   Percent(r.speedup() / r.bound()), r.bound(), k + 1, k == 1 ? "" : fmt::format("{} ", k));
  Print(t);
  return 0;
}

int RunCommand(BenchFlags o) {
  if (o.accumulator) return RunAccumulatorBench(o.model.threads, o.json);
  if (o.train) return RunTrain(o);
  if (o.speculation) return RunSpeculation(o);
  Subject s;
  Load(o, s);
  if (o.no_decode) o.plan.contexts.clear();
  if (o.no_prefill) o.plan.prefills.clear();
  const BenchResult too_long = TakeOutTooLong(o.plan, s.config());
  const model::Transformer transformer(s.config(), s.params(), PositionsOf(o.plan));
  const BenchModel subject{
      .ctx = s.ctx(),
      .transformer = transformer,
      .params = s.params(),
      .compute = s.compute,
      .cache_dtype = s.compute == model::Compute::kBf16 ? DType::kBF16 : DType::kF32,
      .program_bytes = s.program_bytes,
  };
  const bool show = StderrIsTerminal();
  BenchResult result = RunBench(subject, o.plan, [&](const std::string& what) {
    if (show) std::fprintf(stderr, "\r\033[K%s ...", what.c_str());
  });
  if (show) std::fprintf(stderr, "\r\033[K");
  result.decode.insert(result.decode.end(), too_long.decode.begin(), too_long.decode.end());
  result.prefill.insert(result.prefill.end(), too_long.prefill.begin(), too_long.prefill.end());
  if (o.json) {
    PrintJson(o, s, result);
  } else {
    PrintTables(o, s, result);
  }
  return 0;
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<BenchFlags>();
  CLI::App* c = app.add_subcommand(
      "bench", "Measure decode and prefill beside the bounds of this machine; bench serve: the load of a server");
  const CLI::App* serve = AddBenchServe(*c, exit_code);
  AddModelOptions(*c, o->model, /*positional=*/false);
  c->add_option("MODEL", o->model.model, "Checkpoint directory, or a config.json to measure with random weights");
  c->add_option("--dtype", o->dtype, "Random weights of a config.json: f32, bf16, fp8 (default: as it says)")
      ->type_name("NAME");
  c->add_option("--batch", o->plan.batches, "Sequences decoded together")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  c->add_option("--context", o->plan.contexts, "Positions that each sequence holds already")
      ->delimiter(',')
      ->check(kNonNegative)
      ->capture_default_str();
  c->add_option("--prefill", o->plan.prefills, "Tokens of prompts")
      ->delimiter(',')
      ->check(kPositive)
      ->capture_default_str();
  c->add_flag("--no-decode", o->no_decode, "Prefill only");
  c->add_flag("--no-prefill", o->no_prefill, "Decode only");
  c->add_option("--seconds", o->plan.seconds, "Leave out cases that would not fit into this time")
      ->check(kPositive)
      ->capture_default_str();
  c->add_flag("--train", o->train, "Training steps instead: forward, backward, AdamW (bf16 unless --compute f32)");
  c->add_option("--train-batch", o->train_plan.sequences, "Sequences of a training step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  c->add_option("--train-length", o->train_plan.length, "Tokens of a sequence")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  c->add_option("--micro-batch", o->train_plan.micro_batch, "Sequences computed at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  c->add_option("--moments", o->train_plan.moments, "Type of Adam's moments")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->type_name("NAME")
      ->capture_default_str();
  c->add_flag("--speculation", o->speculation,
              "Decoding with drafts of the model's MTP module beside decoding without");
  c->add_option("--drafts", o->speculation_plan.drafts, "Tokens drafted ahead")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  c->add_option("--prompt", o->speculation_plan.prompt, "What the speculative answers continue")->capture_default_str();
  c->add_option("--temperature", o->speculation_plan.temperature, "Of the speculative answers")
      ->check(kNonNegative)
      ->capture_default_str();
  c->add_flag("--fp8-accumulator", o->accumulator,
              "Errors of FP8 products in the 14 bits of Hopper's tensor cores (emulated; no model)");
  c->add_flag("--full-recompute", o->train_plan.full_recompute, "Keep only each block's input for backward");
  c->add_flag("--json", o->json, "One JSON object instead of tables");
  c->footer(
      "Peaks (memory bandwidth, arithmetic) are measured between the steps of the work, on the bytes that the work\n"
      "reads. Run it on an idle machine: a neighbour takes part of both.\n"
      "Examples:\n"
      "  fathom bench models/fathom-16m\n"
      "  fathom bench configs/models/bench-773m.json --batch 1 --context 0,4096\n"
      "  fathom bench configs/models/bench-train-106m.json --train\n"
      "  fathom bench models/fathom-16m --speculation\n"
      "  fathom bench MODEL --json > result.json\n"
      "  fathom bench serve http://127.0.0.1:8080 --concurrency 8\n");
  c->callback([o, serve, &exit_code] {
    if (serve->parsed()) return;  // it has run by itself
    if (o->model.model.empty() && !o->accumulator) throw CLI::RequiredError("MODEL");
    exit_code = RunCommand(*o);
  });
}

}  // namespace fathom::cli
