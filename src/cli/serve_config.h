// Options from a TOML file: each key is the name of an option of the command, without its dashes.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace fathom::cli {

// Gives the command the values of the file, for those options that the command line did not have. Throws Error naming
// file, line and key: unknown keys, values of the wrong type or out of range, no TOML.
void ApplyConfigFile(CLI::App& command, const std::string& path);

}  // namespace fathom::cli
