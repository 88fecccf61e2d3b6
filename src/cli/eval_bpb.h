// fathom eval bpb.
#pragma once

namespace CLI {
class App;
}

namespace fathom::cli {

void AddBpb(CLI::App& eval, int& exit_code);

}  // namespace fathom::cli
