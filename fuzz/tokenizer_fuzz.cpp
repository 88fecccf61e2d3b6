// tokenizer.json from anywhere: it is loaded or refused, and what is loaded encodes and decodes. Input that begins with
// '{' is the file itself; behind any other first byte is a patch (RFC 7386) to a small good file, which reaches deeper.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "depth.h"
#include "tokenizer/model_files.h"
#include "tokenizer/text_session.h"
#include "tokenizer/unicode.h"

using nlohmann::json;
using namespace fathom::tokenizer;

namespace {

const json& Base() {
  static const json base = json::parse(ReadTextFile(FATHOM_SOURCE_DIR "/tests/golden/tokenizer/base.json", 1 << 20));
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty() || IsDeep(input)) return 0;
  std::string file(input);
  if (input[0] != '{') {
    const json patch = json::parse(input.substr(1), nullptr, /*allow_exceptions=*/false);
    if (patch.is_discarded()) return 0;
    json patched = Base();
    patched.merge_patch(patch);
    file = patched.dump();
  }
  const fathom::Result<Tokenizer> loaded = Tokenizer::FromJson(file);
  if (!loaded.ok()) {
    if (loaded.error().summary().empty()) std::abort();
    return 0;
  }
  const Tokenizer& t = loaded.Value();
  try {
    for (const char* text : {"The bears, 1234 [sep] of\r\n\n  the  中文 é\xFF 😀x's", " a", "", "\n"}) {
      const std::vector<TokenId> ids = t.Encode(text);
      for (const TokenId id : ids) {
        if (!t.IsToken(id)) std::abort();
      }
      StreamDecoder decoder(t);
      std::string streamed;
      for (const TokenId id : ids) streamed += decoder.Push(id);
      if (streamed + decoder.Flush() != t.Decode(ids)) std::abort();
    }
    t.Decode(std::vector<TokenId>{0, 1, 2, -1, 1 << 30});
  } catch (const fathom::Error&) {  // an expression that gave up
  }
  return 0;
}
