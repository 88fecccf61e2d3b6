#include "cli/structured_options.h"

#include <CLI/CLI.hpp>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

constexpr size_t kFileLimit = 8u << 20;  // more than any parser takes: they say what is too large

template <class T>
T Compiled(Result<T> made, const std::string& flag) {
  if (made.ok()) return std::move(made).Value();
  const Error& e = made.error();
  throw Error(flag + ": " + e.summary(), e.got(), e.expected(), e.hint());
}

// A schema is an object or a boolean; anything else names a file.
std::string SchemaText(const std::string& value) {
  const size_t first = value.find_first_not_of(" \t\r\n");
  if ((first != std::string::npos && value[first] == '{') || value == "true" || value == "false") return value;
  return io::ReadFile(value, kFileLimit).Value();
}

std::unique_ptr<grammar::Machine> MachineOf(const StructuredOptions& o) {
  if (o.json_schema) {
    return Compiled(grammar::CompileJsonSchema(SchemaText(*o.json_schema)), "--json-schema")->MakeMachine();
  }
  if (o.json_object) return grammar::JsonObjectGrammar()->MakeMachine();
  if (o.regex) return Compiled(grammar::CompileRegex(*o.regex), "--regex");
  if (o.grammar) return Compiled(grammar::CompileGbnf(*o.grammar), "--grammar");
  if (o.grammar_file) {
    return Compiled(grammar::CompileGbnf(io::ReadFile(*o.grammar_file, kFileLimit).Value()), "--grammar-file");
  }
  return Compiled(grammar::CompileChoice(o.choices), "--choice");
}

}  // namespace

void AddStructuredOptions(CLI::App& c, StructuredOptions& o, const std::vector<std::string>& excluded) {
  const char* group = "Structured output (one of them)";
  const std::vector<CLI::Option*> all = {
      c.add_option("--json-schema", o.json_schema, "The answer is JSON of this schema: a file, or its text {...}")
          ->type_name("FILE|TEXT"),
      c.add_flag("--json-object", o.json_object, "The answer is any JSON object"),
      c.add_option("--regex", o.regex, "The whole answer matches this regular expression")->type_name("EXPR"),
      c.add_option("--grammar", o.grammar, "The answer is a text of this grammar, in GBNF")->type_name("TEXT"),
      c.add_option("--grammar-file", o.grammar_file, "The same, from a file")->type_name("FILE"),
      c.add_option("--choice", o.choices, "The answer is one of these texts; repeated")->allow_extra_args(false)};
  for (size_t i = 0; i < all.size(); ++i) {
    all[i]->group(group);
    for (size_t j = i + 1; j < all.size(); ++j) all[i]->excludes(all[j]);
    for (const std::string& name : excluded) all[i]->excludes(c.get_option(name));
  }
}

std::shared_ptr<grammar::CompiledGrammar> MakeGrammar(const StructuredOptions& o, const tokenizer::Tokenizer& tokenizer,
                                                      int64_t vocab_size) {
  if (!o.Any()) return nullptr;
  return std::make_shared<grammar::CompiledGrammar>(MachineOf(o),
                                                    std::make_shared<const grammar::TokenTrie>(tokenizer, vocab_size));
}

}  // namespace fathom::cli
