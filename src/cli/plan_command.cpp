// fathom plan: what a recipe trains, takes and costs, without running it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "plan/plan_page.h"

namespace fathom::cli {
namespace {

struct PlanFlags {
  std::string recipe, machine, html, svg;
  std::vector<std::string> set;
  bool as_json = false;
  std::optional<double> at;
};

// The keys of train may be written without it.
std::string Whole(const std::string& assignment) {
  const std::string key = assignment.substr(0, assignment.find('='));
  for (const char* name : {"tokens", "steps", "micro_batch"}) {
    if (key == name) return "train." + assignment;
  }
  return assignment;
}

int RunPlan(const PlanFlags& flags) {
  train::Recipe recipe = train::ReadRecipe(flags.recipe);
  for (const std::string& assignment : flags.set) train::SetField(recipe, Whole(assignment));
  const std::string path = flags.machine.empty() ? recipe.plan.machine : flags.machine;
  if (path.empty()) {
    throw Error("no machine to plan for", "", "--machine FILE, or plan.machine in the recipe",
                "configs/machines has some");
  }
  const plan::Plan plan = plan::MakePlan(recipe, flags.recipe, plan::ReadMachine(path), plan::MachinesBeside(path));
  std::optional<plan::ValuesAt> at;
  if (flags.at) {
    constexpr double kMost = 1e18;
    if (!(*flags.at >= 0 && *flags.at <= kMost))
      throw Error("--at is no number of tokens", fmt::format("{}", *flags.at), "0 to 1e18");
    at = plan::At(plan, std::llround(*flags.at));
  }
  if (!flags.html.empty()) io::WriteFileAtomically(flags.html, report::Html(plan::MakeReport(plan)));
  if (!flags.svg.empty()) {
    const plan::StagePlan& first = plan.stages.front();
    if (first.stated) throw Error("--svg has nothing to draw", "", "a first stage without plan.device_hours");
    std::string svg = report::Svg(plan::PipelineChart(first));
    if (svg.empty()) svg = report::Svg(plan::MemoryChart(first, plan.machine));
    io::WriteFileAtomically(flags.svg, report::Standalone(svg));
  }
  if (flags.as_json) {
    nlohmann::json out = plan::Json(plan);
    if (at) {
      out["at"] = plan::Json(*at);
      for (const char* key : {"lr", "batch_sequences", "mtp_lambda", "bias_gamma"}) out[key] = out["at"][key];
    }
    Print(out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return 0;
  }
  Print(at ? plan::Text(*at) : plan::Text(plan));
  return 0;
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("plan", "What a recipe takes: steps, memory, operations, time and cost");
  const auto flags = std::make_shared<PlanFlags>();
  c->add_option("RECIPE", flags->recipe, "TOML file; docs/train-recipe.md has every key")->required();
  c->add_option("--machine", flags->machine, "Machine file instead of the recipe's plan.machine")->type_name("FILE");
  c->add_option("--set", flags->set, "Another value for a key of the recipe, e.g. tokens=7.4e12; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  c->add_option("--at", flags->at, "What the schedules say when so many tokens have been seen")->type_name("TOKENS");
  c->add_flag("--json", flags->as_json, "Print JSON");
  c->add_option("--html", flags->html, "Write the plan with its pictures to FILE")->type_name("FILE");
  c->add_option("--svg", flags->svg, "Draw the pipeline (without one: the memory) to FILE")->type_name("FILE");
  c->footer(
      "Nothing is run and no data is opened; docs/plan.md has the formulas.\n"
      "Examples:\n"
      "  fathom plan configs/runs/deepseek-v3.toml\n"
      "  fathom plan configs/runs/deepseek-v3.toml --set tokens=7.4e12 --json\n"
      "  fathom plan configs/runs/smoke.toml --machine configs/machines/laptop.toml\n");
  c->callback([flags, &exit_code] { exit_code = RunPlan(*flags); });
}

}  // namespace fathom::cli
