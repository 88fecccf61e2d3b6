#include "cli/served_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>

#include "checkpoint/fingerprint.h"
#include "cli/sampling_options.h"
#include "core/machine.h"
#include "core/stopwatch.h"
#include "io/file.h"
#include "net/http_server.h"

namespace fathom::cli {
namespace {

std::string Size(int64_t bytes) {
  constexpr double kMib = 1 << 20, kGib = 1 << 30;
  const auto value = static_cast<double>(bytes);
  return value >= kGib ? fmt::format("{:.1f} GiB", value / kGib) : fmt::format("{:.1f} MiB", value / kMib);
}

DType CacheType(const std::string& name, model::Compute compute) {
  if (name.empty()) return compute == model::Compute::kBf16 ? DType::kBF16 : DType::kF32;
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "fp8") return DType::kF8E4M3;
  throw Error("unknown --cache-dtype", name, "f32, bf16 or fp8");
}

int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint) {
  int64_t bytes = 0;
  checkpoint.ForEachParam(
      [&](const model::ParamInfo&, const kernels::Weight& w) { bytes += w.rows * w.cols * SizeOf(w.dtype); });
  return bytes;
}

// Free memory, or less where a model gets a part of what is allowed; negative: not known.
int64_t MemoryFor(const ServeFlags& f) {
  const int64_t available = AvailableMemory();
  if (f.memory_share <= 0) return available;
  return available < 0 ? f.memory_share : std::min(available, f.memory_share);
}

int64_t DraftsOf(const ServeFlags& f, const model::ModelConfig& config) {
  return f.drafts >= 0 ? f.drafts : config.num_nextn_predict_layers > 0 ? 1 : 0;
}

// Bytes of compact weights; 0 where there will be none: a quarter of the memory is to be left beside them and the cache
// that was asked for, and models that lie in the processor's caches gain nothing.
int64_t PlanCompactWeights(const ServeFlags& f, const checkpoint::Checkpoint& model, Isa isa, model::Compute compute,
                           int64_t token_bytes) {
  constexpr int64_t kLeastBytes = int64_t{256} << 20;
  if (f.no_compact_weights) return 0;
  const int64_t bytes = model::CompactWeights::Bytes(isa, compute, model.config(), model.params());
  const int64_t memory = MemoryFor(f), others = WeightBytes(model) + f.cache_tokens * token_bytes;
  return bytes >= kLeastBytes && others + bytes <= memory - memory / 4 ? bytes : 0;
}

// Compact weights, and how many positions the cache holds. By default: what the sequences that run together can use at
// most, in half of the memory that is free beside the weights (the other half is for working memory and for everybody
// else).
struct ServedMemory {
  DType cache_dtype;
  int64_t compact_bytes, ctx_size, tokens, cache_bytes;
};
ServedMemory PlanMemory(const ServeFlags& f, const checkpoint::Checkpoint& model, Isa isa, model::Compute compute) {
  // The MTP module has a layer of the cache where it drafts.
  const int64_t layers = model.config().num_hidden_layers + (DraftsOf(f, model.config()) > 0 ? 1 : 0);
  const DType dtype = CacheType(f.cache_dtype, compute);
  const int64_t token_bytes = engine::LatentLayout::Of(model.config(), layers, dtype).token_bytes();
  const int64_t limit = model.config().max_position_embeddings;
  if (f.ctx_size > limit) {
    throw Error("--ctx-size is more than the model's context", fmt::format("{}", f.ctx_size),
                fmt::format("at most {} (max_position_embeddings)", limit));
  }
  constexpr int64_t kUnit = engine::kBlockTokens;
  ServedMemory plan{.cache_dtype = dtype,
                    .compact_bytes = PlanCompactWeights(f, model, isa, compute, token_bytes),
                    .ctx_size = f.ctx_size > 0 ? f.ctx_size : limit,
                    .tokens = f.cache_tokens,
                    .cache_bytes = 0};
  if (plan.tokens > 0) {
    if (f.ctx_size == 0) plan.ctx_size = std::min(plan.ctx_size, plan.tokens);
    if (plan.tokens < plan.ctx_size) {
      throw Error("--cache-tokens is less than --ctx-size", fmt::format("{}", plan.tokens),
                  fmt::format("at least {}", plan.ctx_size), "one sequence must fit");
    }
  } else {
    const int64_t memory = MemoryFor(f);
    const int64_t taken = WeightBytes(model) + plan.compact_bytes;
    const int64_t spare = memory < 0 ? 0 : std::max<int64_t>(memory - taken, 0) / 2;
    const int64_t fits = spare / token_bytes / kUnit * kUnit;
    if (f.ctx_size == 0)
      plan.ctx_size = std::min(plan.ctx_size, std::max<int64_t>(fits, std::min<int64_t>(limit, 4096)));
    plan.tokens = std::clamp(fits, plan.ctx_size, engine::BlocksFor(plan.ctx_size) * kUnit * f.max_running);
  }
  plan.tokens = engine::BlocksFor(plan.tokens) * kUnit;
  plan.cache_bytes = plan.tokens * token_bytes;
  return plan;
}

server::ServedModel Describe(const ServeFlags& f, const LoadedModel& model) {
  server::ServedModel served{.names = f.names, .text = tokenizer::LoadModelText(model.checkpoint().path())};
  CheckVocabulary(served.text.tokenizer, model.config());
  const std::string base = NameOfModel(model.checkpoint().path());
  if (std::find(served.names.begin(), served.names.end(), base) == served.names.end()) served.names.push_back(base);
  served.Prepare(f.chat_template.empty() ? std::nullopt : std::optional(f.chat_template));
  served.vocab_size = model.config().vocab_size;
  for (int64_t id : model.checkpoint().eos_ids()) served.eos_ids.push_back(static_cast<int32_t>(id));
  served.defaults = Resolve({}, model.checkpoint().generation_config());
  served.deepseek_temperature = f.deepseek_temperature;
  served.figures = {.bytes = WeightBytes(model.checkpoint()),
                    .n_embd = model.config().hidden_size,
                    .n_ctx_train = model.config().max_position_embeddings};
  model.checkpoint().ForEachParam(
      [&](const model::ParamInfo&, const kernels::Weight& w) { served.figures.params += w.rows * w.cols; });
  served.created = std::time(nullptr);
  served.fingerprint = "fathom-" + BuildCommit();
  return served;
}

}  // namespace

std::string NameOfModel(const std::string& directory) {
  const auto path = std::filesystem::weakly_canonical(std::filesystem::path(directory));
  return path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
}

int64_t ServedCheckpoint::EstimateBytes(const ServeFlags& f) {
  const checkpoint::Checkpoint checkpoint = checkpoint::Open(f.model.model, {.config_path = f.model.config});
  const ServedMemory plan =
      PlanMemory(f, checkpoint, ChooseIsa(f.model.force_isa), ChooseCompute(f.model.compute, checkpoint.config()));
  const int64_t head =
      f.no_greedy_head ? 0 : kernels::CodedBytes(checkpoint.config().vocab_size, checkpoint.config().hidden_size);
  return WeightBytes(checkpoint) + plan.compact_bytes + plan.cache_bytes + head;
}

int64_t ServedCheckpoint::bytes() const {
  return WeightBytes(model_.checkpoint()) + engine_->cache_bytes() + engine_->arena_bytes() +
         engine_->greedy_head_bytes() + CompactBytes();
}

int64_t ServedCheckpoint::CompactBytes() const {
  return model_.compact_weights() ? model_.compact_weights()->storage().bytes() : 0;
}

ServedCheckpoint::ServedCheckpoint(const ServeFlags& flags, server::AccessLog* log, cache::BlockStore* store,
                                   server::ServerOptions options)
    : f_(flags), model_(flags.model), served_(Describe(flags, model_)) {
  MakeEngine(store);
  thread_.emplace(*engine_);
  api_.emplace(served_, *engine_, *thread_, log, std::move(options));
}

// Lines about work that takes long: "fathom: reading NAME: 1.2 GiB of 5.0 GiB, 1.5 GB/s, 3 s left".
std::function<void(int64_t, int64_t)> ServedCheckpoint::Telling(const char* doing) const {
  constexpr double kBetweenLines = 5;  // seconds
  return [doing, name = served_.names.front(), clock = Stopwatch(), seconds = 0.0, told = 0.0](int64_t done,
                                                                                               int64_t total) mutable {
    seconds += clock.Lap();
    if (seconds < told + kBetweenLines) return;
    told = seconds;
    const double rate = static_cast<double>(done) / seconds;
    std::fprintf(stderr, "fathom: %s %s: %s of %s, %s/s, %.0f s left\n", doing, name.c_str(),
                 io::HumanBytes(done).c_str(), io::HumanBytes(total).c_str(),
                 io::HumanBytes(static_cast<int64_t>(rate)).c_str(), static_cast<double>(total - done) / rate);
  };
}

// Weights that fit beside what else is needed are read before the first request, which would wait for each page
// otherwise.
void ServedCheckpoint::LoadWeights(int64_t other_bytes) {
  const checkpoint::Checkpoint& files = model_.checkpoint();
  const int64_t available = AvailableMemory();
  if (!f_.mlock && available >= 0 && files.file_bytes() + other_bytes > available) return;
  files.Load(f_.mlock, Telling("reading"));
}

void ServedCheckpoint::MakeCompactWeights() {
  auto weights = std::make_unique<model::CompactWeights>(model_.ctx(), model_.config(), model_.checkpoint().params(),
                                                         Telling("making compact weights of"));
  if (f_.mlock) {
    io::LockMemory(weights->storage().data(), weights->storage().bytes(),
                   "the compact weights of " + served_.names.front());
  }
  model_.Use(std::move(weights));
}

void ServedCheckpoint::MakeEngine(cache::BlockStore* store) {
  const int64_t drafts = DraftsOf(f_, model_.config());
  const ServedMemory plan = PlanMemory(f_, model_.checkpoint(), model_.ctx().isa, model_.compute());
  LoadWeights(plan.cache_bytes + plan.compact_bytes);
  if (plan.compact_bytes > 0) MakeCompactWeights();
  model_.BuildTransformer(plan.ctx_size);
  // Another build may compute other bits.
  std::string identity;
  if (store) identity = checkpoint::WeightsFingerprint(model_.checkpoint(), model_.ctx().pool) + " " + BuildCommit();
  engine_.emplace(model_.ctx(), model_.transformer(),
                  engine::EngineOptions{.compute = model_.compute(),
                                        .cache_dtype = plan.cache_dtype,
                                        .max_context = plan.ctx_size,
                                        .cache_tokens = plan.tokens,
                                        .max_running = f_.max_running,
                                        .step_tokens = f_.step_tokens,
                                        .prompt_tokens = f_.prompt_tokens,
                                        .max_waiting = f_.max_waiting,
                                        .prefix_cache = !f_.no_prefix_cache,
                                        .batch_invariant = f_.batch_invariant,
                                        .drafts = drafts,
                                        .count_experts = !f_.admin_keys.empty() || !f_.api_key_file.empty(),
                                        .greedy_head = !f_.no_greedy_head,
                                        .block_store = store,
                                        .model_identity = identity,
                                        .tell_within = net::WriteTogether});
  served_.max_context = plan.ctx_size;
  engine_->PrepareGreedyHead();
  engine_->ProvideMemory();
  if (drafts > 0) engine_->Calibrate();
}

std::string ServedCheckpoint::Announcement() const {
  const engine::EngineOptions& o = engine_->options();
  return fmt::format("{}: {}\n", served_.names.front(), model_.Description()) +
         fmt::format("cache: {} tokens in {} ({}); context {}; up to {} requests at once, {} waiting\n", o.cache_tokens,
                     Name(o.cache_dtype), Size(engine_->cache_bytes()), o.max_context, o.max_running,
                     o.max_waiting > 0 ? fmt::format("{}", o.max_waiting) : "any number") +
         fmt::format("weights: {}\n", CompactBytes() > 0
                                          ? fmt::format("as they are, and in 12 bits a value, which products read ({})",
                                                        Size(CompactBytes()))
                                          : "as they are") +
         fmt::format("greedy answers: {}\n",
                     engine_->greedy_head_bytes() > 0
                         ? fmt::format("logits of candidates only, by 8-bit codes of lm_head ({})",
                                       Size(engine_->greedy_head_bytes()))
                         : "all logits") +
         fmt::format("drafts: {}; chat: {}\n",
                     o.drafts > 0 ? fmt::format("at most {} a step by the model's MTP module", o.drafts) : "none",
                     served_.chat ? fmt::format("template {}", tokenizer::Name(*served_.chat))
                                  : served_.no_chat + "; completion only");
}

}  // namespace fathom::cli
