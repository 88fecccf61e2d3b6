// The options of `fathom corpus recall`, and of whoever else makes such documents.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "corpus/recall.h"

namespace CLI {
class App;
}

namespace fathom::cli {

struct RecallFlags {
  corpus::RecallOptions options;
  std::string tokenizer, filler;
};

void AddRecallOptions(CLI::App& command, RecallFlags& flags);
// Document `index` of a seed. Throws Error for lengths that contradict each other, files that cannot be read.
std::function<nlohmann::ordered_json(uint64_t seed, int64_t index)> RecallGenerator(const RecallFlags& flags);

// Names of the forms, for CLI::CheckedTransformer.
std::map<std::string, corpus::RecallForm> RecallForms();
// The sentences of a text or JSON lines file, to be filler.
std::vector<std::string> ReadSentences(const std::string& path);

}  // namespace fathom::cli
