// Any bytes as text for the shipped tokenizer: the scanner cuts as PCRE2 does, one pass gives the ids of the merges one
// by one, and what is decoded is the text, invalid parts replaced.
#include <cstdlib>

#include "core/utf8.h"
#include "tokenizer/model_files.h"
#include "tokenizer/text_session.h"

using namespace fathom::tokenizer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ModelText model = LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer");
  const Tokenizer& t = model.tokenizer;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string text = fathom::Utf8Lossy(bytes);
  if (!fathom::IsUtf8(text)) std::abort();
  const std::vector<TokenId> ids = t.Encode(bytes);
  if (t.Encode(bytes, {.reference_splitter = true}) != ids) std::abort();
  if (t.Decode(ids) != text) std::abort();
  StreamDecoder decoder(t);
  std::string streamed;
  for (const TokenId id : ids) streamed += decoder.Push(id);
  if (streamed + decoder.Flush() != text) std::abort();
  static BpeScratch scratch;
  std::vector<TokenId> fast, slow;
  t.bpe().Encode(bytes, scratch, fast);
  t.bpe().EncodeByMerging(bytes, scratch, slow);
  if (fast != slow) std::abort();
  return 0;
}
