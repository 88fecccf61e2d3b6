// What an answer's text must be, by the names that clients have for it:
//   response_format                {"type": "text" | "json_object"}, {"type": "json_schema", "json_schema": {"schema"}}
//   guided_json guided_regex guided_choice guided_grammar, structured_outputs.{json, json_object, regex, choice,
//   grammar}
//                                  vLLM's
//   grammar, json_schema           llama.cpp's: GBNF, a JSON Schema
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "grammar/machine.h"
#include "grammar/thinking.h"
#include "server/fields.h"
#include "server/reasoning.h"
#include "server/served_model.h"

namespace fathom::server {

struct GenerationFields;

struct StructuredOutput {
  std::string key;                                          // of its kind and text: the same makes the same machine
  std::function<std::unique_ptr<grammar::Machine>()> make;  // throws ApiError that names the field
  std::string field = {};                                   // where it stands
};

// Nothing where any text will do. Throws ApiError: more than one of them, wrong types.
std::optional<StructuredOutput> ReadStructured(const Fields& fields);

// What a grammar lets the model think before the answer.
grammar::Thinking ThinkingFrom(ReasoningSplitter::Start start);

// Once it is known how answers begin: the request's grammar, which begins behind what the model thinks. Throws
// ApiError: what cannot be compiled, by its field; tools that must be called.
void HoldToStructure(const ServedModel& model, ReasoningSplitter::Start start, GenerationFields& fields);

}  // namespace fathom::server
