// fathom bench serve: the load generator, for any server with an OpenAI API.
#pragma once

namespace CLI {
class App;
}

namespace fathom::cli {

// Adds the subcommand to `bench`.
CLI::App* AddBenchServe(CLI::App& bench, int& exit_code);

}  // namespace fathom::cli
