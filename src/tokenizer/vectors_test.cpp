// Encoding and decoding against vectors made with Hugging Face tokenizers.
#include "tokenizer/test_files.h"
#include "tokenizer/tokenizer.h"

namespace fathom::tokenizer {
namespace {

const Tokenizer& Published() {
  static const ModelText text = LoadModelText(SharedTokenizerFile("deepseek-v3.tokenizer.json.gz"));
  return text.tokenizer;
}

void CheckEncode(const Tokenizer& tokenizer, const std::string& file, size_t least) {
  const auto rows = ReadJsonLines(file);
  ASSERT_GE(rows.size(), least);
  for (const auto& row : rows) {
    const std::string text = row.at("text");
    const std::vector<TokenId> want = row.at("ids");
    ASSERT_EQ(tokenizer.Encode(text), want) << row.at("text");
    ASSERT_EQ(tokenizer.Encode(text, {.reference_splitter = true}), want) << row.at("text");
    ASSERT_EQ(tokenizer.Decode(want), text);
  }
}

void CheckDecode(const Tokenizer& tokenizer, const std::string& file, size_t least) {
  const auto rows = ReadJsonLines(file);
  ASSERT_GE(rows.size(), least);
  for (const auto& row : rows) {
    const std::vector<TokenId> ids = row.at("ids");
    ASSERT_EQ(tokenizer.Decode(ids), row.at("text").get<std::string>()) << row;
  }
}

TEST(TokenizerVectors, PublishedEncode) {
  FATHOM_NEEDS_SHARED("vectors/encode.jsonl.gz");
  CheckEncode(Published(), SharedTokenizerFile("vectors/encode.jsonl.gz"), 4000);
}

TEST(TokenizerVectors, PublishedEncodeOfOthers) {
  FATHOM_NEEDS_SHARED("vectors/deepseek_v3_published_vectors.jsonl");
  CheckEncode(Published(), SharedTokenizerFile("vectors/deepseek_v3_published_vectors.jsonl"), 80);
}

TEST(TokenizerVectors, PublishedDecode) {
  FATHOM_NEEDS_SHARED("vectors/decode.jsonl.gz");
  CheckDecode(Published(), SharedTokenizerFile("vectors/decode.jsonl.gz"), 500);
}

}  // namespace
}  // namespace fathom::tokenizer
