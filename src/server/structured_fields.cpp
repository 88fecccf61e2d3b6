#include "server/structured_fields.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "server/api_error.h"
#include "server/generation_fields.h"

namespace fathom::server {
namespace {

constexpr size_t kMaxTexts = 10'000;

template <class T>
T Taken(Result<T> made, const std::string& name) {
  if (made.ok()) return std::move(made).Value();
  const Error& e = made.error();
  std::string message = fmt::format("{}: {}", name, e.summary());
  if (!e.got().empty()) message += fmt::format("; got {}", e.got());
  if (!e.expected().empty()) message += fmt::format("; expected {}", e.expected());
  throw BadField(name, message, "invalid_grammar");
}

// Nothing is wanted: null, false, "" and [].
bool Unwanted(const Json* v) {
  return !v || (v->is_boolean() && !v->get<bool>()) || (v->is_array() && v->empty()) ||
         (v->is_string() && v->get_ref<const std::string&>().empty());
}

StructuredOutput JsonObject() {
  return {"json object", [] { return grammar::JsonObjectGrammar()->MakeMachine(); }};
}

// A schema, or its text.
StructuredOutput Schema(const Json& v, const std::string& name) {
  if (!v.is_object() && !v.is_string() && !v.is_boolean()) {
    throw BadField(name, fmt::format("{} must be a JSON Schema, not {}", name, KindOf(v)));
  }
  std::string text = v.is_string() ? v.get<std::string>() : v.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string key = "schema " + text;
  return {std::move(key),
          [text = std::move(text), name] { return Taken(grammar::CompileJsonSchema(text), name)->MakeMachine(); }};
}

StructuredOutput Expression(const Fields& f, std::string_view field) {
  const std::string text = f.String(field).value();
  return {"regex " + text, [text, name = f.Name(field)] { return Taken(grammar::CompileRegex(text), name); }};
}

StructuredOutput Gbnf(const Fields& f, std::string_view field) {
  const std::string text = f.String(field).value();
  return {"gbnf " + text, [text, name = f.Name(field)] { return Taken(grammar::CompileGbnf(text), name); }};
}

StructuredOutput OneOf(const Fields& f, std::string_view field) {
  const Json& list = *f.Array(field);
  if (list.size() > kMaxTexts) f.Fail(field, fmt::format("has {} texts: at most {}", list.size(), kMaxTexts));
  std::vector<std::string> texts;
  for (const Json& v : list) {
    if (!v.is_string()) f.Fail(field, fmt::format("must be a list of strings, not of {}", KindOf(v)));
    texts.push_back(v.get<std::string>());
  }
  return {"choice " + list.dump(-1, ' ', false, Json::error_handler_t::replace),
          [texts, name = f.Name(field)] { return Taken(grammar::CompileChoice(texts), name); }};
}

std::optional<StructuredOutput> ResponseFormat(const Fields& f) {
  const Json* format = f.Object("response_format");
  if (!format) return std::nullopt;
  const Fields fields(*format, f.Name("response_format"));
  const std::optional<std::string> type = fields.String("type");
  if (!type) fields.Fail("type", "is missing");
  if (*type == "text") return std::nullopt;
  if (*type == "json_object") {  // llama.cpp's may have a schema
    const Json* schema = fields.Find("schema");
    return schema ? Schema(*schema, fields.Name("schema")) : JsonObject();
  }
  if (*type != "json_schema") Refuse(fields.Name("type"), "must be text, json_object or json_schema");
  const Json* named = fields.Object("json_schema");
  if (!named) fields.Fail("json_schema", "is missing");
  const Fields inner(*named, fields.Name("json_schema"));
  const Json* schema = inner.Find("schema");
  if (!schema) inner.Fail("schema", "is missing");
  return Schema(*schema, inner.Name("schema"));
}

}  // namespace

std::optional<StructuredOutput> ReadStructured(const Fields& f) {
  std::optional<StructuredOutput> output;
  std::string first;
  const auto take = [&](const Fields& fields, std::string_view key, auto read) {
    if (Unwanted(fields.Find(key))) return;
    std::optional<StructuredOutput> read_one = read(fields, key);
    if (!read_one) return;
    if (output) fields.Fail(key, fmt::format("cannot be given together with {}", first));
    output = std::move(read_one);
    first = output->field = fields.Name(key);
  };
  const auto schema = [](const Fields& fields, std::string_view key) {
    return Schema(*fields.Find(key), fields.Name(key));
  };
  take(f, "response_format", [](const Fields& fields, std::string_view) { return ResponseFormat(fields); });
  take(f, "guided_json", schema);
  take(f, "json_schema", schema);
  take(f, "guided_regex", Expression);
  take(f, "guided_choice", OneOf);
  take(f, "guided_grammar", Gbnf);
  take(f, "grammar", Gbnf);
  if (const Json* v = f.Object("structured_outputs")) {
    const Fields inner(*v, f.Name("structured_outputs"));
    take(inner, "json", schema);
    take(inner, "json_object", [](const Fields& fields, std::string_view key) {
      fields.Bool(key);
      return JsonObject();
    });
    take(inner, "regex", Expression);
    take(inner, "choice", OneOf);
    take(inner, "grammar", Gbnf);
    if (!Unwanted(inner.Find("structural_tag"))) Refuse(inner.Name("structural_tag"));
  }
  return output;
}

grammar::Thinking ThinkingFrom(ReasoningSplitter::Start start) {
  switch (start) {
    case ReasoningSplitter::Start::kThinking:
      return grammar::Thinking::kOpen;
    case ReasoningSplitter::Start::kMayThink:
      return grammar::Thinking::kMayOpen;
    case ReasoningSplitter::Start::kAnswering:
      break;
  }
  return grammar::Thinking::kNone;
}

void HoldToStructure(const ServedModel& model, ReasoningSplitter::Start start, GenerationFields& g) {
  if (!g.structured) return;
  if (g.request.grammar) throw BadField("response_format", "cannot be given where a tool must be called");
  const grammar::Thinking thinking = ThinkingFrom(start);
  const std::string key = fmt::format("{} {}", static_cast<int>(thinking), g.structured->key);
  g.request.grammar = model.grammars->Get(model.text.tokenizer, model.vocab_size, key, [&] {
    std::unique_ptr<grammar::Machine> machine = g.structured->make();
    const std::string& field = g.structured->field;
    if (machine->Start() == grammar::Machine::kDead)
      throw BadField(field, fmt::format("{}: nothing fulfils it", field), "invalid_grammar");
    return grammar::AfterThinking(std::move(machine), thinking);
  });
  g.request.grammar_ends = g.shown_eos;
}

}  // namespace fathom::server
