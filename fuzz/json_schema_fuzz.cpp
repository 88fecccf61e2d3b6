// JSON schemas from anywhere: compiled or refused, in bounded time; what is compiled reads any text, and after each
// byte that is taken there is a way on. The first byte chooses the draft; behind the first zero byte follows a text to
// read.
#include "core/error.h"
#include "grammar/json_schema.h"

namespace {

using namespace fathom;
using namespace fathom::grammar;

constexpr size_t kMostRead = 300;

void Read(Machine& machine, std::string_view text) {
  Machine::State state = machine.Start();
  for (size_t i = 0; i < std::min(text.size(), kMostRead) && state != Machine::kDead; ++i) {
    bool on = machine.Accepts(state);
    for (int byte = 0; byte < 256; ++byte) on = machine.Next(state, static_cast<uint8_t>(byte)) != Machine::kDead || on;
    FATHOM_CHECK(on, "a state without a way to the end");
    state = machine.Next(state, static_cast<uint8_t>(text[i]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t cut = std::min(input.find('\0'), input.size());
  const auto grammar =
      CompileJsonSchema(input.substr(0, cut), {.draft = data[0] == '7' ? JsonDraft::k7 : JsonDraft::k2020});
  if (!grammar.ok()) {
    FATHOM_CHECK(!grammar.error().summary().empty());
    return 0;
  }
  try {
    Read(*grammar.Value()->MakeMachine(), input.substr(std::min(cut + 1, input.size())));
  } catch (const Error&) {  // too many states
  }
  return 0;
}
