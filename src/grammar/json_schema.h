// JSON Schema as a grammar: the JSON texts that a schema allows, each as a machine over bytes. Exact: a text is
// accepted if and only if it is valid, compact but for at most one space behind ':' and ',', and spelled within what
// docs/structured-output.md says (keys in any order; numbers by value, strings by value); a schema for which that
// cannot be kept is refused with the name of the keyword.
#pragma once

#include <memory>
#include <string_view>

#include "core/error.h"
#include "grammar/machine.h"

namespace fathom::grammar {

// For schemas that do not say it by "$schema".
enum class JsonDraft : uint8_t { k7, k2020 };

struct JsonOptions {
  JsonDraft draft = JsonDraft::k2020;
};

// Immutable; makes as many machines as are needed, on any threads.
class JsonGrammar {
 public:
  virtual ~JsonGrammar() = default;
  virtual std::unique_ptr<Machine> MakeMachine() const = 0;
};

// At most 4 MiB of schema (kMaxSchemaBytes of json_tree.h); bounded time and memory.
Result<std::shared_ptr<const JsonGrammar>> CompileJsonSchema(std::string_view schema, const JsonOptions& options = {});
// Any JSON object.
std::shared_ptr<const JsonGrammar> JsonObjectGrammar();

}  // namespace fathom::grammar
