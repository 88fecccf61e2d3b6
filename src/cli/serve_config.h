// Options from a TOML file: each key is the name of an option of the command, without its dashes. Tables [[models]] are
// for a command that has several of something: each has options of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace fathom::cli {

// Gives the command the values of the file, for those options that the command line did not have. Throws Error naming
// file, line and key: unknown keys, values of the wrong type or out of range, no TOML.
// `models` gets a function for each [[models]], which gives a command what that table says; without it they are
// refused.
using ApplyTable = std::function<void(CLI::App& command)>;
void ApplyConfigFile(CLI::App& command, const std::string& path, std::vector<ApplyTable>* models = nullptr);

}  // namespace fathom::cli
