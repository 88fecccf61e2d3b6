// Chat templates from anywhere: each is read or refused with its line, and what is read renders or fails within its
// limits, alike each time, to UTF-8. Behind a zero byte there may be the variables, as JSON.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "core/utf8.h"
#include "depth.h"
#include "jinja/template.h"
#include "jinja/text.h"

using nlohmann::ordered_json;
using namespace fathom;

namespace {

const ordered_json& Usual() {
  static const ordered_json variables = ordered_json::parse(R"({"messages": [{"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <é>"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function",
    "function": {"name": "f", "arguments": {"x": [1, 2.5, null, true]}}}]}, {"role": "tool", "content": "21"}],
    "tools": [{"function": {"name": "f", "parameters": {"type": "object", "items": []}}}], "n": 7, "s": "a b",
    "add_generation_prompt": true, "bos_token": "<s>"})");
  return variables;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  ordered_json variables = Usual();
  if (zero != std::string_view::npos && !IsDeep(input.substr(zero + 1))) {
    ordered_json own = ordered_json::parse(input.substr(zero + 1), nullptr, /*allow_exceptions=*/false);
    if (own.is_object()) variables = std::move(own);
  }
  const Result<jinja::Template> read = jinja::Template::Parse(input.substr(0, zero));
  if (!read.ok()) {
    if (read.error().summary().find("line ") == std::string::npos) std::abort();
    return 0;
  }
  const jinja::Limits limits{.steps = 200'000, .bytes = 4 << 20};
  const Result<std::string> once = read.Value().Render(variables, 0, limits),
                            again = read.Value().Render(variables, 0, limits);
  if (once.ok() != again.ok()) std::abort();
  if (!once.ok()) {
    if (once.error().summary() != again.error().summary()) std::abort();
    return 0;
  }
  if (once.Value() != again.Value() || !IsUtf8(once.Value()) || once.Value().size() > 4u << 20) std::abort();
  return 0;
}
