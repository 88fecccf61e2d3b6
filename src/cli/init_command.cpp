// fathom init: a checkpoint with random weights.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "checkpoint/init.h"
#include "cli/commands.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"

namespace fathom::cli {
namespace {

struct InitFlags {
  std::string config, out, dtype = "bf16";
  uint64_t seed = 0, max_shard_size = 5'000'000'000;
  int threads = 0;
  bool force = false;
};

int RunInit(const InitFlags& flags) {
  const model::ParsedConfig parsed = model::ReadConfigFile(flags.config);
  for (const std::string& w : parsed.warnings)
    std::fprintf(stderr, "fathom: warning: %s: %s\n", flags.config.c_str(), w.c_str());
  ThreadPool pool(flags.threads > 0 ? flags.threads : DefaultThreadCount());
  ProgressBar bar("writing");
  checkpoint::InitOptions options;
  options.precision = checkpoint::PrecisionFromName(flags.dtype);
  options.seed = flags.seed;
  options.max_shard_bytes = static_cast<int64_t>(std::min<uint64_t>(flags.max_shard_size, uint64_t{1} << 60));
  options.force = flags.force;
  options.progress = bar.Callback();
  try {
    checkpoint::InitCheckpoint(parsed.config, flags.out, options, pool);
  } catch (const ProgressBar::Stopped& stopped) {
    return stopped.exit_code;
  }
  const auto tensors = checkpoint::Layout(parsed.config, options.precision);
  const int64_t bytes = checkpoint::TotalBytes(tensors);
  const size_t files = checkpoint::Shard(tensors, options.max_shard_bytes).size();
  Print(fmt::format("{}: {} in {} tensors, {} file{}, {} parameters, seed {}, in {:.1f} s\n", flags.out,
                    io::HumanBytes(bytes), tensors.size(), files, files == 1 ? "" : "s",
                    model::CountParams(parsed.config).with_mtp_copies, flags.seed, bar.Seconds()));
  return 0;
}

}  // namespace

void AddInitCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("init", "Write a checkpoint with random weights");
  const auto flags = std::make_shared<InitFlags>();
  c->add_option("CONFIG", flags->config, "Configuration, e.g. configs/models/fathom-16m.json")->required();
  c->add_option("OUT", flags->out, "Directory to write")->required();
  c->add_option("--dtype", flags->dtype, "f32, bf16, or fp8 as the release lays it out (128x128 blocks with scales)")
      ->check(CLI::IsMember({"f32", "bf16", "fp8"}))
      ->type_name("NAME")
      ->capture_default_str();
  c->add_option("--seed", flags->seed, "The same seed gives the same bytes, on any machine and number of threads")
      ->capture_default_str();
  c->add_option("--max-shard-size", flags->max_shard_size, "Largest file, e.g. 2GB; more data is dealt over several")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE");
  c->add_option("--threads,-t", flags->threads, "Threads (default: one for each core that this process may use)")
      ->check(CLI::Range(1, 1024));
  c->add_flag("--force", flags->force, "Replace the weights and config.json of a directory that is not empty");
  c->footer(
      "Projections, embedding, head and gate are normal with standard deviation initializer_range, norms 1, the "
      "router's\n"
      "bias 0. Copies in multi-token-prediction layers equal what they copy.\n"
      "Example: fathom init configs/models/bench-773m.json /tmp/bench-fp8 --dtype fp8 --seed 1");
  c->callback([flags, &exit_code] { exit_code = RunInit(*flags); });
}

}  // namespace fathom::cli
