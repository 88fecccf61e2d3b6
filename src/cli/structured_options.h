// The flags of structured output: what an answer's text must be, one of them at most.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grammar/token_mask.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace fathom::cli {

struct StructuredOptions {
  std::optional<std::string> json_schema, regex, grammar, grammar_file;
  std::vector<std::string> choices;
  bool json_object = false;

  bool Any() const { return json_object || json_schema || regex || grammar || grammar_file || !choices.empty(); }
};

// Other options of `command` that they cannot be combined with are added before.
void AddStructuredOptions(CLI::App& command, StructuredOptions& options, const std::vector<std::string>& excluded);

// The grammar over a model's vocabulary, nullptr where any text will do. Throws Error that names the flag and what in
// its value is wrong or not supported.
std::shared_ptr<grammar::CompiledGrammar> MakeGrammar(const StructuredOptions& options,
                                                      const tokenizer::Tokenizer& tokenizer, int64_t vocab_size);

}  // namespace fathom::cli
