// Chat templates: the part of Jinja2 that they use, as transformers sets it up (trim_blocks, lstrip_blocks,
// loopcontrols, its tojson), for sources that nobody vouches for: a template reads what it is given and writes text,
// within limits. docs/chat-templates.md has what is there, what is not, and the differences.
//
//   source -> lexer -> parser -> program (ast.h) -> interpreter, on values like Python's (value.h)
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace fathom::jinja {

struct Program;

struct Limits {
  int64_t steps = 20'000'000;        // an operation, an element, 16 bytes looked at
  int64_t bytes = int64_t{1} << 28;  // made by one rendering, what is thrown away included
  int depth = 400;                   // expressions, statements and calls within each other
};

class Template {
 public:
  // Error: its line and what is wrong there.
  static Result<Template> Parse(std::string_view source);

  // `variables` is an object. `now` is what strftime_now shows, by default the time. Error: the line and what went
  // wrong (what raise_exception said, too). Any number of threads may render at once.
  Result<std::string> Render(const nlohmann::ordered_json& variables, std::optional<std::time_t> now = {},
                             const Limits& limits = {}) const;

 private:
  explicit Template(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

}  // namespace fathom::jinja
