#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/demo.h"
#include "checkpoint/hf.h"

namespace fathom::checkpoint {
namespace {

constexpr int64_t kMaxGenerationConfig = 1 << 20;

std::string Join(const std::string& directory, const char* name) {
  return (std::filesystem::path(directory) / name).string();
}

model::ModelConfig ReadConfig(const std::string& path, const OpenOptions& options, Audit& audit) {
  std::string config_path = options.config_path;
  std::error_code ignored;
  if (config_path.empty()) {
    config_path = Join(path, "config.json");
    if (!std::filesystem::exists(config_path, ignored))
      throw Error(path + " has no config.json", "", "the configuration of the model",
                  "name it with --config FILE (config.json, or the demo's form)");
  }
  model::ParsedConfig parsed = model::ReadConfigFile(config_path);
  for (const std::string& w : parsed.warnings) audit.warnings.push_back(config_path + ": " + w);
  return std::move(parsed.config);
}

GenerationConfig ReadGenerationConfig(const std::string& path) {
  const std::string file = Join(path, "generation_config.json");
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return {};
  const Result<GenerationConfig> parsed = ParseGenerationConfig(io::ReadFile(file, kMaxGenerationConfig).Value());
  if (!parsed) {
    const Error& e = parsed.error();
    throw Error(file + ": " + e.summary(), e.got(), e.expected(), e.hint());
  }
  return parsed.Value();
}

void RequireDirectory(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    throw Error("there is no checkpoint at " + path, "", "a directory with config.json and model.safetensors",
                "check the path");
  if (!std::filesystem::is_directory(status))
    throw Error(path + " is not a checkpoint", "a file", "the directory that holds config.json and model.safetensors");
  if (IsHfDirectory(path) || IsDemoDirectory(path)) return;
  throw Error(
      path + " holds no weights", "",
      fmt::format("{}, {} and the files that it names, or the demo's model0-mp1.safetensors", kSingleFile, kIndexFile));
}

// Two passes: what does not fit is found from the headers, before any byte is copied.
template <class Source>
model::ModelParams BindTwice(model::ModelConfig& config, Source& source, const std::string& path, bool audit_only,
                             Audit& audit) {
  model::ModelParams params = Bind(config, source, /*headers_only=*/true, audit);
  if (audit_only || audit.copied_bytes == 0) {
    if (!audit_only) audit.ThrowIfFaulty(path);
    return params;
  }
  audit.ThrowIfFaulty(path);
  Audit again;
  return Bind(config, source, /*headers_only=*/false, again);
}

}  // namespace

int64_t Checkpoint::file_bytes() const {
  int64_t bytes = 0;
  for (const auto& file : files_) bytes += file->file().bytes();
  return bytes;
}

void Checkpoint::Load(bool lock, const ProgressFn& progress) const {
  const int64_t total = file_bytes();
  int64_t before = 0;
  for (const auto& file : files_) {
    file->file().Load(lock, [&](int64_t read) {
      if (progress) progress(before + read, total);
    });
    before += file->file().bytes();
  }
}

void Checkpoint::ForEachParam(const std::function<void(const model::ParamInfo&, const kernels::Weight&)>& visit) const {
  model::ModelParams views = params_;
  model::ForEachParam(config_, views, [&](const model::ParamInfo& info, kernels::Weight& w) { visit(info, w); });
}

Checkpoint Open(const std::string& path, const OpenOptions& options) {
  RequireDirectory(path);
  Checkpoint out;
  out.path_ = path;
  out.config_ = ReadConfig(path, options, out.audit_);
  out.is_demo_ = !IsHfDirectory(path);
  if (out.is_demo_) {
    DemoSource source(path, out.config_.n_routed_experts, out.audit_);
    // The demo makes a router bias only at the width of the published model; without one its group score is the best.
    bool bias = false;
    for (int64_t i = 0; i < out.config_.num_hidden_layers; ++i)
      bias = bias || source.Has(fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", i));
    if (out.config_.topk_method == "noaux_tc" && !bias) out.config_.topk_method = "group_limited_greedy";
    out.params_ = BindTwice(out.config_, source, path, options.audit_only, out.audit_);
    out.files_ = std::move(source.files());
    out.owned_ = std::move(source.owned());
  } else {
    HfSource source(path, out.audit_);
    out.params_ = BindTwice(out.config_, source, path, options.audit_only, out.audit_);
    out.files_ = std::move(source.files());
    out.owned_ = std::move(source.owned());
  }
  out.generation_config_ = ReadGenerationConfig(path);
  out.eos_ids_ = out.config_.eos_token_id;
  for (int64_t id : out.generation_config_.eos_token_id) {
    if (id >= out.config_.vocab_size)
      throw Error(Join(path, "generation_config.json") + ": eos_token_id is not in the vocabulary",
                  fmt::format("{}", id), fmt::format("below vocab_size {}", out.config_.vocab_size));
    if (std::find(out.eos_ids_.begin(), out.eos_ids_.end(), id) == out.eos_ids_.end()) out.eos_ids_.push_back(id);
  }
  return out;
}

}  // namespace fathom::checkpoint
