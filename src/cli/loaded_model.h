// What the commands that run a model share: the options that choose it and its arithmetic, and the objects that these
// give.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/context.h"
#include "engine/engine.h"
#include "model/compact_weights.h"
#include "model/transformer.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace fathom::cli {

struct ModelOptions {
  std::string model;   // directory
  std::string config;  // where the directory has none, or for demo shards
  std::string compute = "auto";
  std::string force_isa;
  int threads = 0;  // 0: DefaultThreadCount()
};

// MODEL --config --compute --force-isa --threads. `positional`: MODEL is a positional argument and required.
void AddModelOptions(CLI::App& command, ModelOptions& options, bool positional = true);

// What --compute means for a model, and --force-isa ("": FATHOM_FORCE_ISA or the best); both throw Error.
model::Compute ChooseCompute(const std::string& name, const model::ModelConfig& config);
Isa ChooseIsa(const std::string& name);

class LoadedModel {
 public:
  // Opens the checkpoint (headers only), prints its warnings on standard error, starts the threads.
  explicit LoadedModel(const ModelOptions& options);

  // Before BuildTransformer: products of few rows will read `weights`, which must be of checkpoint().
  void Use(std::unique_ptr<model::CompactWeights> weights) { compact_ = std::move(weights); }
  const model::CompactWeights* compact_weights() const { return compact_.get(); }

  // Before transformer(): the angles of `positions` positions are made. Throws Error where the model has fewer, unless
  // what lies beyond is wanted.
  void BuildTransformer(int64_t positions, bool beyond = false);

  const checkpoint::Checkpoint& checkpoint() const { return checkpoint_; }
  const model::ModelConfig& config() const { return checkpoint_.config(); }
  const model::Transformer& transformer() const { return *transformer_; }
  Context& ctx() { return ctx_; }
  model::Compute compute() const { return compute_; }
  // BF16 rows in BF16 arithmetic, else float32.
  DType cache_dtype() const { return compute_ == model::Compute::kBf16 ? DType::kBF16 : DType::kF32; }
  // "bf16 on 2 threads, avx512bf16"
  std::string Description() const;

 private:
  checkpoint::Checkpoint checkpoint_;
  ThreadPool pool_;
  Context ctx_;
  model::Compute compute_;
  std::unique_ptr<model::CompactWeights> compact_;
  std::optional<model::Transformer> transformer_;
};

// An engine for `sequences` requests of up to max_context positions each, as many at once as a batch may have. What
// `options` leaves open comes from the model; drafts < 0: one if the model has an MTP module. Seeds give the same
// answers with and without drafts.
std::unique_ptr<engine::Engine> MakeEngine(LoadedModel& model, int64_t sequences, engine::EngineOptions options);
// --drafts
void AddDraftsOption(CLI::App& command, int64_t& drafts);

// Throws Error if the tokenizer has ids that the model's embedding lacks.
void CheckVocabulary(const tokenizer::Tokenizer& tokenizer, const model::ModelConfig& config);

// "5,17,3" as token ids; throws Error naming what is no number.
std::vector<int32_t> ParseIds(const std::string& text);

}  // namespace fathom::cli
