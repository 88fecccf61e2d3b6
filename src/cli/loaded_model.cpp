#include "cli/loaded_model.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace fathom::cli {
namespace {

// Below this many parameters a checkpoint runs in float32 unless told otherwise: reading its weights, not arithmetic,
// is what takes the time, and the result is the reference implementations' own.
constexpr int64_t kExactBelow = 200'000'000;

std::function<void(std::string_view)> Verbose() {
  const char* v = std::getenv("FATHOM_VERBOSE");
  if (!v || std::string_view(v) != "dispatch") return {};
  return [](std::string_view line) {
    std::fprintf(stderr, "fathom: dispatch: %.*s\n", static_cast<int>(line.size()), line.data());
  };
}

}  // namespace

model::Compute ChooseCompute(const std::string& name, const model::ModelConfig& config) {
  if (name == "f32") return model::Compute::kF32;
  if (name == "bf16") return model::Compute::kBf16;
  if (name == "w8a8") return model::Compute::kW8A8;
  if (name != "auto") throw Error("unknown --compute", name, "auto, f32, bf16 or w8a8");
  if (config.torch_dtype == "float32" && !config.quantization_config) return model::Compute::kF32;
  return model::CountParams(config).main < kExactBelow ? model::Compute::kF32 : model::Compute::kBf16;
}

Isa ChooseIsa(const std::string& name) {
  if (name.empty()) return Context::IsaFromEnvironment();
  const Isa isa = IsaFromName(name);
  if (!MachineHas(isa)) {
    throw Error("this machine lacks the instruction set", name,
                fmt::format("one of its own; the best is {}", Name(BestIsa())));
  }
  return isa;
}

void AddModelOptions(CLI::App& c, ModelOptions& o, bool positional) {
  if (positional) c.add_option("MODEL", o.model, "Checkpoint directory (config.json, *.safetensors)")->required();
  c.add_option("--config", o.config, "Configuration file, where the directory has none");
  c.add_option("--compute", o.compute,
               "Arithmetic: f32, bf16, w8a8; auto is f32 for checkpoints in F32 or below 200M parameters, else bf16")
      ->capture_default_str()
      ->type_name("NAME");
  c.add_option("--force-isa", o.force_isa,
               "Kernels of this instruction set: reference sse4 avx2 avx512 avx512bf16 amx neon (default: the best)")
      ->type_name("NAME");
  c.add_option("--threads,-t", o.threads, "Threads (default: one for each core that this process may use)")
      ->check(CLI::Range(1, 1024));
}

LoadedModel::LoadedModel(const ModelOptions& o)
    : checkpoint_(checkpoint::Open(o.model, {.config_path = o.config})),
      pool_(o.threads > 0 ? o.threads : DefaultThreadCount()),
      ctx_{.pool = pool_, .isa = ChooseIsa(o.force_isa), .verbose = Verbose()},
      compute_(ChooseCompute(o.compute, checkpoint_.config())) {
  for (const std::string& w : checkpoint_.warnings()) std::fprintf(stderr, "fathom: warning: %s\n", w.c_str());
}

void LoadedModel::BuildTransformer(int64_t positions, bool beyond) {
  if (!beyond && positions > config().max_position_embeddings) {
    throw Error("longer than the model's context", fmt::format("{} positions", positions),
                fmt::format("at most {} (max_position_embeddings)", config().max_position_embeddings),
                "shorten the prompt, or lower --max-tokens or --ctx-size");
  }
  transformer_.emplace(checkpoint_.config(), compact_ ? compact_->params() : checkpoint_.params(), positions);
}

std::string LoadedModel::Description() const {
  return fmt::format("{} on {} thread{}, {}", kernels::Name(compute_), pool_.size(), pool_.size() == 1 ? "" : "s",
                     Name(ctx_.isa));
}

std::unique_ptr<engine::Engine> MakeEngine(LoadedModel& model, int64_t sequences, engine::EngineOptions o) {
  constexpr int64_t kMaxBatch = 64;
  constexpr double kCalibration = 0.2;
  o.compute = model.compute();
  o.cache_dtype = model.cache_dtype();
  o.max_running = std::clamp<int64_t>(sequences, 1, kMaxBatch);
  o.cache_tokens = o.max_running * engine::BlocksFor(o.max_context) * engine::kBlockTokens;
  o.prompt_tokens = INT32_MAX;  // nobody waits for a single token
  if (o.drafts < 0) o.drafts = model.transformer().mtp_depth() > 0 ? 1 : 0;
  o.verification = engine::Verification::kCoupled;
  auto engine = std::make_unique<engine::Engine>(model.ctx(), model.transformer(), o);
  if (o.drafts > 0) engine->Calibrate(kCalibration);
  return engine;
}

void AddDraftsOption(CLI::App& command, int64_t& drafts) {
  command
      .add_option("--drafts", drafts,
                  "Tokens that the model's MTP module drafts ahead, at most (default: 1 if it has one; 0: none)")
      ->check(CLI::Range(0, 8));
}

void CheckVocabulary(const tokenizer::Tokenizer& tokenizer, const model::ModelConfig& config) {
  if (tokenizer.vocab_size() <= config.vocab_size) return;
  throw Error("the tokenizer does not belong to this model",
              fmt::format("{} tokens in tokenizer.json", tokenizer.vocab_size()),
              fmt::format("at most {} (vocab_size of config.json)", config.vocab_size));
}

std::vector<int32_t> ParseIds(const std::string& text) {
  std::vector<int32_t> ids;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t comma = std::min(text.find(',', at), text.size());
    std::string_view part = std::string_view(text).substr(at, comma - at);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), id);
    if (error != std::errc() || end != part.data() + part.size()) {
      throw Error("--ids is a list of token ids", fmt::format("'{}'", part),
                  "numbers separated by commas, e.g. 5,17,3");
    }
    ids.push_back(id);
    at = comma + 1;
  }
  return ids;
}

}  // namespace fathom::cli
