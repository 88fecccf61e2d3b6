// Regular expressions and grammars from anywhere: compiled or refused, in bounded time; what is compiled reads any
// text, and masks of tokens say what the machine says. The first byte chooses: e, s an expression (whole, search), g a
// grammar, c texts to choose from, one a line; behind the first zero byte follows a text to read.
#include "core/error.h"
#include "grammar/gbnf.h"
#include "grammar/regex.h"
#include "grammar/thinking.h"
#include "grammar/token_mask.h"

namespace {

using namespace fathom;
using namespace fathom::grammar;

constexpr size_t kMostRead = 300, kMasks = 8;

const std::vector<std::string>& Tokens() {
  static const std::vector<std::string> tokens = [] {
    std::vector<std::string> all = {"ab", "the ", "\":", "{\"", "\n\n", "</think>", "\xC3\xA9", "\xE4\xB8", "12", ""};
    for (int byte = 0; byte < 256; ++byte) all.emplace_back(1, static_cast<char>(byte));
    return all;
  }();
  return tokens;
}

Result<std::unique_ptr<Machine>> Compile(char kind, std::string_view text) {
  if (kind == 'g') return CompileGbnf(text);
  if (kind == 'e' || kind == 's') {
    return CompileRegex(text, kind == 'e' ? RegexScope::kWhole : RegexScope::kSearch);
  }
  std::vector<std::string> lines(1);
  for (char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  return CompileChoice(lines);
}

void Read(std::unique_ptr<Machine> machine, std::string_view text) {
  static const auto trie = std::make_shared<const TokenTrie>(Tokens());
  CompiledGrammar grammar(std::move(machine), trie);
  Machine::State state = grammar.Start();
  for (size_t i = 0; i < std::min(text.size(), kMostRead) && state != Machine::kDead; ++i) {
    if (i < kMasks) {
      const auto mask = grammar.MaskOf(state);
      bool any = grammar.Accepts(state);
      for (int32_t id = 0; id < std::ssize(Tokens()); ++id) {
        const bool leads = grammar.After(state, id) != Machine::kDead;
        FATHOM_CHECK(mask->Allows(id) == leads);
        any = any || leads;
      }
      FATHOM_CHECK(any, "a state without a way to the end");
    }
    const auto byte = static_cast<uint8_t>(text[i]);
    state = grammar.After(state, {&byte, 1});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t cut = std::min(input.find('\0'), input.size());
  auto machine = Compile(static_cast<char>(data[0]), input.substr(0, cut));
  if (!machine.ok()) {
    FATHOM_CHECK(!machine.error().summary().empty());
    return 0;
  }
  const std::string_view text = input.substr(std::min(cut + 1, input.size()));
  try {
    Read(AfterThinking(std::move(machine).Value(), static_cast<Thinking>(text.size() % 3)), text);
  } catch (const Error&) {  // too many states
  }
  return 0;
}
