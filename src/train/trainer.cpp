#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "core/machine.h"
#include "core/nonfinite.h"
#include "data/batches.h"
#include "io/file.h"
#include "io/pending_directory.h"
#include "kernels/peak.h"
#include "model/config.h"
#include "report/training_report.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/model_files.h"
#include "train/corpus_size.h"
#include "train/export_model.h"
#include "train/flops.h"
#include "train/memory_check.h"
#include "train/optimizer.h"
#include "train/run_log.h"
#include "train/run_state.h"
#include "train/stage_run.h"
#include "train/stages.h"
#include "train/step.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kRecentSteps = 32;      // that the spike policy's medians are of
constexpr size_t kFewestForMedian = 8;   // before which nothing is a spike
constexpr int64_t kStateHistory = 1000;  // skipped steps that the state remembers
constexpr int64_t kPeakEvery = 16;       // steps between two pieces of the arithmetic meter

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Views of a batch, which must outlive them.
model::TrainSequences SequencesOf(const data::Batch& batch) {
  return {.ids = batch.ids,
          .sequences = batch.sequences,
          .length = batch.length,
          .isolate = batch.isolate_documents,
          .starts = batch.starts,
          .learned = batch.learned};
}

// Adds the time until its end to a sum.
class Timed {
 public:
  explicit Timed(double& sum) : sum_(sum) {}
  ~Timed() { sum_ += Seconds(begin_); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void Remember(std::vector<double>& recent, double value) {
  recent.push_back(value);
  if (recent.size() > kRecentSteps) recent.erase(recent.begin());
}

// What a run begins with: configuration, tokenizer and, for `from`, the checkpoint.
struct Origin {
  std::optional<checkpoint::Checkpoint> checkpoint;
  model::ModelConfig beginning;  // before the recipe's own keys of the model
  model::ModelConfig config;
  std::string tokenizer_path;
  tokenizer::ModelText text;
};

checkpoint::Precision StoredAs(ExportType type) {
  if (type == ExportType::kF32) return checkpoint::Precision::kF32;
  return type == ExportType::kFp8 ? checkpoint::Precision::kFp8 : checkpoint::Precision::kBf16;
}

Origin OpenOrigin(const Recipe& recipe, const RunEvents& events) {
  std::optional<checkpoint::Checkpoint> from;
  model::ModelConfig config;
  const auto warn = [&](const std::string& path, const std::string& warning) {
    if (events.on_warning) events.on_warning(path + ": " + warning);
  };
  if (!recipe.model.from.empty()) {
    from.emplace(checkpoint::Open(recipe.model.from));
    config = from->config();
    for (const std::string& w : from->warnings()) warn(recipe.model.from, w);
  } else {
    model::ParsedConfig parsed = model::ReadConfigFile(recipe.model.config);
    for (const std::string& w : parsed.warnings) warn(recipe.model.config, w);
    config = std::move(parsed.config);
  }
  if (recipe.model.init_std) config.initializer_range = *recipe.model.init_std;
  model::ModelConfig beginning = config;
  ApplyModelKeys(recipe.model, config);
  // What is exported is in the run's precision, whatever the origin was in.
  config = checkpoint::WithPrecision(config, StoredAs(ExportTypeOf(recipe)));
  if (recipe.data.sequence_length > config.max_position_embeddings) {
    throw Error("data.sequence_length is longer than the model's context",
                fmt::format("{}", recipe.data.sequence_length),
                fmt::format("at most {} (max_position_embeddings)", config.max_position_embeddings));
  }
  const std::string path = recipe.model.tokenizer.empty() ? recipe.model.from : recipe.model.tokenizer;
  tokenizer::ModelText text = tokenizer::LoadModelText(path);
  if (text.tokenizer.vocab_size() > config.vocab_size) {
    throw Error("the tokenizer does not belong to this model",
                fmt::format("{} tokens in {}", text.tokenizer.vocab_size(), path),
                fmt::format("at most {} (vocab_size of the model)", config.vocab_size));
  }
  config.bos_token_id = text.tokenizer.bos_id() ? static_cast<int64_t>(*text.tokenizer.bos_id()) : config.bos_token_id;
  return {std::move(from), std::move(beginning), std::move(config), path, std::move(text)};
}

// Conversations without a named template are rendered by the model's own.
data::DataOptions DataOf(const Recipe& recipe, const tokenizer::ModelText& text) {
  data::DataOptions options = recipe.data;
  if (!data::HasChat(options)) return options;
  std::optional<std::string> named;
  if (!options.chat_template.empty()) named = options.chat_template;
  const Result<tokenizer::ChatTemplate> found = tokenizer::ChooseChatTemplate(named, text.chat_template);
  if (!found) throw found.error();
  options.chat_template = found.Value().spelling();
  return options;
}

// tokenizer.json and what belongs to it, for the exported model.
std::vector<std::pair<std::string, std::string>> TokenizerFiles(const std::string& path) {
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  std::vector<std::pair<std::string, std::string>> files;
  const fs::path json = fs::is_directory(path) ? folder / "tokenizer.json" : fs::path(path);
  files.emplace_back("tokenizer.json", tokenizer::ReadTextFile(json.string(), tokenizer::Tokenizer::kMaxFile));
  for (const char* name : {"tokenizer_config.json", "chat_template.jinja", "generation_config.json"}) {
    if (fs::exists(folder / name)) {
      files.emplace_back(name, tokenizer::ReadTextFile((folder / name).string(), 16u << 20));
    }
  }
  return files;
}

constexpr char kProvenance[] = "training.json";  // in an exported model: of which step it is

std::string Provenance(const RunState& state) {
  return json{{"step", state.step}, {"tokens", state.tokens}}.dump() + "\n";
}

class Run {
 public:
  Run(Context& ctx, const Recipe& recipe, const std::string& out_dir, const RunEvents& events, Origin origin,
      const StagePlace* place, int64_t available)
      : ctx_(ctx),
        recipe_(recipe),
        dir_(out_dir),
        events_(events),
        origin_(std::move(origin)),
        place_(place),
        available_(available),
        schedule_(recipe),
        store_(origin_.config, PolicyOf(recipe)),
        meter_(ctx) {}

  RunResult Execute(bool resume);

 private:
  std::string Path(const char* name) const { return (dir_ / name).string(); }
  void Info(const std::string& line) const {
    if (events_.on_info) events_.on_info(line);
  }
  void Warn(const std::string& line) const {
    if (events_.on_warning) events_.on_warning(line);
  }
  bool Load();
  void LoadStageBefore();
  void Begin(bool resume, bool loaded);
  bool AtEnd() const;
  bool Exported() const;
  int64_t StepsInAll(int64_t* tokens_in_all) const;
  void SayEpochs(int64_t tokens) const;
  void Step();
  std::string BadStep(const StepResult& result, double norm) const;
  std::string NonFiniteWeight() const;
  std::string NonFiniteTensor(const model::TrainSequences& batch, const StepValues& values);
  void Skip(const std::string& reason, bool listed, const std::string& tensor = "");
  data::Batch NextBatch(int64_t sequences);
  void Validate(json& row);
  double ValidationLoss(json* mtp);
  void Save();
  void WriteReport() const;
  void Export();
  std::string TapeBesideBf16() const;
  double PeakFlops();
  std::string TimeShares() const;

  Context& ctx_;
  const Recipe& recipe_;
  fs::path dir_;
  const RunEvents& events_;
  Origin origin_;
  const StagePlace* place_;  // null: a run without stages
  int64_t available_;        // bytes of memory that were free before the store was made
  StepSchedule schedule_;
  ParamStore store_;
  kernels::ArithmeticMeter meter_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<data::BatchStream> stream_, validation_;
  std::unique_ptr<RunLog> log_;
  RunState state_;
  int64_t saved_step_ = -1, steps_in_all_ = 0;
  double flops_per_token_ = 0;
  // Where the time of the run went; the rest is arithmetic.
  struct {
    double data = 0, logging = 0, validation = 0, saving = 0;
  } seconds_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// The step at which the run ends, by steps or by tokens, and the tokens seen then. Past kCounted steps the batch size
// is taken as constant.
int64_t Run::StepsInAll(int64_t* tokens_in_all) const {
  constexpr int64_t kCounted = 1 << 20;
  const int64_t by_steps = recipe_.train.steps > 0 ? recipe_.train.steps : INT64_MAX;
  const int64_t by_tokens = recipe_.train.tokens > 0 ? recipe_.train.tokens : INT64_MAX;
  int64_t steps = state_.step, tokens = state_.tokens;
  while (tokens < by_tokens && steps < by_steps && steps - state_.step < kCounted) {
    tokens += schedule_.At(tokens).tokens;
    ++steps;
  }
  const int64_t a_step = schedule_.At(tokens).tokens;
  int64_t more = std::max<int64_t>(0, by_steps - steps);
  if (by_tokens != INT64_MAX) more = std::min(more, std::max<int64_t>(0, by_tokens - tokens + a_step - 1) / a_step);
  *tokens_in_all = tokens + more * a_step;
  return steps + more;
}

void Run::SayEpochs(int64_t tokens) const {
  constexpr double kSaid = 1.2;  // it is an estimate
  const CorpusEstimate corpus = EstimateCorpus(recipe_.data, origin_.text.tokenizer, tokens);
  if (corpus.epochs < kSaid) return;
  Warn(
      fmt::format("the corpus is small for this recipe: {} has about {:.3g} tokens, of {} tokens in all it is read for "
                  "{:.1f} epochs",
                  corpus.source, corpus.tokens, tokens, corpus.epochs));
}

bool Run::AtEnd() const { return train::AtEnd(recipe_, state_.step, state_.tokens); }

// Reads the newest checkpoint, if there is one.
bool Run::Load() {
  const std::optional<LoadedState> loaded = LoadNewestRunState(dir_.string(), origin_.config, store_, ctx_);
  if (!loaded) {
    Info(fmt::format("{} has no checkpoint: beginning at step 0", dir_.string()));
    return false;
  }
  for (const std::string& w : loaded->warnings) Warn(w);
  state_ = loaded->state;
  const Recipe before = ParseRecipe(state_.recipe_toml, loaded->path + "/state.json", dir_.string());
  for (const Difference& d : Compare(before, recipe_)) {
    if (d.fixed) {
      throw Error(fmt::format("{} cannot change in a run that is resumed", d.key), d.after, d.before,
                  "resume with the recipe of the run, or begin another in a new directory");
    }
    Info(fmt::format("{} was {} and is now {}", d.key, d.before, d.after));
  }
  saved_step_ = state_.step;
  Info(fmt::format("resumed from {}: step {}, {} tokens", loaded->path, state_.step, state_.tokens));
  return true;
}

// The last state of the stage before, whatever it was saved for: its counters but for the optimizer's begin anew.
void Run::LoadStageBefore() {
  const std::optional<LoadedState> loaded = LoadNewestRunState(place_->before, place_->before_config, store_, ctx_);
  if (!loaded) {
    throw Error(place_->before + " has no checkpoint to go on from", "", "the last state of the stage before",
                "--resume with that stage's folder as it was, or begin the run again");
  }
  for (const std::string& w : loaded->warnings) Warn(w);
  state_.optimizer_steps = loaded->state.optimizer_steps;
  Info(fmt::format("weights and moments of {}, step {}", loaded->path, loaded->state.step));
}

// Everything is checked before the first file is written: a run that is refused leaves its directory empty.
void Run::Begin(bool resume, bool loaded) {
  const auto on_notice = [this](const data::Notice& notice) { Warn(data::ToString(notice)); };
  const data::DataOptions data = DataOf(recipe_, origin_.text);
  stream_ = std::make_unique<data::BatchStream>(data, origin_.text.tokenizer, data::Split::kTrain, on_notice);
  if (recipe_.validation.every > 0) {
    validation_ =
        std::make_unique<data::BatchStream>(data, origin_.text.tokenizer, data::Split::kValidation, on_notice);
  }
  if (loaded) {
    stream_->Restore(state_.data_cursor);
  } else if (place_ && !place_->before.empty()) {
    LoadStageBefore();
  } else if (origin_.checkpoint) {
    store_.Assign(ctx_, origin_.checkpoint->params());
    Info(fmt::format("weights of {}", recipe_.model.from));
  } else {
    store_.Init(ctx_, recipe_.train.seed, origin_.config.initializer_range);
  }
  if (!loaded) state_.seed = recipe_.train.seed;
  origin_.checkpoint.reset();

  const int64_t length = recipe_.data.sequence_length;
  const int64_t work = CheckStepMemory(ctx_, recipe_, origin_.config, store_, available_);
  Info(fmt::format("memory: {} for weights, gradients, moments; {} for the activations of {} x {} tokens; {} free",
                   io::HumanBytes(store_.bytes()), io::HumanBytes(work), recipe_.train.micro_batch, length,
                   available_ < 0 ? "an unknown amount" : io::HumanBytes(available_)));
  runner_ = std::make_unique<StepRunner>(ctx_, origin_.config, store_, recipe_.train.micro_batch, length,
                                         recipe_.train.recompute);
  Info(fmt::format("moments in {}; {} kept for the backward pass{}",
                   MomentsOf(recipe_.train) == MomentType::kBf16 ? "bf16" : "fp32",
                   io::HumanBytes(runner_->tape_bytes()), TapeBesideBf16()));
  state_.recipe_toml = ToToml(recipe_);
  state_.model_config_json = model::ToJson(origin_.config);
  io::WriteFileAtomically(Path("recipe.toml"), state_.recipe_toml);
  log_ = std::make_unique<RunLog>(dir_.string(), state_.step, resume, recipe_.log.tensorboard);
  flops_per_token_ = TrainFlopsPerToken(origin_.config, length);
  int64_t tokens_in_all = 0;
  steps_in_all_ = StepsInAll(&tokens_in_all);
  if (!loaded) SayEpochs(tokens_in_all);
  for (int i = 0; i < 5; ++i) meter_.Piece();
}

// What FP8 spares of the activations that wait.
std::string Run::TapeBesideBf16() const {
  if (recipe_.train.precision != Precision::kFp8) return "";
  const int64_t bf16 =
      StepRunner::PlanTapeBytes(ctx_, origin_.config, store_, recipe_.train.micro_batch, recipe_.data.sequence_length,
                                recipe_.train.recompute, model::Compute::kBf16);
  return fmt::format(", {:.2f} of bf16's {}", static_cast<double>(runner_->tape_bytes()) / static_cast<double>(bf16),
                     io::HumanBytes(bf16));
}

double Run::PeakFlops() {
  if (state_.step % kPeakEvery == 0) meter_.Piece();
  return 1e12 * (store_.policy().compute == model::Compute::kF32 ? meter_.f32() : meter_.bf16()).tera_per_s;
}

std::string Run::BadStep(const StepResult& result, double norm) const {
  if (!std::isfinite(result.losses.total)) return fmt::format("loss is {}", result.losses.total);
  if (!std::isfinite(norm)) return fmt::format("gradient norm is {}", norm);
  const double factor = recipe_.on_bad_step.spike_factor;
  if (factor <= 0 || state_.recent_losses.size() < kFewestForMedian) return "";
  const double loss = Median(state_.recent_losses), usual = Median(state_.recent_norms);
  if (result.losses.main > factor * loss)
    return fmt::format("loss {:.4g} is over {} times the median of {:.4g}", result.losses.main, factor, loss);
  if (norm > factor * usual)
    return fmt::format("gradient norm {:.4g} is over {} times the median of {:.4g}", norm, factor, usual);
  return "";
}

// The first weight that holds a NaN or an infinity, or nothing.
std::string Run::NonFiniteWeight() const {
  for (const StoredTensor& t : store_.tensors()) {
    if (FirstNonFiniteOf(t.master, DType::kF32, t.n) >= 0) return t.name;
  }
  return "";
}

// The first tensor of the step to come that holds a NaN or an infinity, as "layers.3.mlp.experts.5.down_proj gradient",
// or nothing. The step is computed again for it.
std::string Run::NonFiniteTensor(const model::TrainSequences& batch, const StepValues& values) {
  const std::string weight = NonFiniteWeight();
  if (!weight.empty()) return weight;
  const std::string seen = runner_->FirstNonFinite(batch, values.mtp_loss_weight, recipe_.schedule.aux_loss_alpha);
  if (!seen.empty()) return seen;
  for (const StoredTensor& t : store_.tensors()) {
    if (t.grad && FirstNonFiniteOf(t.grad, DType::kF32, t.n) >= 0) return t.name + " gradient";
  }
  return "";
}

void Run::Skip(const std::string& reason, bool listed, const std::string& tensor) {
  DropGradients(ctx_, store_);
  state_.skipped_steps.push_back(state_.step + 1);
  if (static_cast<int64_t>(state_.skipped_steps.size()) > kStateHistory)
    state_.skipped_steps.erase(state_.skipped_steps.begin());
  if (listed) return;
  ++state_.skips_in_a_row;
  const bool nonfinite = reason.ends_with("nan") || reason.ends_with("inf");
  const bool stop = nonfinite && recipe_.on_bad_step.nonfinite == NonfinitePolicy::kStop;
  if (!stop && state_.skips_in_a_row <= recipe_.on_bad_step.max_skips) {
    Warn(fmt::format("step {} skipped: {}{}", state_.step + 1, reason,
                     tensor.empty() ? "" : fmt::format("; the first that is not finite: {}", tensor)));
    return;
  }
  const std::string what = stop ? fmt::format("step {}: {}", state_.step + 1, reason)
                                : fmt::format("{} bad steps in a row, the last: {}", state_.skips_in_a_row, reason);
  if (nonfinite) {
    // Weights that hold a NaN are to blame before anything else.
    const std::string culprit = NonFiniteWeight();
    if (!culprit.empty()) {
      throw Error(what, fmt::format("a NaN or infinity in the weight {}", culprit), "finite weights",
                  recipe_.model.from.empty()
                      ? "begin again from a checkpoint that is good, with a lower learning rate"
                      : fmt::format("`fathom inspect {} --scan` tells whether it was there from the beginning",
                                    recipe_.model.from));
    }
    throw Error(what,
                tensor.empty()
                    ? "finite weights, so the activations or gradients overflowed"
                    : fmt::format("finite weights; a NaN or infinity first in {}, step {}", tensor, state_.step + 1),
                "finite losses and gradients",
                "the last checkpoint is good: resume with a lower learning rate, or with on_bad_step.skip_steps");
  }
  throw Error(what, "", "steps like those before",
              "the last checkpoint is good: resume with a lower learning rate, or with on_bad_step.skip_steps");
}

void Run::Step() {
  const auto begin = std::chrono::steady_clock::now();
  const StepValues values = schedule_.At(state_.tokens);
  const data::Batch batch = NextBatch(values.batch_size);
  const std::vector<int64_t>& listed = recipe_.on_bad_step.skip_steps;
  const bool skip = std::find(listed.begin(), listed.end(), state_.step + 1) != listed.end();
  StepFigures figures{
      .step = state_.step + 1, .tokens = state_.tokens + values.tokens, .values = values, .skipped = {}};
  StepResult result;
  if (skip) {
    figures.skipped = "listed in on_bad_step.skip_steps";
    result.losses.main = result.losses.balance = NAN;
    Skip(figures.skipped, true);
  } else {
    const bool measured = recipe_.train.precision == Precision::kFp8 && (state_.step + 1) % recipe_.log.load_every == 0;
    result = runner_->ForwardBackward(SequencesOf(batch), values.mtp_loss_weight, recipe_.schedule.aux_loss_alpha,
                                      measured ? &figures.gradient_errors : nullptr);
    figures.grad_norm = GradientNorm(ctx_, store_);
    figures.skipped = BadStep(result, figures.grad_norm);
    if (figures.skipped.empty()) {
      AdamwStep(ctx_, store_,
                {.lr = values.lr,
                 .beta1 = recipe_.optimizer.beta1,
                 .beta2 = recipe_.optimizer.beta2,
                 .eps = recipe_.optimizer.eps,
                 .weight_decay = recipe_.optimizer.weight_decay,
                 .clip = recipe_.optimizer.clip,
                 .ema_decay = recipe_.optimizer.ema_decay,
                 .step = ++state_.optimizer_steps},
                figures.grad_norm);
      UpdateRouterBias(store_, result.sums.load, values.bias_update_speed);
      state_.skips_in_a_row = 0;
      Remember(state_.recent_losses, result.losses.main);
      Remember(state_.recent_norms, figures.grad_norm);
    } else {
      const bool finite = std::isfinite(result.losses.total) && std::isfinite(figures.grad_norm);
      Skip(figures.skipped, false, finite ? "" : NonFiniteTensor(SequencesOf(batch), values));
    }
  }
  state_.step += 1;
  state_.tokens += values.tokens;
  figures.seconds = Seconds(begin);
  const double peak = PeakFlops();
  figures.mfu = peak > 0 ? flops_per_token_ * static_cast<double>(values.tokens) / figures.seconds / peak : 0;
  figures.result = &result;
  figures.with_load = state_.step % recipe_.log.load_every == 0 || AtEnd();
  json row = MetricsRow(figures, store_);
  if (place_) row["stage"] = place_->name;
  if (validation_ && (state_.step % recipe_.validation.every == 0 || AtEnd())) Validate(row);
  const Timed logging(seconds_.logging);
  log_->Write(row);
  if (events_.on_step) events_.on_step(row, state_.step, steps_in_all_, Seconds(begin_));
}

double Run::ValidationLoss(json* mtp) {
  validation_->Rewind();
  model::ObjectiveSums sums;
  model::TargetCounts targets;
  for (int64_t left = recipe_.validation.sequences; left > 0;) {
    const data::Batch batch = validation_->Next(std::min(left, recipe_.train.micro_batch));
    if (batch.sequences == 0) break;
    left -= batch.sequences;
    const StepResult part = runner_->Evaluate(SequencesOf(batch));
    sums.Add(part.sums);
    targets.Add(part.targets);
  }
  const model::Losses losses = model::LossesOf(sums, {.targets = targets, .sequences = 1});
  if (mtp && !losses.mtp_depth.empty()) *mtp = losses.mtp_depth;
  return losses.main;
}

void Run::Validate(json& row) {
  const Timed timed(seconds_.validation);
  json mtp;
  row["val_loss"] = ValidationLoss(&mtp);
  if (!mtp.is_null()) row["val_mtp_loss"] = std::move(mtp);
}

data::Batch Run::NextBatch(int64_t sequences) {
  const Timed timed(seconds_.data);
  return stream_->Next(sequences);
}

std::string Run::TimeShares() const {
  const double all = Seconds(begin_);
  const auto share = [&](double part) { return 100 * part / all; };
  return fmt::format("{:.0f} s: data {:.2f} %, logging {:.2f} %, checkpoints {:.2f} %, validation {:.2f} %", all,
                     share(seconds_.data), share(seconds_.logging), share(seconds_.saving), share(seconds_.validation));
}

void Run::Save() {
  const Timed timed(seconds_.saving);
  state_.data_cursor = stream_->Cursor();
  const auto begin = std::chrono::steady_clock::now();
  const SavedState saved = SaveRunState(dir_.string(), store_, state_, recipe_.checkpoint.keep, ctx_.pool);
  for (const std::string& w : saved.warnings) Warn(w);
  saved_step_ = state_.step;
  log_->Flush();
  WriteReport();
  Info(fmt::format("saved {} ({} in {:.2f} s)", saved.path, io::HumanBytes(saved.bytes), Seconds(begin)));
}

void Run::WriteReport() const {
  report::TrainingNotes notes;
  notes.title = "Training run " + fs::absolute(dir_).lexically_normal().filename().string();
  const model::ParamCount count = model::CountParams(origin_.config);
  notes.subtitle = fmt::format("{} parameters, {} of them active a token", count.main, count.activated);
  notes.facts = {{"machine", CpuName()}, {"build", BuildCommit()}};
  for (int64_t l = 0; l < origin_.config.num_hidden_layers + origin_.config.num_nextn_predict_layers; ++l) {
    if (l >= origin_.config.first_k_dense_replace) notes.layer_names.push_back(fmt::format("layer {}", l));
  }
  notes.texts = {{"Recipe", state_.recipe_toml}};
  io::WriteFileAtomically(Path("report.html"), report::TrainingReportHtml(log_->metrics_path(), notes));
}

// Whether the exported models are those of this step: a run that went on beyond its end has older ones for a while.
bool Run::Exported() const {
  const auto is_of_this_step = [&](const char* name) {
    const Result<std::string> text = io::ReadFile((fs::path(Path(name)) / kProvenance).string(), 4096);
    return text.ok() && text.Value() == Provenance(state_);
  };
  return is_of_this_step("final") && (!store_.policy().ema || is_of_this_step("final-ema"));
}

void Run::Export() {
  checkpoint::WriteOptions options;
  options.precision = StoredAs(ExportTypeOf(recipe_));
  options.force = true;
  options.files = TokenizerFiles(origin_.tokenizer_path);
  options.files.emplace_back(kProvenance, Provenance(state_));
  ExportModel(store_, origin_.config, Path("final"), options, false, ctx_.pool);
  Info("wrote " + Path("final"));
  if (!store_.policy().ema) return;
  ExportModel(store_, origin_.config, Path("final-ema"), options, true, ctx_.pool);
  Info("wrote " + Path("final-ema"));
}

RunResult Run::Execute(bool resume) {
  const bool loaded = resume && Load();
  if (loaded && AtEnd() && Exported()) {
    Info(fmt::format("{} is finished: {} steps, {} tokens", dir_.string(), state_.step, state_.tokens));
    return {.finished = true, .step = state_.step, .final_dir = Path("final")};
  }
  Begin(resume, loaded);
  begin_ = std::chrono::steady_clock::now();
  while (!AtEnd()) {
    if (events_.should_stop && events_.should_stop()) {
      if (saved_step_ != state_.step) Save();
      return {.finished = false, .step = state_.step, .final_dir = ""};
    }
    Step();
    if (recipe_.checkpoint.every > 0 && state_.step % recipe_.checkpoint.every == 0 && !AtEnd()) Save();
  }
  if (saved_step_ != state_.step) Save();
  Info(TimeShares());
  Export();
  return {.finished = true, .step = state_.step, .final_dir = Path("final")};
}

}  // namespace

void PrepareDirectory(const std::string& folder, bool resume) {
  const fs::path dir = folder;
  std::error_code error;
  if (fs::exists(dir, error) && !fs::is_directory(dir, error))
    throw Error(dir.string() + " is a file", "", "a directory for the run", "give --out another name");
  if (!resume && fs::exists(dir, error) && !fs::is_empty(dir, error)) {
    throw Error(dir.string() + " is not empty",
                fmt::format("{} in it", fs::directory_iterator(dir)->path().filename().string()),
                "a new or empty directory for a new run", "--resume goes on with the run that is there");
  }
  fs::create_directories(dir, error);
  if (error) throw io::FileError("cannot make the directory " + dir.string(), dir.string(), error.value());
  std::vector<fs::path> left;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (io::IsTemporaryName(it->path().filename().string())) left.push_back(it->path());
  }
  for (const fs::path& path : left) fs::remove_all(path, error);
}

bool AtEnd(const Recipe& recipe, int64_t step, int64_t tokens) {
  return (recipe.train.steps > 0 && step >= recipe.train.steps) ||
         (recipe.train.tokens > 0 && tokens >= recipe.train.tokens);
}

model::ModelConfig CheckBeginning(const Recipe& recipe) {
  Origin origin = OpenOrigin(recipe, {.on_info = {}, .on_warning = {}, .on_step = {}, .should_stop = {}});
  CheckStateMemory(recipe, origin.config, AvailableMemory());
  origin.beginning.bos_token_id = origin.config.bos_token_id;  // the tokenizer's, as in what the stages save
  return std::move(origin.beginning);
}

RunResult RunStage(Context& ctx, const Recipe& recipe, const std::string& out_dir, bool resume, const RunEvents& events,
                   const StagePlace* place) {
  train::Validate(recipe);
  if (!resume) PrepareDirectory(out_dir, false);  // before the time that opening takes
  Origin origin = OpenOrigin(recipe, events);
  const int64_t available = AvailableMemory();
  CheckStateMemory(recipe, origin.config, available);
  PrepareDirectory(out_dir, true);
  return Run(ctx, recipe, out_dir, events, std::move(origin), place, available).Execute(resume);
}

}  // namespace fathom::train
