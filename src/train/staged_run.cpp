// RunTraining: a recipe's stages in turn. A stage has begun when its folder has a checkpoint; until then it begins anew
// from the last checkpoint of the one before, so that a run killed between two stages loses nothing.
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "core/error.h"
#include "data/source.h"
#include "io/file.h"
#include "io/pending_directory.h"
#include "report/metrics.h"
#include "report/training_report.h"
#include "train/run_state.h"
#include "train/stage_run.h"
#include "train/stages.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxRecipe = 1 << 20;

void Info(const RunEvents& events, const std::string& line) {
  if (events.on_info) events.on_info(line);
}

std::string In(const std::string& folder, const std::string& name) { return (fs::path(folder) / name).string(); }

// The recipe that RUN/recipe.toml has kept, if there is one that can be read.
std::optional<Recipe> KeptRecipe(const std::string& run) {
  const Result<std::string> text = io::ReadFile(In(run, "recipe.toml"), kMaxRecipe);
  if (!text.ok()) return std::nullopt;
  return ParseRecipe(text.Value(), In(run, "recipe.toml"), run);
}

// A run with stages has folders of stages, one without has checkpoints: neither goes on as the other.
void CheckLayout(const std::string& run, bool stages) {
  if (stages && !ListRunStates(run).empty()) {
    throw Error(run + " is a run without stages", "checkpoints in it", "a run of a recipe with [[stages]]",
                "train the stages in another directory; with model.from = RUN/final they go on from its model");
  }
  if (stages) return;
  const std::optional<Recipe> kept = KeptRecipe(run);
  if (kept && !kept->stages.empty()) {
    throw Error(run + " is a run with stages", "a recipe without", "its own recipe");
  }
}

// Everything that can be wrong with a later stage is said before the first one runs.
std::vector<model::ModelConfig> CheckStages(const std::vector<StageRecipe>& stages) {
  const model::ModelConfig origin = CheckBeginning(stages[0].recipe);
  std::vector<model::ModelConfig> configs = StageConfigs(stages, origin, !stages[0].recipe.model.from.empty());
  for (const StageRecipe& stage : stages) {
    try {
      const StepSchedule schedule(stage.recipe);
      data::Notices unused;
      for (const auto* sources : {&stage.recipe.data.sources, &stage.recipe.data.validation_sources}) {
        for (const data::SourceOptions& source : *sources) data::ListFiles(source, unused);
      }
    } catch (const Error& e) {
      RethrowOf(stage.name, e);
    }
  }
  return configs;
}

// A stage has the model's keys from the recipe, not from the stage before: an extension that is not said again is gone.
void WarnOfLostScaling(const std::vector<StageRecipe>& stages, const std::vector<model::ModelConfig>& configs,
                       const RunEvents& events) {
  for (size_t i = 1; i < stages.size() && events.on_warning; ++i) {
    if (!configs[i - 1].rope_scaling || configs[i].rope_scaling || stages[i].recipe.model.rope_scaling) continue;
    events.on_warning(fmt::format("stage {} has no model.rope_scaling: the model goes from {} positions back to {}",
                                  stages[i].name, configs[i - 1].max_position_embeddings,
                                  configs[i].max_position_embeddings));
  }
}

// A stage that later ones have gone on from: it stays as it ended.
void CheckFinished(const StageRecipe& stage, const std::string& dir, const std::string& later,
                   const RunEvents& events) {
  if (!fs::exists(In(dir, "metrics.jsonl"))) {
    throw Error(fmt::format("stage {} has not run, and stage {} went on without it", stage.name, later),
                dir + " has no metrics.jsonl", "the stages of the run in their order",
                "resume with the recipe of the run, or begin another in a new directory");
  }
  // The newest that can be read; none: they were removed for their space.
  std::optional<RunState> newest;
  for (const std::string& path : ListRunStates(dir)) {
    try {
      newest = ReadRunState(path);
      break;
    } catch (const Error&) {
      continue;
    }
  }
  if (!newest) return;
  const RunState& state = *newest;
  for (const Difference& d : Compare(ParseRecipe(state.recipe_toml, dir, dir), stage.recipe)) {
    if (d.fixed) {
      throw Error(fmt::format("stage {}: {} cannot change in a run that is resumed", stage.name, d.key), d.after,
                  d.before, "resume with the recipe of the run, or begin another in a new directory");
    }
  }
  if (!AtEnd(stage.recipe, state.step, state.tokens)) {
    throw Error(fmt::format("stage {} ended at step {}, {} tokens, and stage {} went on from there", stage.name,
                            state.step, state.tokens, later),
                "a recipe in which it goes on longer", "the same end",
                fmt::format("begin another run, or remove the folders of the later stages in {}",
                            fs::path(dir).parent_path().string()));
  }
  Info(events, fmt::format("stage {} is finished: {} steps, {} tokens", stage.name, state.step, state.tokens));
}

// The same files under another folder's name: links where the file system has them.
void ShareFolder(const std::string& from, const std::string& to) {
  std::error_code error;
  if (!fs::exists(from, error)) return;
  bool same = fs::exists(to, error);
  for (fs::directory_iterator it(from), end; same && it != end; ++it) {
    same = fs::equivalent(it->path(), fs::path(to) / it->path().filename(), error) && !error;
  }
  if (same) return;
  io::PendingDirectory directory(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path copy = fs::path(directory.path()) / entry.path().filename();
    fs::create_hard_link(entry.path(), copy, error);
    if (error) fs::copy_file(entry.path(), copy);
  }
  directory.Commit();
}

// The rows of all stages in one report, steps and tokens counted on.
void WriteReport(const std::vector<StageRecipe>& stages, const std::string& run, const std::string& recipe) {
  report::TrainingReport report;
  report::TrainingNotes notes;
  notes.title = "Training run " + fs::absolute(run).lexically_normal().filename().string();
  int64_t step = 0, tokens = 0;
  for (const StageRecipe& stage : stages) {
    const std::string path = In(In(run, stage.name), "metrics.jsonl");
    if (!fs::exists(path)) continue;
    int64_t last_step = step, last_tokens = tokens;
    report::ForEachRow(path, [&](const nlohmann::json& row) {
      if (!row.contains("step")) return;
      nlohmann::json moved = row;
      moved["step"] = last_step = step + row["step"].get<int64_t>();
      if (row.contains("tokens")) moved["tokens"] = last_tokens = tokens + row["tokens"].get<int64_t>();
      report.Add(moved);
    });
    if (last_step > step) {
      notes.facts.push_back({"stage " + stage.name, fmt::format("steps {} to {}, sequences of {} tokens", step + 1,
                                                                last_step, stage.recipe.data.sequence_length)});
    }
    step = last_step;
    tokens = last_tokens;
  }
  notes.texts = {{"Recipe", recipe}};
  io::WriteFileAtomically(In(run, "report.html"), report::Html(report.Make(notes)));
}

}  // namespace

RunResult RunTraining(Context& ctx, const Recipe& recipe, const std::string& out_dir, bool resume,
                      const RunEvents& events) {
  Validate(recipe);
  CheckTrainable(recipe);
  if (resume) CheckLayout(out_dir, !recipe.stages.empty());
  if (recipe.stages.empty()) return RunStage(ctx, recipe, out_dir, resume, events, nullptr);

  const std::vector<StageRecipe> stages = Stages(recipe);
  if (!resume) PrepareDirectory(out_dir, false);
  const std::vector<model::ModelConfig> configs = CheckStages(stages);
  WarnOfLostScaling(stages, configs, events);
  size_t first = 0;  // the stage to go on in
  for (size_t i = 0; i < stages.size(); ++i) {
    if (!ListRunStates(In(out_dir, stages[i].name)).empty()) first = i;
  }
  for (size_t i = 0; i < first; ++i) {
    CheckFinished(stages[i], In(out_dir, stages[i].name), stages[first].name, events);
  }
  PrepareDirectory(out_dir, true);
  const std::string text = ToToml(recipe);
  io::WriteFileAtomically(In(out_dir, "recipe.toml"), text);
  RunResult result;
  for (size_t i = first; i < stages.size(); ++i) {
    const std::string dir = In(out_dir, stages[i].name);
    Info(events, fmt::format("stage {} of {}: {}, sequences of {} tokens", i + 1, stages.size(), stages[i].name,
                             stages[i].recipe.data.sequence_length));
    StagePlace place{.name = stages[i].name, .before = "", .before_config = {}};
    if (i > 0) {
      place.before = In(out_dir, stages[i - 1].name);
      place.before_config = configs[i - 1];
    }
    try {
      result = RunStage(ctx, stages[i].recipe, dir, resume, events, &place);
    } catch (const Error& e) {
      RethrowOf(stages[i].name, e);
    }
    WriteReport(stages, out_dir, text);
    if (!result.finished) return result;
  }
  const std::string last = In(out_dir, stages.back().name);
  for (const char* name : {"final", "final-ema"}) ShareFolder(In(last, name), In(out_dir, name));
  result.final_dir = In(out_dir, "final");
  return result;
}

}  // namespace fathom::train
