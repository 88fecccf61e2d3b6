#include "jinja/template.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "jinja/interpreter.h"
#include "jinja/parser.h"

namespace fathom::jinja {

Result<Template> Template::Parse(std::string_view source) {
  try {
    return Template(std::make_shared<const Program>(ParseProgram(source)));
  } catch (const SourceError& e) {
    return Error(fmt::format("the chat template cannot be read: line {}: {}", e.line, e.what));
  }
}

Result<std::string> Template::Render(const nlohmann::ordered_json& variables, std::optional<std::time_t> now,
                                     const Limits& limits) const {
  Interpreter interpreter(*program_, limits, now ? *now : std::time(nullptr));
  try {
    AddGlobals(interpreter);
    for (const auto& [name, value] : variables.items()) interpreter.SetGlobal(name, Value::FromJson(value));
    return interpreter.Run();
  } catch (const Failure& e) {
    return Error(fmt::format("the chat template failed: line {}: {}", interpreter.line(), e.what()));
  }
}

}  // namespace fathom::jinja
