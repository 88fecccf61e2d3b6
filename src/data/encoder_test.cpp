// Documents to ids: bos and eos, fill-in-the-middle, combined tokens taken apart.
#include "data/encoder.h"
#include "core/utf8.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "data/test_files.h"

namespace fathom::data {
namespace {

using Ids = std::vector<int32_t>;

Ids Encode(const DocumentEncoder& encoder, std::string_view text, int64_t document) {
  Ids ids = {1, 2, 3};
  encoder.Encode(text, document, &ids);
  return ids;
}

TEST(Encoder, BosIdsEos) {
  const tokenizer::Tokenizer& t = StoryTokenizer();
  const std::string text = SomeText(1, 40);
  Ids want = t.Encode(text);
  want.push_back(*t.eos_id());
  EXPECT_EQ(Encode(DocumentEncoder(t, {.add_bos = false}), text, 5), want);
  want.insert(want.begin(), *t.bos_id());
  EXPECT_EQ(Encode(DocumentEncoder(t, {}), text, 5), want);
}

TEST(Encoder, NamesOfSpecialTokensAreText) {
  const tokenizer::Tokenizer& t = StoryTokenizer();
  const Ids ids = Encode(DocumentEncoder(t, {}), "a<｜end▁of▁sentence｜>b", 0);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *t.eos_id()), 1);
  EXPECT_EQ(t.Decode(std::span(ids).subspan(1, ids.size() - 2)), "a<｜end▁of▁sentence｜>b");
}

// Prefix, middle and suffix out of the ids of a document; false if it has no FIM form.
bool FimOf(const Ids& ids, const tokenizer::Tokenizer& t, std::string* prefix, std::string* middle,
           std::string* suffix) {
  const FimTokens fim = FindFimTokens(t).value();
  if (ids[1] != fim.begin) return false;
  const auto hole = std::find(ids.begin(), ids.end(), fim.hole), end = std::find(ids.begin(), ids.end(), fim.end);
  EXPECT_LT(hole, end);
  *prefix = t.Decode(Ids(ids.begin() + 2, hole));
  *suffix = t.Decode(Ids(hole + 1, end));
  *middle = t.Decode(Ids(end + 1, ids.end() - 1));
  return true;
}

TEST(Encoder, FillInTheMiddleGivesTheTextBack) {
  const tokenizer::Tokenizer& t = StoryTokenizer();
  const DocumentEncoder encoder(t, {.seed = 4, .fim_rate = 1});
  std::map<std::string, int> prefixes;
  const std::string text = "été 狐狸 and 😀 ran. " + SomeText(3, 30);
  for (int64_t document = 0; document < 300; ++document) {
    const Ids ids = Encode(encoder, text, document);
    EXPECT_EQ(ids.front(), *t.bos_id());
    EXPECT_EQ(ids.back(), *t.eos_id());
    std::string prefix, middle, suffix;
    ASSERT_TRUE(FimOf(ids, t, &prefix, &middle, &suffix));
    EXPECT_EQ(prefix + middle + suffix, text);
    EXPECT_TRUE(IsUtf8(prefix) && IsUtf8(middle) && IsUtf8(suffix));
    ++prefixes[prefix];
    EXPECT_EQ(ids, Encode(encoder, text, document));
  }
  EXPECT_GT(prefixes.size(), 50u);
  EXPECT_FALSE(Encode(encoder, "", 0).empty());
}

TEST(Encoder, CutsAreUniformOverCharacters) {
  const std::string text = "aé狐😀";  // 5 places; 25 pairs of draws
  std::map<std::pair<size_t, size_t>, int> counts;
  const int draws = 25'000;
  for (int i = 0; i < draws; ++i) {
    Rng rng(1, static_cast<uint64_t>(i));
    const FimParts parts = CutForFim(text, rng);
    ++counts[{parts.prefix.size(), parts.prefix.size() + parts.middle.size()}];
  }
  ASSERT_EQ(counts.size(), 15u);
  for (const auto& [cut, count] : counts) {
    const double share = cut.first == cut.second ? 1.0 / 25 : 2.0 / 25;
    // Six standard deviations of a binomial count.
    EXPECT_NEAR(count, share * draws, 6 * std::sqrt(share * (1 - share) * draws));
    EXPECT_TRUE(IsUtf8(text.substr(0, cut.first)) && IsUtf8(text.substr(cut.second)));
  }
}

TEST(Encoder, FimRateIsKept) {
  const tokenizer::Tokenizer& t = StoryTokenizer();
  const DocumentEncoder encoder(t, {.seed = 1, .fim_rate = 0.1}), other(t, {.seed = 2, .fim_rate = 0.1});
  const int32_t begin = FindFimTokens(t)->begin;
  int count = 0, both = 0;
  const int documents = 5000;
  for (int64_t d = 0; d < documents; ++d) {
    const bool is = Encode(encoder, "some text", d)[1] == begin;
    count += is;
    both += is && Encode(other, "some text", d)[1] == begin;
  }
  EXPECT_NEAR(count, 500, 6 * std::sqrt(450.0));
  EXPECT_NEAR(both, 50, 6 * std::sqrt(50.0));  // another seed draws independently
}

TEST(Encoder, UnfitTokenizersAreRefusedByName) {
  const auto make = [](const std::string& added, const EncoderOptions& options, bool eos, bool bos) {
    std::string json =
        R"({"version":"1.0","pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false},
      "decoder":{"type":"ByteLevel"},"added_tokens":[)" +
        added + R"(],"model":{"type":"BPE","merges":[],"vocab":{)";
    int id = 0;
    for (uint32_t c = 0; id < 256; ++c) {
      const bool printable = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255) || c >= 256;
      if (!printable) continue;
      std::string token;
      AppendUtf8(c, token);
      if (id > 0) json += ',';
      json += nlohmann::json(token).dump() + ":" + std::to_string(id);
      ++id;
    }
    tokenizer::Tokenizer t = std::move(tokenizer::Tokenizer::FromJson(json + "}}}").Value());
    if (eos) t.set_eos_id(1);
    if (bos) t.set_bos_id(0);
    const DocumentEncoder encoder(t, options);
  };
  const auto error_of = [&](const std::string& added, const EncoderOptions& options, bool eos,
                            bool bos) -> std::string {
    try {
      make(added, options, eos, bos);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  const std::string fim = R"({"id":256,"content":"<|fim_begin|>"},{"id":257,"content":"<|fim_hole|>"},)"
                          R"({"id":258,"content":"<|fim_end|>"})";
  EXPECT_EQ(error_of("", {}, true, true), "");
  EXPECT_NE(error_of("", {}, false, true).find("eos"), std::string::npos);
  EXPECT_NE(error_of("", {}, true, false).find("bos"), std::string::npos);
  EXPECT_EQ(error_of("", {.add_bos = false}, true, false), "");
  EXPECT_NE(error_of("", {.fim_rate = 0.1}, true, true).find("fill-in-the-middle"), std::string::npos);
  EXPECT_EQ(error_of(fim, {.fim_rate = 0.1}, true, true), "");
}

TEST(Encoder, RecognisesCombinedTokens) {
  EXPECT_EQ(PunctuationBeforeNewline(".\n"), 1u);
  EXPECT_EQ(PunctuationBeforeNewline(" );\r\n\n"), 3u);
  EXPECT_EQ(PunctuationBeforeNewline("。\n"), 3u);
  EXPECT_EQ(PunctuationBeforeNewline("$\n"), 1u);
  for (const std::string_view none : {"", ".", "\n", " \n", "a.\n", ".a\n", "  .\n", "\n.", "\xE3\x80\n"}) {
    EXPECT_EQ(PunctuationBeforeNewline(none), 0u) << none;
  }
}

TEST(Encoder, TakesCombinedTokensApartAtTheRate) {
  const tokenizer::Tokenizer& t = StoryTokenizer();
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "He was here.\n\n";
  const DocumentEncoder never(t, {}), half(t, {.seed = 1, .split_punctuation_newline_rate = 0.5}),
      always(t, {.split_punctuation_newline_rate = 1});
  EXPECT_TRUE(never.splits().empty());
  ASSERT_FALSE(half.splits().empty());
  for (const auto& [id, parts] : half.splits()) {
    EXPECT_GE(parts.size(), 2u);
    EXPECT_EQ(t.Decode(parts), t.TokenBytes(id));
  }
  const auto combined = [&](const Ids& ids) {
    return std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return half.splits().count(id) != 0; });
  };
  const auto text_of = [&](const Ids& ids) { return t.Decode(ids, true); };
  const int64_t all = combined(Encode(never, text, 1));
  ASSERT_EQ(all, 4000);
  const Ids some = Encode(half, text, 1), none = Encode(always, text, 1);
  EXPECT_NEAR(static_cast<double>(combined(some)), 2000, 6 * std::sqrt(1000.0));
  EXPECT_EQ(combined(none), 0);
  EXPECT_EQ(text_of(some), text);
  EXPECT_EQ(text_of(none), text);
  EXPECT_EQ(some, Encode(half, text, 1));
  EXPECT_NE(some, Encode(half, text, 2));
}

}  // namespace
}  // namespace fathom::data
