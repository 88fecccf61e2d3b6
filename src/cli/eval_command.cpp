// fathom eval: what a model can do, measured.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/corpus_recall.h"
#include "cli/eval_bpb.h"
#include "cli/loaded_model.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "eval/needle.h"
#include "io/file.h"
#include "report/svg.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {
namespace {

struct NeedleFlags {
  ModelOptions model;
  eval::NeedleOptions options;
  std::string filler, title, svg, png;
  int64_t batch = 16;
  bool json = false;
};

int RunNeedle(NeedleFlags flags) {
  eval::NeedleOptions& o = flags.options;
  std::sort(o.lengths.begin(), o.lengths.end());
  LoadedModel model(flags.model);
  const tokenizer::ModelText text = tokenizer::LoadModelText(flags.model.model);
  CheckVocabulary(text.tokenizer, model.config());
  if (!flags.filler.empty()) o.filler = ReadSentences(flags.filler);
  const int64_t longest = o.lengths.back(), trained = model.config().max_position_embeddings;
  if (longest > trained) {
    std::fprintf(stderr, "fathom: warning: lengths beyond the model's %s positions (max_position_embeddings)\n",
                 fmt::format("{}", trained).c_str());
  }
  constexpr int64_t kBeside = 16;  // what the length does not count: bos, and tokens joined otherwise than counted
  model.BuildTransformer(longest + kBeside, true);
  engine::EngineOptions options;
  options.max_context = longest + kBeside;
  options.drafts = 0;
  const std::unique_ptr<engine::Engine> engine = MakeEngine(model, flags.batch, options);
  std::fprintf(stderr, "%s\n", model.Description().c_str());
  eval::NeedleMap map;
  try {
    ProgressBar bar("needles", ProgressBar::Unit::kCount);
    const ProgressFn progress = bar.Callback();
    map = eval::RunNeedles(o, text.tokenizer, eval::EngineAnswerer(*engine), progress);
  } catch (const ProgressBar::Stopped& stopped) {
    return stopped.exit_code;
  }
  const std::string name = std::filesystem::absolute(flags.model.model).lexically_normal().filename().string();
  const std::string title = flags.title.empty() ? fmt::format("Needles found by {}", name) : flags.title;
  if (!flags.svg.empty()) io::WriteFileAtomically(flags.svg, report::Standalone(eval::NeedleSvg(map, title, trained)));
  if (!flags.png.empty()) io::WriteFileAtomically(flags.png, eval::NeedlePng(map));
  Print(flags.json ? eval::NeedleJson(map) : eval::NeedleTable(map));
  return 0;
}

void AddNeedle(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("needle", "Find a fact at each depth of contexts of each length");
  const auto flags = std::make_shared<NeedleFlags>();
  eval::NeedleOptions& o = flags->options;
  AddModelOptions(*c, flags->model);
  c->add_option("--lengths", o.lengths, "Tokens of the contexts, e.g. 512,1024,2048")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 24))
      ->capture_default_str();
  c->add_option("--depths", o.depths, "Depths, evenly from the beginning to the question")
      ->check(CLI::Range(1, 101))
      ->capture_default_str();
  c->add_option("--samples,-n", o.samples, "Haystacks for each length and depth")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  c->add_option("--others", o.others, "Facts about others in each haystack")->check(CLI::Range(0, 40));
  c->add_option("--form", o.form, "How facts and questions are worded: sentences, notes (as `fathom corpus recall`)")
      ->transform(CLI::CheckedTransformer(RecallForms(), CLI::ignore_case))
      ->type_name("NAME");
  c->add_option("--filler", flags->filler, "Text whose sentences are the haystack (default: built-in)")
      ->type_name("FILE");
  c->add_option("--seed", o.seed, "The same seed gives the same haystacks")->capture_default_str();
  c->add_option("--batch", flags->batch, "Haystacks read at a time")->check(CLI::Range(1, 64))->capture_default_str();
  c->add_option("--svg", flags->svg, "Write the heat map here")->type_name("FILE");
  c->add_option("--title", flags->title, "Of the SVG (default: the model's name)");
  c->add_option("--png", flags->png, "Write the heat map here, cells only")->type_name("FILE");
  c->add_flag("--json", flags->json, "Print the map as JSON");
  c->footer(
      "Each cell: the share of haystacks whose answer greedy decoding gives exactly. Lengths beyond the model's\n"
      "max_position_embeddings are measured too.\n"
      "Example: fathom eval needle MODEL --lengths 1024,2048,4096 --svg needle.svg");
  c->callback([flags, &exit_code] { exit_code = RunNeedle(*flags); });
}

}  // namespace

void AddEvalCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("eval", "Measure what a model can do");
  c->require_subcommand(1);
  AddNeedle(*c, exit_code);
  AddBpb(*c, exit_code);
}

}  // namespace fathom::cli
