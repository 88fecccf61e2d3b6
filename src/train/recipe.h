// A training run's recipe: a TOML file (docs/train-recipe.md has every key) read into plain structs.
//
// VisitFields is the one list of keys: reading, --set, printing, checking of ranges and the comparison on resume go
// over it. Relative paths in a file are relative to its folder, those of --set to the working directory; in a Recipe
// they are absolute.
//
// A recipe may have stages after its own run: tables of keys that override it (Stages makes whole recipes of them).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/options.h"
#include "model/config.h"
#include "model/transformer.h"
#include "train/parallel_recipe.h"
#include "train/schedule.h"

namespace fathom::train {

enum class Precision : uint8_t { kBf16, kFp32, kFp8 };    // of the arithmetic; master weights are float32 in all
enum class MomentType : uint8_t { kFp32, kBf16, kAuto };  // of Adam's two moments; kAuto: MomentsOf
enum class GradientTiles : uint8_t { k1x128, k128x128 };  // that FP8 quantises activation gradients in
enum class ExportType : uint8_t { kAuto, kF32, kBf16, kFp8 };
enum class NonfinitePolicy : uint8_t { kSkip, kStop };

struct ModelRecipe {
  std::string config;              // config.json of a model to be initialised
  std::string from;                // or a checkpoint's folder to continue
  std::string tokenizer;           // tokenizer.json or its folder; empty with `from`: the checkpoint's
  std::optional<double> init_std;  // without it: the config's initializer_range
  // Instead of what the config says; ApplyModelKeys (stages.h) applies them. A factor of 1: no scaling.
  std::optional<model::RopeScaling> rope_scaling;
  int64_t max_position_embeddings = 0;  // 0: the scaling's factor * original length if it is given, else the config's
};

struct TrainRecipe {
  int64_t steps = 0;  // the run ends at the first of the two that is reached; 0: no such end
  int64_t tokens = 0;
  int64_t micro_batch = 1;  // sequences computed at a time
  uint64_t seed = 0;        // of the initial weights
  Precision precision = Precision::kBf16;
  model::Recompute recompute = model::Recompute::kPaper;  // what the backward pass computes again
  MomentType optimizer_moments = MomentType::kAuto;
  GradientTiles fp8_gradient_tiles = GradientTiles::k1x128;
};

struct OptimizerRecipe {  // AdamW, V3 report 4.2; eps is not in it
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;       // of the gradient's norm; 0: off
  double ema_decay = 0.0;  // of the averaged weights, a step; 0: off
};

struct ScheduleRecipe {
  Schedule lr;                                             // must be given
  Schedule batch_size;                                     // sequences a step; must be given
  Schedule mtp_loss_weight = Schedule::Constant(0.3);      // lambda
  Schedule bias_update_speed = Schedule::Constant(0.001);  // gamma
  double aux_loss_alpha = 1e-4;                            // of the sequence-wise balance loss
};

struct CheckpointRecipe {
  int64_t every = 1000;                         // steps; 0: only at the end
  int64_t keep = 2;                             // how many remain
  ExportType export_dtype = ExportType::kAuto;  // of the exported models; kAuto: as train.precision
};

struct LogRecipe {
  int64_t every = 1;        // steps between lines of progress; metrics.jsonl has every step
  int64_t load_every = 10;  // steps between rows with each expert's load
  bool tensorboard = true;
};

struct ValidationRecipe {
  int64_t every = 0;  // steps; 0: never
  int64_t sequences = 64;
};

struct BadStepRecipe {
  NonfinitePolicy nonfinite = NonfinitePolicy::kSkip;  // a loss or gradient norm that is NaN or infinite
  double spike_factor = 0.0;        // skip when the loss or gradient norm is over this times its running median; 0: off
  int64_t max_skips = 10;           // in a row, then the run stops
  std::vector<int64_t> skip_steps;  // steps whose batch is drawn and not learned from
};

// A stage as it is written: keys of VisitFields that differ from the recipe's, values as ToToml prints them.
struct StageTable {
  std::string name;
  std::vector<std::pair<std::string, std::string>> values;
};

struct Recipe {
  std::string name = "pretrain";  // of the first stage: the recipe's own run
  std::vector<StageTable> stages;
  ModelRecipe model;
  data::DataOptions data;
  TrainRecipe train;
  OptimizerRecipe optimizer;
  ScheduleRecipe schedule;
  CheckpointRecipe checkpoint;
  LogRecipe log;
  ValidationRecipe validation;
  BadStepRecipe on_bad_step;
  ParallelRecipe parallel;
  PlanRecipe plan;
};

// What train.optimizer_moments and checkpoint.export_dtype mean beside train.precision: kAuto is float32 moments, bf16
// with fp8 (V3 report 3.3.2), and a model in the type of the arithmetic. Never kAuto.
MomentType MomentsOf(const TrainRecipe& train);
ExportType ExportTypeOf(const Recipe& recipe);

// What is known of a field beside its type.
struct FieldInfo {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool path = false;
  bool fixed = false;  // a resumed run cannot continue with another value
};

// v(key, field, info) for every field of the recipe, key being "section.name".
template <class R, class Visitor>
void VisitFields(R& r, Visitor&& v) {
  constexpr double kCount = 1e18;  // nothing that is counted comes near
  v("model.config", r.model.config, FieldInfo{.path = true, .fixed = true});
  v("model.from", r.model.from, FieldInfo{.path = true, .fixed = true});
  v("model.tokenizer", r.model.tokenizer, FieldInfo{.path = true, .fixed = true});
  v("model.init_std", r.model.init_std, FieldInfo{.min = 0, .max = 1e3, .fixed = true});
  v("model.rope_scaling", r.model.rope_scaling, FieldInfo{.fixed = true});
  v("model.max_position_embeddings", r.model.max_position_embeddings,
    FieldInfo{.min = 0, .max = 1 << 30, .fixed = true});
  data::VisitFields(r.data, [&](const char* key, auto& field) {
    const std::string name = std::string("data.") + key;
    v(name, field, FieldInfo{.path = name == "data.exclude", .fixed = name != "data.validation_sources"});
  });
  v("train.steps", r.train.steps, FieldInfo{.min = 0, .max = kCount});
  v("train.tokens", r.train.tokens, FieldInfo{.min = 0, .max = kCount});
  v("train.micro_batch", r.train.micro_batch, FieldInfo{.min = 1, .max = 1 << 20});
  v("train.seed", r.train.seed, FieldInfo{.fixed = true});
  v("train.precision", r.train.precision, FieldInfo{});
  v("train.recompute", r.train.recompute, FieldInfo{});
  v("train.optimizer_moments", r.train.optimizer_moments, FieldInfo{.fixed = true});
  v("train.fp8_gradient_tiles", r.train.fp8_gradient_tiles, FieldInfo{});
  v("optimizer.beta1", r.optimizer.beta1, FieldInfo{.min = 0, .max = 0.9999999});
  v("optimizer.beta2", r.optimizer.beta2, FieldInfo{.min = 0, .max = 0.9999999});
  v("optimizer.eps", r.optimizer.eps, FieldInfo{.min = 0, .max = 1});
  v("optimizer.weight_decay", r.optimizer.weight_decay, FieldInfo{.min = 0, .max = 1e3});
  v("optimizer.clip", r.optimizer.clip, FieldInfo{.min = 0, .max = 1e6});
  v("optimizer.ema_decay", r.optimizer.ema_decay, FieldInfo{.min = 0, .max = 0.9999999});
  v("schedule.lr", r.schedule.lr, FieldInfo{.min = 0, .max = 10});
  v("schedule.batch_size", r.schedule.batch_size, FieldInfo{.min = 1, .max = 1 << 24});
  v("schedule.mtp_loss_weight", r.schedule.mtp_loss_weight, FieldInfo{.min = 0, .max = 1e3});
  v("schedule.bias_update_speed", r.schedule.bias_update_speed, FieldInfo{.min = 0, .max = 10});
  v("schedule.aux_loss_alpha", r.schedule.aux_loss_alpha, FieldInfo{.min = 0, .max = 1e3});
  v("checkpoint.every", r.checkpoint.every, FieldInfo{.min = 0, .max = kCount});
  v("checkpoint.keep", r.checkpoint.keep, FieldInfo{.min = 1, .max = 1e6});
  v("checkpoint.export_dtype", r.checkpoint.export_dtype, FieldInfo{});
  v("log.every", r.log.every, FieldInfo{.min = 1, .max = kCount});
  v("log.load_every", r.log.load_every, FieldInfo{.min = 1, .max = kCount});
  v("log.tensorboard", r.log.tensorboard, FieldInfo{});
  v("validation.every", r.validation.every, FieldInfo{.min = 0, .max = kCount});
  v("validation.sequences", r.validation.sequences, FieldInfo{.min = 1, .max = 1e9});
  v("on_bad_step.nonfinite", r.on_bad_step.nonfinite, FieldInfo{});
  v("on_bad_step.spike_factor", r.on_bad_step.spike_factor, FieldInfo{.min = 0, .max = 1e9});
  v("on_bad_step.max_skips", r.on_bad_step.max_skips, FieldInfo{.min = 0, .max = 1e9});
  v("on_bad_step.skip_steps", r.on_bad_step.skip_steps, FieldInfo{.min = 0, .max = kCount});
  constexpr double kRanks = 1 << 20;
  v("parallel.pipeline", r.parallel.pipeline, FieldInfo{.min = 1, .max = 1024, .fixed = true});
  v("parallel.expert", r.parallel.expert, FieldInfo{.min = 1, .max = kRanks, .fixed = true});
  v("parallel.data", r.parallel.data, FieldInfo{.min = 1, .max = kRanks, .fixed = true});
  v("parallel.context", r.parallel.context, FieldInfo{.min = 1, .max = kRanks, .fixed = true});
  v("parallel.zero", r.parallel.zero, FieldInfo{.min = 0, .max = 1, .fixed = true});
  v("parallel.schedule", r.parallel.schedule, FieldInfo{.fixed = true});
  v("plan.machine", r.plan.machine, FieldInfo{.path = true});
  v("plan.mfu", r.plan.mfu, FieldInfo{.min = 1e-6, .max = 1});
  v("plan.mfu_peak", r.plan.mfu_peak, FieldInfo{});
  v("plan.device_hours", r.plan.device_hours, FieldInfo{.min = 0, .max = kCount});
}

// Throws Error: the file cannot be read or is no TOML (with its line), a key that is not known (with the nearest one
// that is), a value of another type or out of its range. What contradicts what is left to Validate, so that --set can
// still repair it.
Recipe ReadRecipe(const std::string& path);
// The same from text; `origin` is named in errors, relative paths are relative to `folder`.
Recipe ParseRecipe(std::string_view toml, const std::string& origin, const std::string& folder);

// "train.steps=10": the value as in TOML; a string needs no quotes. "stages.NAME.train.steps=10" sets what the stage
// overrides. Throws Error as ReadRecipe does.
void SetField(Recipe& recipe, std::string_view assignment);

// Sets the field to a value that ToToml printed.
void SetPrinted(Recipe& recipe, const std::string& key, const std::string& value);

// Throws Error where values contradict each other, and what is wrong in the data section or a schedule; of a stage with
// its name.
void Validate(const Recipe& recipe);

// Throws Error for what is only planned: a layout of more than one process, a stage whose cost is stated.
void CheckTrainable(const Recipe& recipe);

// The whole recipe, defaults written out, as TOML that ParseRecipe reads back to the same values.
std::string ToToml(const Recipe& recipe);

struct Difference {
  std::string key, before, after;  // values as in TOML; empty: not set
  bool fixed = false;              // FieldInfo::fixed
};
// Of the recipe's own run; stages are compared one by one.
std::vector<Difference> Compare(const Recipe& before, const Recipe& after);

// Every key, in the order of VisitFields.
std::vector<std::string> RecipeKeys();

// What the schedules say about a step.
struct StepValues {
  int64_t batch_size = 0;  // sequences
  int64_t tokens = 0;      // batch_size * sequence_length: what the step adds to the tokens seen
  double lr = 0, mtp_loss_weight = 0, bias_update_speed = 0;
};

// The schedules of a validated recipe, lengths in steps resolved (an Error where one then ends before it begins). The
// batch size is the schedule's when the step begins, to the nearest multiple of micro_batch; the others are taken at
// the middle of the step's tokens: a warm-up from 0 does not waste its first step, and a step on either side of a
// border is wholly on its side.
class StepSchedule {
 public:
  explicit StepSchedule(const Recipe& recipe);
  StepValues At(int64_t tokens_seen) const;
  int64_t max_batch_size() const { return max_batch_size_; }

 private:
  int64_t BatchSizeAt(int64_t tokens) const;
  int64_t sequence_length_ = 0, micro_batch_ = 1, max_batch_size_ = 0;
  Schedule lr_, batch_size_, mtp_loss_weight_, bias_update_speed_;
};

}  // namespace fathom::train
