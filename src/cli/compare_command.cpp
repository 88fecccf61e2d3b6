// fathom compare: the losses of training runs side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "report/compare.h"

namespace fathom::cli {
namespace {

struct CompareFlags {
  std::vector<std::string> runs;
  std::string out;
};

std::string Percent(double value, double first) {
  return std::isfinite(value / first) ? fmt::format("{:+.3f} %", 100 * (value / first - 1)) : "";
}

void CompareRuns(const CompareFlags& flags) {
  namespace fs = std::filesystem;
  std::vector<report::RunCurve> runs;
  size_t widest = 3;
  for (const std::string& run : flags.runs) {
    const std::string name = fs::absolute(run).lexically_normal().filename().string();
    runs.push_back(report::ReadRunCurve((fs::path(run) / "metrics.jsonl").string(), name));
    widest = std::max(widest, name.size());
  }
  Print(fmt::format("{:{}} {:>6} {:>12} {:>10} {:>11} {:>10} {:>11} {:>9}\n", "run", widest, "steps", "tokens", "loss",
                    "", "validation", "", "tokens/s"));
  const report::RunCurve& first = runs.front();
  const double base = report::TailMean(report::Ema(first.loss, report::kCompareDecay), report::kCompareShare);
  for (const report::RunCurve& run : runs) {
    const double tail = report::TailMean(report::Ema(run.loss, report::kCompareDecay), report::kCompareShare);
    const bool other = &run != &first;
    Print(fmt::format("{:{}} {:>6} {:>12.0f} {:>10.5f} {:>11} {:>10} {:>11} {:>9.0f}\n", run.name, widest,
                      run.loss.size(), run.x.back(), tail, other ? Percent(tail, base) : "",
                      std::isfinite(run.validation) ? fmt::format("{:.5f}", run.validation) : "",
                      other ? Percent(run.validation, first.validation) : "", run.tokens_per_s));
  }
  Print(fmt::format(
      "loss: the mean of the last {:.0f} % of the running mean (EMA {}); beside it the difference from {}\n",
      100 * report::kCompareShare, report::kCompareDecay, first.name));
  if (flags.out.empty()) return;
  io::WriteFileAtomically(flags.out + ".svg", report::Standalone(report::Svg(report::LossCurves(runs))));
  Print(fmt::format("{}.svg\n", flags.out));
  if (runs.size() < 2) return;
  io::WriteFileAtomically(flags.out + "-difference.svg",
                          report::Standalone(report::Svg(report::LossDifferences(runs))));
  Print(fmt::format("{}-difference.svg\n", flags.out));
}

}  // namespace

void AddCompareCommand(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("compare", "The losses of training runs side by side, the first as the measure");
  auto flags = std::make_shared<CompareFlags>();
  command->add_option("runs", flags->runs, "folders of runs (`fathom train --out`)")->required();
  command->add_option("--out", flags->out, "draw NAME.svg and NAME-difference.svg")->type_name("NAME");
  command->callback([flags] { CompareRuns(*flags); });
}

}  // namespace fathom::cli
