// fathom train: runs a recipe.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/terminal.h"
#include "train/memory_check.h"
#include "train/trainer.h"

namespace fathom::cli {
namespace {

struct TrainFlags {
  std::string recipe, out, from, force_isa;
  std::vector<std::string> set;
  bool resume = false, print = false;
  int threads = 0;
};

std::string Duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

// Tokens and work of the steps since the last line that was kept.
class Speed {
 public:
  void Add(const nlohmann::json& row) {
    const double seconds = row["step_s"];
    seconds_ += seconds;
    tokens_ += row["tokens_per_s"].get<double>() * seconds;
    work_ += row["mfu"].get<double>() * seconds;
  }
  std::string Text() const {
    return fmt::format("{:.0f} tok/s  mfu {:.0f} %", tokens_ / seconds_, 100 * work_ / seconds_);
  }

 private:
  double seconds_ = 0, tokens_ = 0, work_ = 0;
};

std::string StepLine(const nlohmann::json& row, int64_t step, int64_t steps, const Speed& speed, double left) {
  if (row.contains("skipped")) {
    return fmt::format("step {}/{}  skipped: {}", step, steps, row["skipped"].get<std::string>());
  }
  std::string line = row.contains("stage") ? row["stage"].get<std::string>() + " " : "";
  line += fmt::format("step {}/{}  loss {:.4f}", step, steps, row["loss"].get<double>());
  if (row.contains("mtp_loss")) {
    line += "  mtp";
    for (const auto& loss : row["mtp_loss"]) line += fmt::format(" {:.4f}", loss.get<double>());
    line += fmt::format(" ({:.0f} %)", 100 * row["mtp_acceptance"].get<double>());
  }
  if (row.contains("val_loss")) line += fmt::format("  val {:.4f}", row["val_loss"].get<double>());
  line += fmt::format("  norm {:.2f}  lr {:.2e}", row["grad_norm"].get<double>(), row["lr"].get<double>());
  if (row.contains("max_vio")) {
    double most = 0;
    for (const auto& v : row["max_vio"]) most = std::max(most, v.get<double>());
    line += fmt::format("  vio {:.2f}", most);
  }
  return line +
         fmt::format("  {}  {:.1f} GB  {} left", speed.Text(), row["memory_bytes"].get<double>() / 1e9, Duration(left));
}

// One line that is redrawn on a terminal, plain lines every `every` steps elsewhere.
class Progress {
 public:
  explicit Progress(int64_t every) : every_(every), terminal_(StderrIsTerminal()) {}
  ~Progress() { Clear(); }

  void Line(const std::string& line) {
    Clear();
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  void Step(const nlohmann::json& row, int64_t step, int64_t steps, double seconds) {
    if (first_ < 0) first_ = step - 1;
    const double left = seconds / static_cast<double>(step - first_) * static_cast<double>(steps - step);
    speed_.Add(row);
    const bool kept = step % every_ == 0 || step == steps || row.contains("val_loss") || row.contains("skipped");
    if (!kept && !terminal_) return;
    const std::string line = StepLine(row, step, steps, speed_, left);
    Clear();
    if (kept) {
      speed_ = {};
      std::fprintf(stderr, "%s\n", line.c_str());
    } else {
      std::fprintf(stderr, "\r%s", line.c_str());
      shown_ = true;
    }
    std::fflush(stderr);
  }

 private:
  void Clear() {
    if (shown_) std::fprintf(stderr, "\r\x1b[K");
    shown_ = false;
  }
  int64_t every_, first_ = -1;
  Speed speed_;
  bool terminal_, shown_ = false;
};

int RunTrain(const TrainFlags& flags) {
  const GracefulInterrupt interrupt;
  train::Recipe recipe = train::ReadRecipe(flags.recipe);
  if (!flags.from.empty()) {
    train::SetField(recipe, "model.from=" + flags.from);
    recipe.model.config.clear();
    if (std::filesystem::exists(std::filesystem::path(flags.from) / "tokenizer.json")) recipe.model.tokenizer.clear();
  }
  for (const std::string& assignment : flags.set) train::SetField(recipe, assignment);
  if (flags.print) {
    train::Validate(recipe);
    Print(train::ToToml(recipe));
    return 0;
  }
  if (flags.out.empty()) throw Error("no directory to train in", "", "--out DIR");
  ThreadPool pool(flags.threads > 0 ? flags.threads : DefaultThreadCount());
  Context ctx{.pool = pool, .isa = ChooseIsa(flags.force_isa), .verbose = {}};
  Progress progress(recipe.log.every);
  const train::RunEvents events{
      .on_info = [&](const std::string& line) { progress.Line(line); },
      .on_warning = [&](const std::string& line) { progress.Line("fathom: warning: " + line); },
      .on_step = [&](const nlohmann::json& row, int64_t step, int64_t steps,
                     double seconds) { progress.Step(row, step, steps, seconds); },
      .should_stop = [&] { return interrupt.ExitCode() != 0; }};
  progress.Line(
      fmt::format("{} on {} threads, {}", kernels::Name(train::PolicyOf(recipe).compute), pool.size(), Name(ctx.isa)));
  const train::RunResult result = train::RunTraining(ctx, recipe, flags.out, flags.resume, events);
  if (!result.finished) {
    progress.Line(fmt::format("stopped after step {}; --resume goes on", result.step));
    // SIGTERM is how a scheduler takes the machine back: all is saved, so that was no failure.
    return interrupt.ExitCode() == kExitTerminated ? 0 : interrupt.ExitCode();
  }
  Print(fmt::format("{}\n", result.final_dir));
  return 0;
}

}  // namespace

void AddTrainCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("train", "Train a model from text, by a recipe");
  const auto flags = std::make_shared<TrainFlags>();
  c->add_option("RECIPE", flags->recipe, "TOML file; docs/train-recipe.md has every key")->required();
  c->add_option("--out", flags->out,
                "Directory of the run: metrics.jsonl, report.html, tensorboard/, checkpoints/, final/")
      ->type_name("DIR");
  c->add_option("--set", flags->set, "Another value for a key of the recipe, e.g. train.steps=100; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  c->add_option("--from", flags->from,
                "Begin with the weights (and tokenizer) of this checkpoint instead of the recipe's model")
      ->type_name("CHECKPOINT");
  c->add_flag("--resume", flags->resume, "Go on from the newest checkpoint in --out");
  c->add_flag("--print-recipe", flags->print, "Print the whole recipe with its defaults, and stop");
  c->add_option("--threads,-t", flags->threads, "Threads (default: one for each core that this process may use)")
      ->check(CLI::Range(1, 1024));
  c->add_option("--force-isa", flags->force_isa,
                "Kernels of this instruction set: reference sse4 avx2 avx512 avx512bf16 amx neon (default: the best)")
      ->type_name("NAME");
  c->footer(
      "Ctrl-C and SIGTERM save and end the run; --resume goes on bit for bit.\n"
      "Examples:\n"
      "  fathom train configs/runs/smoke.toml --out /tmp/smoke\n"
      "  fathom train configs/runs/smoke.toml --out /tmp/smoke --resume --set train.steps=400\n"
      "  fathom generate /tmp/smoke/final --prompt \"Alice was\"\n");
  c->callback([flags, &exit_code] { exit_code = RunTrain(*flags); });
}

}  // namespace fathom::cli
