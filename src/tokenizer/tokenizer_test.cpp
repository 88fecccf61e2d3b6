// What vectors do not show: bad files, invalid text, the time that long texts take, the scanner against the
// expressions, streaming.
#include "tokenizer/tokenizer.h"
#include "core/utf8.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "core/rng.h"
#include "tokenizer/published_scanner.h"
#include "tokenizer/test_files.h"
#include "tokenizer/text_session.h"
#include "tokenizer/unicode.h"

namespace fathom::tokenizer {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json Base() { return json::parse(ReadTextFile(FATHOM_SOURCE_DIR "/tests/golden/tokenizer/base.json", 1 << 20)); }

// Random text of characters from all over Unicode, the classes of the expressions mixed closely.
std::string RandomText(Rng& rng, int64_t characters) {
  static const std::vector<std::string> common = {
      " ",      " ",      "\n",     "\r",     "\t",     "a",      "Z",      "é",  "1",      "9",
      "½",      ".",      "-",      "'",      "+",      "中",     "ひ",     "ー", "・",     "゛",
      "\u3097", "\u0301", "\u200d", "\u0085", "\u00a0", "\u3000", "\u180e", "😀",  "\u0001", "한"};
  std::string out;
  for (int64_t i = 0; i < characters; ++i) {
    if (rng.NextBelow(4) != 0) {
      out += common[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(common.size())))];
      continue;
    }
    uint32_t c = 0xD800;
    while (c >= 0xD800 && c < 0xE000)
      c = static_cast<uint32_t>(rng.NextBelow(rng.NextBelow(3) == 0 ? 0x110000 : 0x3400));
    AppendUtf8(c, out);
  }
  return out;
}

std::string RandomBytes(Rng& rng, int64_t n) {
  std::string out;
  for (int64_t i = 0; i < n; ++i) out += static_cast<char>(rng.NextBelow(rng.NextBelow(2) == 0 ? 256 : 128));
  return out;
}

TEST(Unicode, LossyReplacesMaximalParts) {
  const std::string r(kReplacement);
  EXPECT_EQ(Utf8Lossy("a\xFF"
                      "b"),
            "a" + r + "b");
  EXPECT_EQ(Utf8Lossy("\xE4\xB8"), r);  // one part: the beginning of a character
  EXPECT_EQ(Utf8Lossy("\xE4\xB8\xE4\xB8\xAD"), r + "中");
  EXPECT_EQ(Utf8Lossy("\xC0\xAF"), r + r);          // overlong
  EXPECT_EQ(Utf8Lossy("\xED\xA0\x80"), r + r + r);  // a surrogate
  EXPECT_EQ(Utf8Lossy("\xF0\x9F\x98"), r);
  EXPECT_EQ(Utf8Lossy("\xF4\x90\x80\x80"), r + r + r + r);  // past U+10FFFF
  EXPECT_EQ(Utf8Lossy("\xF1\x80\x41\x80"), r + "A" + r);
}

// The table is what Hugging Face's engine has; PCRE2's own properties, with what is newer than Unicode 14 added, say
// the same.
TEST(Unicode, ClassesAreThoseOfPcre2) {
  const std::pair<const char*, CharClass> classes[] = {{"\\p{L}", CharClass::kL}, {"\\p{M}", CharClass::kM},
                                                       {"\\p{P}", CharClass::kP}, {"\\p{S}", CharClass::kS},
                                                       {"\\p{N}", CharClass::kN}, {"\\s", CharClass::kW}};
  std::vector<int> of(0x110000, -1);
  for (const ClassRange& r : ClassRanges()) {
    for (uint32_t c = r.first; c <= r.last; ++c) {
      ASSERT_EQ(of[c], -1) << "two classes for " << c;
      of[c] = static_cast<int>(r.value);
    }
  }
  RegexScratch scratch;
  for (const auto& [expression, cls] : classes) {
    const Regex regex = Regex::Compile(expression).Value();
    int64_t different = 0;
    std::string text;
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      text.clear();
      AppendUtf8(c, text);
      Match m{};
      different += regex.Find(text, 0, scratch, &m) != (of[c] == static_cast<int>(cls));
    }
    EXPECT_EQ(different, 0) << expression;
  }
}

TEST(PublishedScanner, EqualsTheExpressions) {
  ASSERT_TRUE(Story().HasScanner());
  Rng rng(7);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = RandomText(rng, rng.NextBelow(60));
    ASSERT_EQ(Story().Pieces(text), Story().Pieces(text, /*reference=*/true)) << json(text);
  }
}

TEST(Tokenizer, RandomTextIsEncodedAlikeInBothWaysAndDecodedBack) {
  Rng rng(8);
  for (int i = 0; i < 1500; ++i) {
    const std::string text = RandomText(rng, rng.NextBelow(200));
    const std::vector<TokenId> ids = Story().Encode(text);
    ASSERT_EQ(Story().Encode(text, {.reference_splitter = true}), ids) << json(text);
    ASSERT_EQ(Story().Decode(ids), text);
  }
}

TEST(Tokenizer, InvalidTextIsReplacedFirst) {
  Rng rng(9);
  for (int i = 0; i < 500; ++i) {
    const std::string bytes = RandomBytes(rng, rng.NextBelow(60));
    EXPECT_EQ(Story().Encode(bytes), Story().Encode(Utf8Lossy(bytes)));
    EXPECT_EQ(Story().Decode(Story().Encode(bytes)), Utf8Lossy(bytes));
  }
}

// One pass and the heap of merges give the same ids, on the published vocabulary where it is at hand and on the shipped
// one.
void CheckOnePass(const std::string& file, const std::vector<std::string>& alphabet) {
  const std::string bytes = ReadTextFile(file, Tokenizer::kMaxFile);
  const Tokenizer tokenizer = Tokenizer::FromJson(bytes).Value();
  const Bpe& bpe = tokenizer.bpe();
  ASSERT_TRUE(bpe.OnePass());
  Rng rng(10);
  BpeScratch scratch;
  for (int i = 0; i < 4000; ++i) {
    std::string piece;
    const int64_t n = 1 + rng.NextBelow(i % 50 == 0 ? 400 : 40),
                  letters = 1 + rng.NextBelow(static_cast<int64_t>(alphabet.size()));
    for (int64_t k = 0; k < n; ++k) piece += alphabet[static_cast<size_t>(rng.NextBelow(letters))];
    std::vector<TokenId> fast, slow;
    bpe.Encode(piece, scratch, fast);
    bpe.EncodeByMerging(piece, scratch, slow);
    ASSERT_EQ(fast, slow) << json(piece);
  }
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {  // every token, alone and twice
    for (std::string piece : {std::string(tokenizer.TokenBytes(id)),
                              std::string(tokenizer.TokenBytes(id)) + std::string(tokenizer.TokenBytes(id))}) {
      std::vector<TokenId> fast, slow;
      bpe.Encode(piece, scratch, fast);
      bpe.EncodeByMerging(piece, scratch, slow);
      ASSERT_EQ(fast, slow) << id;
    }
  }
}

TEST(Bpe, OnePassEqualsMerging) {
  CheckOnePass(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer/tokenizer.json",
               {"e", "t", " ", "a", "o", "n", "h", "s", "the", "ing", "I", "'", ".", "\n", "é", "中", "\xFF"});
}

TEST(Bpe, OnePassEqualsMergingPublished) {
  FATHOM_NEEDS_SHARED("deepseek-v3.tokenizer.json.gz");
  CheckOnePass(SharedTokenizerFile("deepseek-v3.tokenizer.json.gz"),
               {"a",    " ",    "e",    "在", "的",  "一", "是", "不", "了", "人", "国",
                "\xE4", "\xB8", "\xAD", "th", "ing", "\n", "0",  "ия", "กา", "=",  "\xFF"});
}

// Four times the text takes about four times as long, whatever the text; a quadratic step would take sixteen. The bound
// lies between, the best of three runs against a busy machine.
TEST(Tokenizer, TimeIsLinearInTheLength) {
  auto seconds = [](const std::string& text) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_FALSE(Story().Encode(text).empty());
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  for (const char* unit :
       {"a", " ", "\n", "7", "中", "\t\n", "ab", "<", "<｜", "é", "\x01", "\xFF", "<｜User｜>", ". ", "\u0301"}) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    std::string quarter = text.substr(0, text.size() / 4);
    EXPECT_LT(seconds(text), 9 * seconds(quarter) + 0.02) << json(unit);
  }
}

TEST(Tokenizer, ManyThreadsMayEncodeAtOnce) {
  Rng rng(11);
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> want;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(RandomText(rng, 100));
    want.push_back(Story().Encode(texts.back()));
  }
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i)
        wrong[t] += Story().Encode(texts[(i + t * 50) % texts.size()]) != want[(i + t * 50) % texts.size()];
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(Tokenizer, SpecialTokensAndBos) {
  const Tokenizer& t = Story();
  EXPECT_EQ(t.bos_id(), 0);
  EXPECT_EQ(t.eos_id(), 1);
  EXPECT_EQ(t.vocab_size(), 4096);
  EXPECT_TRUE(StoryModel().add_bos_token);
  EXPECT_EQ(StoryModel().bos_token, "<｜begin▁of▁sentence｜>");
  EXPECT_TRUE(t.IsSpecial(0));
  EXPECT_FALSE(t.IsSpecial(3));
  EXPECT_FALSE(t.IsToken(4096));
  EXPECT_EQ(t.TokenBytes(4096), "");
  EXPECT_EQ(t.IdOf("<｜User｜>"), t.Encode("<｜User｜>").front());
  EXPECT_EQ(t.Encode("<｜begin▁of▁sentence｜>"), std::vector<TokenId>{0});
  EXPECT_GT(t.Encode("<｜begin▁of▁sentence｜>", {.parse_special = false}).size(), 1u);
  EXPECT_EQ(t.Encode("", {.add_bos = true}), std::vector<TokenId>{0});
  EXPECT_EQ(t.Decode(std::vector<TokenId>{0, 70000, -3, 1}, false), "<｜begin▁of▁sentence｜><｜end▁of▁sentence｜>");
  EXPECT_EQ(t.Decode(std::vector<TokenId>{0, 1}, true), "");
  const Tokenizer base = Tokenizer::FromJson(Base().dump()).Value();
  EXPECT_THROW(base.Encode("x", {.add_bos = true}), Error);
}

TEST(Tokenizer, RefusesByName) {
  const std::pair<json, const char*> patches[] = {
      {{{"model", {{"type", "Unigram"}}}}, "Unigram"},
      {{{"model", {{"dropout", 0.1}}}}, "dropout"},
      {{{"model", {{"end_of_word_suffix", "</w>"}}}}, "end_of_word_suffix"},
      {{{"model", {{"ignore_merges", 3}}}}, "ignore_merges"},
      {{{"model", {{"merges", {"a b c"}}}}}, "merge"},
      {{{"model", {{"merges", json::array({json::array({"a"})})}}}}, "merge"},
      {{{"model", {{"merges", {7}}}}}, "merges"},
      {{{"model", {{"merges", nullptr}}}}, "merges"},
      {{{"model", {{"merges", 7}}}}, "merges"},
      {{{"model", {{"vocab", 7}}}}, "vocab"},
      {{{"model", {{"merges", json::array({json::array({"zz", "qq"})})}}}}, "zz"},
      {{{"model", {{"vocab", {{"new", -1}}}}}}, "out of range"},
      {{{"model", {{"vocab", {{"new", 1 << 30}}}}}}, "out of range"},
      {{{"model", {{"vocab", {{"new", 5}}}}}}, "share an id"},
      {{{"model", {{"vocab", {{"new", "x"}}}}}}, "vocab"},
      {{{"model", {{"vocab", {{"a", nullptr}}}}}}, "byte"},
      {{{"normalizer", {{"type", "NFC"}}}}, "NFC"},
      {{{"decoder", {{"type", "Metaspace"}}}}, "Metaspace"},
      {{{"decoder", nullptr}}, "decoder"},
      {{{"pre_tokenizer", nullptr}}, "ByteLevel"},
      {{{"pre_tokenizer", {{"type", "Whitespace"}}}}, "Whitespace"},
      {{{"added_tokens", {{{"id", 3}, {"content", "q"}}}}}, "added token"},
      {{{"added_tokens", {{{"id", 1000}, {"content", "x1"}}, {{"id", 1000}, {"content", "x2"}}}}}, "share"},
      {{{"added_tokens", {{{"content", "x1"}}}}}, "id"},
      {{{"added_tokens", 5}}, "added_tokens"},
  };
  for (const auto& [patch, word] : patches) {
    json file = Base();
    file.merge_patch(patch);
    const Result<Tokenizer> r = Tokenizer::FromJson(file.dump());
    ASSERT_FALSE(r.ok()) << patch;
    EXPECT_THAT(r.error().what(), HasSubstr(word)) << patch;
  }
  for (const char* expression :
       {"(", "\\h", "[a&&b]", "[a[b]]", "a{,3}", "a{1}+", "(?<n>a)", "\\1", "[", "(*ACCEPT)", "\\p{Nonsense}"}) {
    json file = Base();
    file["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}},
                               {{"type", "ByteLevel"}}}}};
    EXPECT_FALSE(Tokenizer::FromJson(file.dump()).ok()) << expression;
  }
  for (const char* text : {"", "{", "[]", "7", "null", "{\"model\": 3}", "{\"model\": {\"type\": \"BPE\"}}", "{} x"}) {
    EXPECT_FALSE(Tokenizer::FromJson(text).ok()) << text;
  }
  const std::string whole = Base().dump();
  for (size_t n = 0; n < whole.size(); n += 97) EXPECT_FALSE(Tokenizer::FromJson(whole.substr(0, n)).ok()) << n;
}

TEST(Tokenizer, AnExpressionThatBacktracksWithoutEndIsAnError) {
  json file = Base();
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(?:a|a)*(?:a|a)*b"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}}}}};
  const Tokenizer t = Tokenizer::FromJson(file.dump()).Value();
  EXPECT_THROW(t.Encode(std::string(400, 'a') + "xb"), Error);
}

TEST(ModelText, ReadsWhatLiesBeside) {
  const std::string folder = testing::TempDir() + "fathom_model_text";
  std::filesystem::create_directories(folder);
  auto write = [&](const char* name, const std::string& text) { std::ofstream(folder + "/" + name) << text; };
  EXPECT_THROW(LoadModelText(folder), Error);
  write("tokenizer.json", Base().dump());
  EXPECT_FALSE(LoadModelText(folder).chat_template.has_value());
  EXPECT_FALSE(LoadModelText(folder).tokenizer.bos_id().has_value());
  write("config.json", R"({"bos_token_id": 5, "eos_token_id": [6, 7]})");
  EXPECT_EQ(LoadModelText(folder).tokenizer.bos_id(), 5);
  EXPECT_EQ(LoadModelText(folder).tokenizer.eos_id(), 6);
  write("tokenizer_config.json",
        R"({"bos_token": "a", "eos_token": {"content": "b"}, "add_bos_token": false, "chat_template": "one"})");
  EXPECT_EQ(LoadModelText(folder).tokenizer.bos_id(), Tokenizer::FromJson(Base().dump()).Value().IdOf("a"));
  EXPECT_EQ(LoadModelText(folder).eos_token, "b");
  EXPECT_FALSE(LoadModelText(folder).add_bos_token);
  EXPECT_EQ(LoadModelText(folder).chat_template, "one");
  write("chat_template.jinja", "two");
  EXPECT_EQ(LoadModelText(folder + "/tokenizer.json").chat_template, "two");
  write("tokenizer_config.json", R"({"bos_token": "no such token"})");
  EXPECT_THROW(LoadModelText(folder), Error);
  write("tokenizer_config.json", "{");
  EXPECT_THROW(LoadModelText(folder), Error);
  std::filesystem::remove_all(folder);
}

TEST(StreamDecoder, NeverHalfACharacterAndTheSameText) {
  Rng rng(12);
  for (int i = 0; i < 500; ++i) {
    std::vector<TokenId> ids;
    for (int64_t n = rng.NextBelow(30); n > 0; --n)
      ids.push_back(static_cast<TokenId>(rng.NextBelow(rng.NextBelow(2) == 0 ? 260 : 4096)));
    if (i % 2 == 0) ids = Story().Encode(RandomText(rng, 20));
    StreamDecoder decoder(Story());
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = decoder.Push(id);
      ASSERT_TRUE(IsUtf8(part));
      text += part;
    }
    text += decoder.Flush();
    ASSERT_EQ(text, Story().Decode(ids));
  }
}

TEST(StreamDecoder, HoldsTheBeginningOfACharacter) {
  const std::vector<TokenId> ids = {*Story().IdOf("ð"), *Story().IdOf("Ł"), *Story().IdOf("ĺ"),
                                    *Story().IdOf("Ģ")};  // F0 9F 98 80
  StreamDecoder decoder(Story());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(decoder.Push(ids[i]), "");
  EXPECT_EQ(decoder.Push(ids[3]), "😀");
  EXPECT_EQ(decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Push(*Story().IdOf("a")), "\uFFFDa");
  EXPECT_EQ(decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
}

struct SessionResult {
  std::string text, stop;
};
SessionResult RunSession(const std::string& text, const std::vector<std::string>& stop) {
  TextSession session(Story(), {.stop = stop});
  std::string out;
  for (const TokenId id : Story().Encode(text)) out += session.Push(id);
  out += session.Finish();
  return {out, session.stop_string()};
}

// The definition: of the stop strings that occur, the one whose first occurrence ends first, of those the longest; the
// text before it.
SessionResult Definition(const std::string& text, const std::vector<std::string>& stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& s : stop) {
      if (s.size() > best.size() && s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0) best = s;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, ""};
}

TEST(TextSession, StopsAtTheFirstStopString) {
  EXPECT_EQ(RunSession("Once upon a time", {"upon"}).text, "Once ");
  EXPECT_EQ(RunSession("Once upon a time", {"time", "a t"}).stop, "a t");
  EXPECT_EQ(RunSession("Once upon a tim", {"time", ""}).text, "Once upon a tim");
  EXPECT_EQ(RunSession("aaab", {"aab"}).text, "a");
  Rng rng(13);
  const char letters[] = "ab c";
  auto word = [&](int64_t most) {
    std::string s;
    for (int64_t n = 1 + rng.NextBelow(most); n > 0; --n) s += letters[rng.NextBelow(4)];
    return s;
  };
  for (int i = 0; i < 3000; ++i) {
    const std::string text = word(40);
    std::vector<std::string> stop;
    for (int64_t n = rng.NextBelow(4); n > 0; --n) stop.push_back(word(5));
    const SessionResult got = RunSession(text, stop), want = Definition(text, stop);
    ASSERT_EQ(got.text, want.text) << json(text) << json(stop);
    ASSERT_EQ(got.stop, want.stop) << json(text) << json(stop);
  }
}

TEST(TextSession, NothingOfAStopStringGetsOut) {
  TextSession session(Story(), {.stop = {"\n\nUser:"}});
  std::string out;
  for (const TokenId id : Story().Encode("Yes.\n\nUse it.\n\nUser: no")) {
    const std::string part = session.Push(id);
    EXPECT_FALSE(out.ends_with("\n\nUser") || out.ends_with("\n\nUser:"));
    out += part;
  }
  EXPECT_EQ(out + session.Finish(), "Yes.\n\nUse it.");
  EXPECT_TRUE(session.stopped());
  EXPECT_EQ(session.Push(70), "");
}

TEST(TextSession, SkipsSpecialTokensUnlessTold) {
  TextSession skipping(Story(), {});
  EXPECT_EQ(skipping.Push(1), "");
  TextSession showing(Story(), {.stop = {}, .skip_special = false});
  EXPECT_EQ(showing.Push(1), "<｜end▁of▁sentence｜>");
}

}  // namespace
}  // namespace fathom::tokenizer
