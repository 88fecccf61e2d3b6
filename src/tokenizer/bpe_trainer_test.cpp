#include "tokenizer/bpe_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/rng.h"
#include "tokenizer/test_files.h"
#include "tokenizer/v3_files.h"

namespace fathom::tokenizer {
namespace {

using nlohmann::json;

// Merges by the definition: count all pairs, join the best, count again.
std::vector<std::pair<std::string, std::string>> MergesByDefinition(const std::vector<PieceCount>& pieces,
                                                                    int64_t merges, int64_t least) {
  const BpeSource bytes = TrainBpe({}, {.vocab_size = 256});
  std::vector<std::string> names;
  std::map<char, int> rank;
  for (const auto& [name, id] : bytes.vocabulary) {
    names.push_back(name);
    rank[BytesOfTokenString(name)[0]] = id;
  }
  std::vector<std::vector<int>> words;
  for (const PieceCount& p : pieces) {
    auto& word = words.emplace_back();
    for (const char c : p.bytes) word.push_back(rank[c]);
  }
  std::vector<std::pair<std::string, std::string>> out;
  for (int64_t i = 0; i < merges; ++i) {
    std::map<std::pair<int, int>, int64_t> counts;
    for (size_t w = 0; w < words.size(); ++w) {
      for (size_t k = 1; k < words[w].size(); ++k) counts[{words[w][k - 1], words[w][k]}] += pieces[w].count;
    }
    const auto best = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end() || best->second < least) break;
    const auto [left, right] = best->first;  // of equals the first: the map is in order of ids
    for (auto& word : words) {
      std::vector<int> next;
      for (size_t k = 0; k < word.size(); ++k) {
        const bool joins = k + 1 < word.size() && word[k] == left && word[k + 1] == right;
        next.push_back(joins ? static_cast<int>(names.size()) : word[k]);
        k += joins;
      }
      word = next;
    }
    out.emplace_back(names[left], names[right]);
    names.push_back(names[left] + names[right]);
  }
  return out;
}

TEST(BpeTrainer, EqualsTheDefinition) {
  Rng rng(2, 0);
  for (int round = 0; round < 200; ++round) {
    const int64_t letters = 1 + rng.NextBelow(4);
    std::map<std::string, int64_t> counted;
    for (int64_t n = 1 + rng.NextBelow(30); n > 0; --n) {
      std::string word;
      for (int64_t k = 1 + rng.NextBelow(25); k > 0; --k) word += static_cast<char>('a' + rng.NextBelow(letters));
      counted[word] += 1 + rng.NextBelow(3);
    }
    std::vector<PieceCount> pieces;
    for (const auto& [word, count] : counted) pieces.push_back({word, count});
    const int64_t least = 1 + rng.NextBelow(3), merges = rng.NextBelow(80);
    const BpeSource bpe = TrainBpe(pieces, {.vocab_size = 256 + merges, .min_frequency = least});
    ASSERT_EQ(bpe.merges, MergesByDefinition(pieces, merges, least)) << "round " << round;
  }
}

BpeSource TrainOn(const std::vector<std::string>& documents, const BpeTrainOptions& options, int threads) {
  ThreadPool pool(threads);
  PieceCounter counter(pool);
  for (const std::string& d : documents) {
    counter.Append(d);
    counter.EndDocument();
  }
  return TrainBpe(counter.Pieces(), options);
}

// Made by tools/tokenizer/make_trainer_vectors.py.
TEST(BpeTrainer, EqualsHuggingFaceTokenizers) {
  const json golden = json::parse(ReadTextFile(FATHOM_SOURCE_DIR "/tests/golden/tokenizer/trained.json", 1 << 20));
  ASSERT_GE(golden.size(), 5u);
  for (const json& g : golden) {
    const BpeTrainOptions options = {
        .vocab_size = g["vocab_size"], .min_frequency = g["min_frequency"], .special_tokens = V3FirstTokens()};
    for (const int threads : {1, 2}) {
      const BpeSource bpe = TrainOn(g["documents"], options, threads);
      ASSERT_EQ(bpe.vocabulary.size(), g["vocab"].size()) << g["name"];
      for (size_t i = 0; i < bpe.vocabulary.size(); ++i) {
        ASSERT_EQ(bpe.vocabulary[i].first, g["vocab"][i].get<std::string>()) << g["name"] << ", id " << i;
        ASSERT_EQ(bpe.vocabulary[i].second, static_cast<TokenId>(i));
      }
      ASSERT_EQ(bpe.merges.size(), g["merges"].size());
      for (size_t i = 0; i < bpe.merges.size(); ++i) {
        ASSERT_EQ(bpe.merges[i].first + " " + bpe.merges[i].second, g["merges"][i].get<std::string>())
            << g["name"] << ", merge " << i;
      }
    }
  }
}

TEST(BpeTrainer, OneHugePieceTakesNoLongerThanManySmallOnes) {
  // With a pass over the piece for each merge these would be 2000 x 1 MB of work, and minutes under a sanitizer.
  Rng rng(3, 0);
  std::string random, same(1 << 20, 'a');
  for (int i = 0; i < 1 << 20; ++i) random += static_cast<char>('a' + rng.NextBelow(26));
  int64_t done = 0;
  const BpeSource bpe =
      TrainBpe({{random, 1}, {same, 1}}, {.vocab_size = 2256, .progress = [&](int64_t d, int64_t total) {
                                            EXPECT_EQ(total, 2000);
                                            EXPECT_EQ(d, ++done);
                                          }});
  EXPECT_EQ(bpe.merges.size(), 2000u);
  EXPECT_EQ(done, 2000);
}

TEST(BpeTrainer, SizesThatCannotBe) {
  const BpeTrainOptions options = {.reserved = 15, .special_tokens = V3FirstTokens()};
  for (const int64_t size : {int64_t{-1}, int64_t{0}, int64_t{273}, int64_t{1} << 40}) {
    BpeTrainOptions o = options;
    o.vocab_size = size;
    try {
      TrainBpe({{"aaaa", 5}}, o);
      ADD_FAILURE() << size;
    } catch (const Error& e) {
      EXPECT_EQ(e.got(), std::to_string(size));
      EXPECT_NE(e.expected().find("from 274 "), std::string::npos) << e.expected();
    }
  }
  BpeTrainOptions o = options;
  o.vocab_size = 274;
  EXPECT_TRUE(TrainBpe({{"aaaa", 5}}, o).merges.empty());
}

TEST(V3Files, LoadAndEncodeTheirCorpus) {
  const std::vector<std::string> documents = {"The fox, the hen and the king; the king sleeps.\n\nThe end.\n",
                                              "the 1234 hens of the king: 国王的狐狸 and 国王的鸡。\n"};
  const BpeSource bpe = TrainOn(documents, {.vocab_size = 320, .reserved = 15, .special_tokens = V3FirstTokens()}, 1);
  Result<Tokenizer> loaded = Tokenizer::FromJson(V3TokenizerJson(bpe));
  ASSERT_TRUE(loaded.ok()) << loaded.error().what();
  const Tokenizer& t = loaded.Value();
  EXPECT_TRUE(t.bpe().OnePass());
  EXPECT_TRUE(t.HasScanner());
  const auto last = static_cast<TokenId>(bpe.vocabulary.size());
  EXPECT_EQ(t.vocab_size(), last + 15);
  EXPECT_EQ(t.IdOf("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(t.IdOf("<｜end▁of▁sentence｜>"), 1);
  EXPECT_EQ(t.IdOf("<｜▁pad▁｜>"), 2);
  EXPECT_EQ(t.IdOf("<｜fim▁hole｜>"), last);
  EXPECT_EQ(t.IdOf("<｜tool▁sep｜>"), last + 14);
  for (const TokenId id : {TokenId{0}, TokenId{2}, last, last + 14}) EXPECT_TRUE(t.IsSpecial(id)) << id;
  for (const std::string& d : documents) {
    EXPECT_EQ(t.Decode(t.Encode(d)), d);
    EXPECT_LT(t.Encode(d).size(), d.size() * 2 / 3);
  }
  EXPECT_EQ(t.Encode("<｜User｜>").size(), 1u);
  EXPECT_GT(t.Encode("<｜User｜>", {.parse_special = false}).size(), 1u);
}

// All but the vocabulary and the flags of added tokens is laid out as published.
TEST(V3Files, LaidOutAsPublished) {
  FATHOM_NEEDS_SHARED("deepseek-v3.tokenizer.json.gz");
  const json ours = json::parse(V3TokenizerJson(TrainBpe({}, {.vocab_size = 259, .special_tokens = V3FirstTokens()})));
  const json theirs = json::parse(ReadTextFile(SharedTokenizerFile("deepseek-v3.tokenizer.json.gz"), 1 << 30));
  for (const auto& [key, value] : theirs.items()) {
    ASSERT_TRUE(ours.contains(key)) << key;
    if (key == "model" || key == "added_tokens") continue;
    EXPECT_EQ(ours[key], value) << key;
  }
  EXPECT_EQ(ours.size(), theirs.size());
  for (const auto& [key, value] : theirs["model"].items()) {
    ASSERT_TRUE(ours["model"].contains(key)) << key;
    if (key == "vocab" || key == "merges") continue;
    EXPECT_EQ(ours["model"][key], value) << key;
  }
  std::vector<std::string> names, published;
  for (const json& t : ours["added_tokens"]) names.push_back(t["content"]);
  std::vector<std::pair<int64_t, std::string>> by_id;
  for (const json& t : theirs["added_tokens"]) {
    const std::string content = t["content"];
    EXPECT_EQ(t.size(), ours["added_tokens"][0].size());
    if (content.find("place▁holder") == std::string::npos) by_id.emplace_back(t["id"], content);
  }
  std::sort(by_id.begin(), by_id.end());
  for (const auto& [id, content] : by_id) published.push_back(content);
  EXPECT_EQ(names, published);
  for (int id = 0; id < 259; ++id) {  // the bytes have the ids that they have there
    const std::string name = TrainBpe({}, {.vocab_size = 259, .special_tokens = V3FirstTokens()}).vocabulary[id].first;
    EXPECT_EQ(theirs["model"]["vocab"].value(name, -1), id) << name;
  }
  const json config = json::parse(V3TokenizerConfig(131072));
  json expected = json::parse(ReadTextFile(SharedTokenizerFile("deepseek-v3.tokenizer_config.json"), 1 << 20));
  expected.erase("chat_template");
  expected["pad_token"]["content"] = "<｜▁pad▁｜>";  // the release pads with eos
  EXPECT_EQ(config, expected);
}

}  // namespace
}  // namespace fathom::tokenizer
