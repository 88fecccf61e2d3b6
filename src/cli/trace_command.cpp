// fathom trace: what a model computes, tensor by tensor, in a file that any implementation can be compared with.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/numbers.h"
#include "cli/terminal.h"
#include "core/compare.h"
#include "engine/trace.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "train/loss_trace.h"

namespace fathom::cli {
namespace {

using engine::Trace;

struct TraceFlags {
  ModelOptions model;
  std::string ids, out, inputs, compare;
  int64_t chunk = 0;
  bool absorbed = false;
  std::string ids_file;
  bool loss = false;
  train::LossTraceOptions training;
};

std::vector<float> AsF32(const TensorView& v) {
  std::vector<float> out(static_cast<size_t>(v.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    switch (v.dtype) {
      case DType::kF32:
        out[i] = static_cast<const float*>(v.data)[i];
        break;
      case DType::kBF16:
        out[i] = Bf16ToF32(static_cast<const uint16_t*>(v.data)[i]);
        break;
      case DType::kF16:
        out[i] = F16ToF32(static_cast<const uint16_t*>(v.data)[i]);
        break;
      case DType::kI32:
        out[i] = static_cast<float>(static_cast<const int32_t*>(v.data)[i]);
        break;
      case DType::kI64:
        out[i] = static_cast<float>(static_cast<const int64_t*>(v.data)[i]);
        break;
      default:
        throw Error("a tensor of a type that trace does not read", std::string(Name(v.dtype)),
                    "F32, BF16, F16, I32 or I64");
    }
  }
  return out;
}

// hidden_in.L of --inputs, checked against the shape that block L needs.
std::map<int64_t, std::vector<float>> ReadInputs(const std::string& path, const model::ModelConfig& config,
                                                 int64_t tokens) {
  std::map<int64_t, std::vector<float>> inputs;
  const io::SafetensorsFile file = io::SafetensorsFile::Open(path).Value();
  for (int64_t l = 0; l < config.num_hidden_layers + config.num_nextn_predict_layers; ++l) {
    const std::string name = fmt::format("hidden_in.{}", l);
    const bool mtp = l >= config.num_hidden_layers;
    const io::SafetensorsEntry* e = file.Find(name);
    if (!e && mtp) continue;
    if (!e)
      throw Error(fmt::format("{} has no tensor {}", path, name), "",
                  fmt::format("one for each of the {} layers", config.num_hidden_layers));
    const int64_t rows = mtp ? tokens - (l - config.num_hidden_layers + 1) : tokens;
    if (e->shape != Shape{rows, config.hidden_size}) {
      throw Error(fmt::format("{} of {} has the wrong shape", name, path), ToString(e->shape),
                  ToString({rows, config.hidden_size}), "one row for each of --ids");
    }
    inputs[l] = AsF32(file.View(*e));
  }
  return inputs;
}

void WriteTrace(const Trace& trace, const std::string& path) {
  std::vector<std::pair<std::string, TensorView>> tensors;
  for (const auto& [name, t] : trace) tensors.emplace_back(name, t.View());
  io::WriteSafetensors(path, tensors);
}

// The golden's spelling of a traced tensor: FP8 goldens say which arithmetic they are of.
const io::SafetensorsEntry* FindGolden(const io::SafetensorsFile& golden, const std::string& name,
                                       model::Compute compute, bool per_block) {
  if (const io::SafetensorsEntry* e = golden.Find(name)) return e;
  const bool w8a8 = compute == model::Compute::kW8A8;
  if (name.starts_with("hidden.")) {
    const std::string layer = name.substr(7);
    return golden.Find(w8a8 && per_block ? "block_w8a8." + layer : "hidden_weight_only." + layer);
  }
  if (name == "logits") return golden.Find(w8a8 ? "logits_w8a8" : "logits_weight_only");
  return nullptr;
}

int64_t LayerOf(const std::string& name, int64_t layers) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return layers;
  const int64_t k = std::stoll(name.substr(dot + 1));
  return name.starts_with("mtp_") ? layers + k : k;
}

// Prints the table; true if nothing departed.
bool CompareTrace(const Trace& trace, const std::string& path, const LoadedModel& m, bool per_block) {
  const io::SafetensorsFile golden = io::SafetensorsFile::Open(path).Value();
  const int64_t layers = m.transformer().config().num_hidden_layers;
  std::vector<std::pair<int64_t, std::string>> names;
  for (const auto& [name, c] : trace) names.emplace_back(LayerOf(name, layers), name);
  std::sort(names.begin(), names.end());
  Print(fmt::format("{:<20} {:>14} {:>12} {:>12} {:>14} {:>10}\n", "tensor", "shape", "max |a-b|", "relative L2",
                    "cosine", "verdict"));
  std::string first;
  int64_t compared = 0;
  for (const auto& [layer, name] : names) {
    const engine::TracedTensor& c = trace.at(name);
    const io::SafetensorsEntry* e = FindGolden(golden, name, m.compute(), per_block);
    if (!e) continue;
    if (e->shape != Shape{c.rows(), c.cols}) {
      throw Error(fmt::format("{} has another shape in {}", name, path), ToString(e->shape),
                  ToString({c.rows(), c.cols}), "were the same --ids used?");
    }
    ++compared;
    const std::vector<float> truth = AsF32(golden.View(*e));
    if (c.dtype == DType::kI32) {
      int64_t other = 0;
      for (size_t i = 0; i < truth.size(); ++i) other += static_cast<float>(c.i32[i]) != truth[i];
      Print(fmt::format("{:<20} {:>14} {:>12} {:>12} {:>14} {:>10}\n", name, ToString(e->shape),
                        other == 0 ? "same" : fmt::format("{} differ", other), "", "", ""));
      continue;
    }
    const Comparison r = Compare(c.f32, truth);
    const bool departed =
        r.special_mismatch > 0 || !(r.rel_l2 <= engine::TraceTolerance(m.compute(), per_block ? 0 : layer));
    if (departed && first.empty()) first = name;
    Print(fmt::format("{:<20} {:>14} {:>12.3e} {:>12.3e} {:>14.9f} {:>10}\n", name, ToString(e->shape), r.max_abs,
                      r.rel_l2, r.cosine, departed ? "departs" : "ok"));
  }
  if (compared == 0)
    throw Error(fmt::format("{} has none of the traced tensors", path), "",
                "hidden.L, logits, ... as in a file that trace writes");
  Print(first.empty() ? "no layer departs\n" : fmt::format("the first to depart: {}\n", first));
  return first.empty();
}

std::vector<std::vector<int32_t>> Sequences(const TraceFlags& o) {
  if (o.ids_file.empty()) return {ParseIds(o.ids)};
  std::ifstream in(o.ids_file);
  if (!in) throw io::FileError("cannot read --ids-file " + o.ids_file, o.ids_file, errno);
  std::vector<std::vector<int32_t>> sequences;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) sequences.push_back(ParseIds(line));
  }
  return sequences;
}

int RunLoss(LoadedModel& m, const TraceFlags& o) {
  if (o.ids.empty() == o.ids_file.empty())
    throw Error("--loss needs token ids", o.ids.empty() ? "none" : "--ids and --ids-file",
                "--ids 5,17,... (T inputs and the token after them) or --ids-file with one sequence a line");
  if (m.compute() == model::Compute::kW8A8) throw Error("--loss does not compute in w8a8", "", "f32 or bf16");
  train::LossTraceOptions options = o.training;
  options.compute = m.compute();
  const train::LossTrace trace = train::TraceLoss(m.ctx(), m.config(), m.checkpoint().params(), Sequences(o), options);
  std::vector<std::pair<std::string, TensorView>> tensors;
  for (const auto& [name, v] : trace.values) {
    tensors.emplace_back(name, TensorView{v.data(), DType::kF32, {static_cast<int64_t>(v.size())}});
    Print(fmt::format("{:<16}", name));
    for (float x : v) Print(fmt::format(" {:.6f}", x));
    Print("\n");
  }
  for (const train::StoredTensor& t : trace.store->tensors()) {
    if (options.steps == 0 && t.grad) tensors.emplace_back("grad." + t.name, TensorView{t.grad, DType::kF32, t.shape});
  }
  if (!o.out.empty()) io::WriteSafetensors(o.out, tensors);
  return 0;
}

int RunCommand(const TraceFlags& o) {
  LoadedModel m(o.model);
  if (o.loss || o.training.steps > 0) return RunLoss(m, o);
  if (!o.ids_file.empty()) throw Error("--ids-file belongs to --loss", o.ids_file, "--ids 5,17,... for other traces");
  std::vector<int32_t> ids;
  if (!o.ids.empty()) {
    ids = ParseIds(o.ids);
  } else if (!o.compare.empty()) {
    const io::SafetensorsFile golden = io::SafetensorsFile::Open(o.compare).Value();
    for (float v : AsF32(golden.Get("input_ids"))) ids.push_back(static_cast<int32_t>(v));
  } else {
    throw Error("no token ids", "", "--ids 5,17,... or --compare with a file that has input_ids");
  }
  m.BuildTransformer(static_cast<int64_t>(ids.size()));
  engine::TraceOptions options{.compute = m.compute(),
                               .cache_dtype = m.cache_dtype(),
                               .chunk = o.chunk,
                               .form = o.absorbed ? model::AttentionForm::kAbsorbed : model::AttentionForm::kFull,
                               .inputs = {}};
  if (!o.inputs.empty()) options.inputs = ReadInputs(o.inputs, m.config(), static_cast<int64_t>(ids.size()));
  const Trace trace = engine::RunTrace(m.ctx(), m.transformer(), ids, options);
  if (!o.out.empty()) WriteTrace(trace, o.out);
  if (o.compare.empty()) return 0;
  return CompareTrace(trace, o.compare, m, !o.inputs.empty()) ? 0 : kExitError;
}

}  // namespace

void AddTraceCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<TraceFlags>();
  CLI::App* c = app.add_subcommand(
      "trace", "Write what a model computes on some tokens, or compare it with another implementation's");
  AddModelOptions(*c, o->model);
  c->add_option("--ids", o->ids, "Token ids, comma-separated (default: input_ids of --compare)")->type_name("LIST");
  c->add_option("--out", o->out,
                "Write hidden.L final_hidden logits router_ids.L router_weights.L mtp_hidden.k mtp_logits.k to this "
                "safetensors file");
  c->add_option("--chunk", o->chunk, "Tokens of one step (default: all)")->check(kPositive);
  c->add_flag("--absorbed", o->absorbed, "The absorbed form of attention instead of the full one");
  c->add_option("--inputs", o->inputs,
                "Feed each block L from hidden_in.L of this safetensors file instead of from the block before");
  c->add_option("--compare", o->compare,
                "Print the differences to the tensors of this safetensors file; exit code 1 if a layer departs");
  CLI::Option_group* g = c->add_option_group("Training", "Losses and gradients instead of activations");
  g->add_flag("--loss", o->loss,
              "Of T+1 ids: loss.main loss.mtp loss.balance loss.total, and grad.NAME of every parameter");
  g->add_option("--ids-file", o->ids_file, "Sequences of ids, one a line; losses are averaged over them")
      ->type_name("FILE");
  train::LossTraceOptions& t = o->training;
  g->add_option("--lambda", t.mtp_loss_weight, "Weight of the MTP loss")->capture_default_str();
  g->add_option("--alpha", t.aux_loss_alpha, "Weight of the sequence-wise balance loss")->capture_default_str();
  g->add_option("--steps", t.steps, "Take this many AdamW steps: writes steps.{main,mtp,balance,total,grad_norm}")
      ->check(kNonNegative);
  g->add_option("--lr", t.adamw.lr, "Learning rate")->capture_default_str();
  g->add_option("--beta1", t.adamw.beta1, "Of AdamW")->check(CLI::Range(0.0, 0.999999))->capture_default_str();
  g->add_option("--beta2", t.adamw.beta2, "Of AdamW")->check(CLI::Range(0.0, 0.999999))->capture_default_str();
  g->add_option("--eps", t.adamw.eps, "Of AdamW")->check(kNonNegative)->capture_default_str();
  g->add_option("--weight-decay", t.adamw.weight_decay, "Of matrices")->capture_default_str();
  g->add_option("--clip", t.adamw.clip, "Global gradient norm, 0: off")->capture_default_str();
  g->add_option("--gamma", t.bias_update_speed, "Speed of the router bias")->capture_default_str();
  c->footer(
      "Examples:\n"
      "  fathom trace models/fathom-16m --ids 0,5,17 --out t.safetensors\n"
      "  fathom trace MODEL --compute f32 --compare golden.safetensors\n"
      "  fathom trace MODEL --ids 5,17,3,9 --loss --lambda 0.3 --alpha 0.0001 --out grads.safetensors\n"
      "  fathom trace MODEL --ids-file sequences.txt --steps 10 --lr 1e-3 --out steps.safetensors\n");
  c->callback([o, &exit_code] { exit_code = RunCommand(*o); });
}

}  // namespace fathom::cli
