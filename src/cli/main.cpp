// The program. Each command is a file of its own: AddXCommand puts its options on the parser and a callback that runs
// it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "core/error.h"

int main(int argc, char** argv) {
  using namespace fathom;
  cli::InstallSignalHandlers();
  int exit_code = 0;
  try {
    CLI::App app{"fathom: the DeepSeek-V3 system: train, run, check, convert and measure models of this architecture."};
    app.name("fathom");
    app.require_subcommand(1);
    app.set_version_flag("--version", std::string("fathom ") + FATHOM_VERSION);
    app.get_formatter()->column_width(34);
    cli::AddGenerateCommand(app, exit_code);
    cli::AddChatCommand(app, exit_code);
    cli::AddServeCommand(app, exit_code);
    cli::AddUsageCommand(app, exit_code);
    cli::AddInspectCommand(app, exit_code);
    cli::AddInitCommand(app, exit_code);
    cli::AddTraceCommand(app, exit_code);
    cli::AddTokenizerCommand(app, exit_code);
    cli::AddTrainCommand(app, exit_code);
    cli::AddEvalCommand(app, exit_code);
    cli::AddPlanCommand(app, exit_code);
    cli::AddCompareCommand(app, exit_code);
    cli::AddCorpusCommand(app, exit_code);
    cli::AddBenchCommand(app, exit_code);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
      return app.exit(e) == 0 ? 0 : cli::kExitUsage;
    }
    return exit_code;
  } catch (const Error& e) {
    std::fflush(stdout);
    cli::PrintError(e);
  } catch (const std::bad_alloc&) {
    cli::PrintError(Error("out of memory", "", "", "a smaller --ctx-size, batch or model needs less"));
  } catch (const std::exception& e) {
    cli::PrintError(Error(e.what()));
  }
  return cli::kExitError;
}
