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

TEST(TokenizerVectors, StoryEncode) {
  CheckEncode(Story(), FATHOM_SOURCE_DIR "/tests/golden/tokenizer/story-encode.jsonl", 300);
}

TEST(TokenizerVectors, StoryDecode) {
  const std::string file = FATHOM_SOURCE_DIR "/tests/golden/tokenizer/story-decode.jsonl";
  CheckDecode(Story(), file, 200);
  for (const auto& row : ReadJsonLines(file)) {
    const std::vector<TokenId> ids = row.at("ids");
    EXPECT_EQ(Story().Decode(ids, /*skip_special=*/true), row.at("plain").get<std::string>()) << row;
  }
}

// Every setting that is built, each laid over one small tokenizer.
TEST(TokenizerVectors, Variants) {
  const std::string folder = FATHOM_SOURCE_DIR "/tests/golden/tokenizer/";
  const auto base = nlohmann::ordered_json::parse(ReadTextFile(folder + "base.json", 1 << 20));
  const auto variants = ReadJsonLines(folder + "variants.jsonl");
  ASSERT_GE(variants.size(), 20u);
  for (const auto& variant : variants) {
    nlohmann::ordered_json file = base;
    file.merge_patch(variant.at("patch"));
    const Result<Tokenizer> tokenizer = Tokenizer::FromJson(file.dump());
    ASSERT_TRUE(tokenizer.ok()) << variant.at("name") << tokenizer.error().what();
    for (const auto& row : variant.at("rows")) {
      const std::vector<TokenId> want = row.at("ids");
      EXPECT_EQ(tokenizer.Value().Encode(row.at("text").get<std::string>()), want)
          << variant.at("name") << row.at("text");
      EXPECT_EQ(tokenizer.Value().Decode(want), row.at("text_of_ids").get<std::string>())
          << variant.at("name") << row.at("text");
    }
  }
}

}  // namespace
}  // namespace fathom::tokenizer
