// The whole stream: determinism, mixture, splits, resuming to the bit, refusals.
#include "data/batches.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "data/test_files.h"

namespace fathom::data {
namespace {

class BatchesTest : public DataTest {
 protected:
  // Two small sources: JSONL in two files, texts in a compressed file.
  DataOptions Corpus() const {
    std::string a, b, c;
    for (uint64_t i = 0; i < 120; ++i) a += JsonLine(SomeText(i, 5 + static_cast<int64_t>(i * 7 % 90)));
    for (uint64_t i = 200; i < 260; ++i) b += JsonLine(SomeText(i, 5 + static_cast<int64_t>(i * 3 % 200)));
    for (uint64_t i = 300; i < 380; ++i) c += SomeText(i, 20 + static_cast<int64_t>(i % 50)) + "\n\n";
    Write("lines/a.jsonl", a);
    Write("lines/sub/b.jsonl.zst", Zstd(b));
    Write("texts.txt.gz", Gzip(c));
    DataOptions options;
    options.sources.resize(2);
    options.sources[0].path = Root() + "/lines";
    options.sources[1].path = Root() + "/texts.txt.gz";
    options.sources[1].separator = "\n\n";
    options.sequence_length = 32;
    options.seed = 3;
    return options;
  }
  // `count` sequences in batches of changing size.
  static Batch Take(BatchStream& stream, int64_t count, uint64_t seed = 1) {
    Rng rng(seed);
    Batch all;
    while (all.sequences < count) {
      const Batch next = stream.Next(std::min(1 + rng.NextBelow(9), count - all.sequences));
      if (next.sequences == 0) break;
      all.ids.insert(all.ids.end(), next.ids.begin(), next.ids.end());
      all.starts.insert(all.starts.end(), next.starts.begin(), next.starts.end());
      all.sequences += next.sequences;
      all.length = next.length;
    }
    return all;
  }
  static void ExpectEqual(const Batch& a, const Batch& b) {
    ASSERT_EQ(a.sequences, b.sequences);
    ASSERT_EQ(a.ids, b.ids);
    ASSERT_EQ(a.starts, b.starts);
  }
  // The text of every whole document that lies in one piece of a sequence.
  static std::multiset<std::string> WholeDocuments(const Batch& batch) {
    const tokenizer::Tokenizer& t = StoryTokenizer();
    std::multiset<std::string> documents;
    const int64_t size = batch.length + 1;
    for (int64_t s = 0; s < batch.sequences; ++s) {
      const auto& starts = batch.starts[static_cast<size_t>(s)];
      for (size_t i = 0; i < starts.size(); ++i) {
        const int64_t end = i + 1 < starts.size() ? starts[i + 1] : size;
        const std::vector<int32_t> ids(batch.ids.begin() + s * size + starts[i], batch.ids.begin() + s * size + end);
        if (ids.front() == *t.bos_id() && ids.back() == *t.eos_id()) documents.insert(t.Decode(ids, true));
      }
    }
    return documents;
  }
  static std::string ErrorOf(const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(BatchesTest, ShapesAndStarts) {
  DataOptions options = Corpus();
  options.isolate_documents = true;
  options.fim_rate = 0;
  BatchStream stream(options, StoryTokenizer());
  const int32_t bos = *StoryTokenizer().bos_id(), eos = *StoryTokenizer().eos_id();
  const Batch batch = stream.Next(200);
  EXPECT_TRUE(batch.isolate_documents);
  ASSERT_EQ(batch.sequences, 200);
  ASSERT_EQ(batch.length, 32);
  ASSERT_EQ(batch.ids.size(), 200u * 33);
  ASSERT_EQ(batch.starts.size(), 200u);
  for (size_t s = 0; s < 200; ++s) {
    const std::vector<int32_t>& starts = batch.starts[s];
    ASSERT_EQ(starts[0], 0);
    for (int32_t i = 1; i < 33; ++i) {
      const size_t at = s * 33 + static_cast<size_t>(i);
      const bool start = std::find(starts.begin(), starts.end(), i) != starts.end();
      EXPECT_TRUE(start || batch.ids[at] != bos);      // a beginning is a start
      EXPECT_TRUE(start || batch.ids[at - 1] != eos);  // so is what follows an end
    }
    EXPECT_TRUE(std::is_sorted(starts.begin(), starts.end()));
  }
  EXPECT_EQ(stream.Next(0).sequences, 0);
}

TEST_F(BatchesTest, SameBitsHoweverItIsAskedFor) {
  const DataOptions options = Corpus();
  BatchStream a(options, StoryTokenizer()), b(options, StoryTokenizer());
  const Batch first = Take(a, 900, 1);
  ExpectEqual(first, Take(b, 900, 2));
  a.Rewind();
  ExpectEqual(first, a.Next(900));
  DataOptions other = options;
  other.seed = 4;
  BatchStream c(other, StoryTokenizer());
  EXPECT_NE(first.ids, c.Next(900).ids);
}

TEST_F(BatchesTest, WithoutShufflingDocumentsComeInOrder) {
  std::string lines;
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < 50; ++i) {
    texts.push_back(SomeText(i, 30));
    lines += JsonLine(texts.back());
  }
  DataOptions options;
  options.sources.resize(1);
  options.sources[0].path = Write("a.jsonl", lines);
  options.sequence_length = 1;
  options.shuffle = false;
  options.fim_rate = 0;
  const tokenizer::Tokenizer& t = StoryTokenizer();
  std::vector<int32_t> want;
  for (const std::string& text : texts) {
    want.push_back(*t.bos_id());
    for (const int32_t id : t.Encode(text)) want.push_back(id);
    want.push_back(*t.eos_id());
  }
  // Windows of 16 sequences of 2 ids: each has the next 32 tokens, in whatever order they were packed.
  options.pack_window_tokens = 1;
  BatchStream stream(options, StoryTokenizer());
  for (size_t at = 0; at + 32 <= want.size(); at += 32) {
    Batch batch = stream.Next(16);
    std::sort(batch.ids.begin(), batch.ids.end());
    std::sort(want.begin() + static_cast<ptrdiff_t>(at), want.begin() + static_cast<ptrdiff_t>(at) + 32);
    ASSERT_TRUE(std::equal(batch.ids.begin(), batch.ids.end(), want.begin() + static_cast<ptrdiff_t>(at))) << at;
  }
}

TEST_F(BatchesTest, MixtureKeepsItsWeights) {
  DataOptions options = Corpus();
  options.sources[0].weight = 3;
  options.sources[1].weight = 1;
  BatchStream stream(options, StoryTokenizer());
  for (int i = 0; i < 20; ++i) {
    stream.Next(97);
    const DataCounts counts = stream.counts();
    const double a = static_cast<double>(counts.tokens[0]) / 3, b = static_cast<double>(counts.tokens[1]);
    EXPECT_LT(std::abs(a - b), 700) << "a document (at most 200 words of fewer than 3 tokens)";
  }
  EXPECT_GT(stream.counts().tokens[1], 10'000);
}

TEST_F(BatchesTest, ResumesToTheBitAnywhere) {
  DataOptions options = Corpus();
  options.split_punctuation_newline_rate = 0.3;
  options.shuffle_buffer_bytes = 1;  // blocks as small as they get
  options.pack_window_tokens = 700;
  for (const bool shuffle : {true, false}) {
    options.shuffle = shuffle;
    BatchStream whole(options, StoryTokenizer());
    const Batch all = whole.Next(1500);
    Rng rng(8);
    for (int round = 0; round < 25; ++round) {
      const int64_t at = round < 3 ? round : rng.NextBelow(1400);
      BatchStream first(options, StoryTokenizer());
      Take(first, at, 5);
      const std::string cursor = first.Cursor();
      EXPECT_EQ(cursor, first.Cursor());
      BatchStream second(options, StoryTokenizer());
      if (round % 2 == 0) second.Next(5);  // restored from elsewhere
      second.Restore(cursor);
      EXPECT_EQ(second.Cursor(), cursor);
      const Batch rest = Take(second, 1500 - at, 9);
      ASSERT_TRUE(std::equal(rest.ids.begin(), rest.ids.end(), all.ids.begin() + at * 33)) << at;
      ASSERT_TRUE(std::equal(rest.starts.begin(), rest.starts.end(), all.starts.begin() + at)) << at;
      ASSERT_EQ(rest.sequences, 1500 - at);
    }
  }
}

TEST_F(BatchesTest, ResumesAcrossBlocksAndShards) {
  // Larger than a shard (4 MiB) and several blocks (1 MiB).
  std::string lines, texts;
  for (uint64_t i = 0; i < 6000; ++i) lines += JsonLine(SomeText(i, 200));
  for (uint64_t i = 0; i < 2000; ++i) texts += SomeText(i, 150) + "\n\n";
  ASSERT_GT(lines.size(), 5u << 20);
  DataOptions options;
  options.sources.resize(2);
  options.sources[0].path = Write("a.jsonl", lines);
  options.sources[1].path = Write("b.txt.zst", Zstd(texts));
  options.sources[1].separator = "\n\n";
  options.sequence_length = 512;
  options.shuffle_buffer_bytes = 2 << 20;
  options.pack_window_tokens = 100'000;
  BatchStream stream(options, StoryTokenizer());
  std::vector<std::string> cursors;
  std::vector<Batch> batches;
  for (int i = 0; i < 6; ++i) {
    cursors.push_back(stream.Cursor());
    batches.push_back(stream.Next(777));
  }
  EXPECT_GE(stream.counts().epochs[1], 1);
  BatchStream other(options, StoryTokenizer());
  for (const size_t i : {5, 2, 4}) {
    other.Restore(cursors[i]);
    ExpectEqual(other.Next(777), batches[i]);
  }
}

TEST_F(BatchesTest, TheSplitIsCleanAndAlwaysTheSame) {
  DataOptions options = Corpus();
  options.validation_fraction = 0.2;
  options.fim_rate = 0.5;  // not in validation
  options.sequence_length = 700;
  BatchStream train(options, StoryTokenizer()), validation(options, StoryTokenizer(), Split::kValidation);
  const Batch held = validation.Next(1'000'000);
  ASSERT_GT(held.sequences, 2);
  EXPECT_EQ(validation.Next(1).sequences, 0);
  validation.Rewind();
  ExpectEqual(held, Take(validation, 1'000'000));
  options.seed += 1;
  BatchStream elsewhere(options, StoryTokenizer(), Split::kValidation);
  EXPECT_NE(elsewhere.Next(1'000'000).ids, held.ids);

  const std::multiset<std::string> documents = WholeDocuments(held);
  EXPECT_GE(documents.size(), 15u);
  options.seed -= 1;
  options.fim_rate = 0;
  BatchStream plain(options, StoryTokenizer());
  const Batch seen = plain.Next(300);  // many epochs
  EXPECT_GT(plain.counts().epochs[0], 3);
  const std::multiset<std::string> trained = WholeDocuments(seen);
  std::set<std::string> both;
  for (const std::string& d : documents) both.insert(trained.count(d) != 0 ? d : "");
  EXPECT_EQ(both, std::set<std::string>{""});
  std::set<std::string> all(trained.begin(), trained.end());
  EXPECT_GT(all.size(), 190u);
}

TEST_F(BatchesTest, ValidationFilesAreLeftOutOfTraining) {
  DataOptions options = Corpus();
  options.sources.resize(1);
  options.validation_sources.resize(1);
  options.validation_sources[0].path = Root() + "/lines/sub/b.jsonl.zst";
  options.fim_rate = 0;
  options.sequence_length = 700;
  std::vector<std::string> notices;
  BatchStream train(options, StoryTokenizer(), Split::kTrain,
                    [&](const Notice& notice) { notices.push_back(ToString(notice)); });
  const std::multiset<std::string> trained = WholeDocuments(train.Next(200));
  EXPECT_EQ(std::set<std::string>(trained.begin(), trained.end()).size(), 120u);
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_CONTAINS(notices[0], "b.jsonl.zst");
  BatchStream validation(options, StoryTokenizer(), Split::kValidation);
  const std::multiset<std::string> held = WholeDocuments(validation.Next(10'000));
  EXPECT_GT(held.size(), 40u);
  for (const std::string& d : held) EXPECT_EQ(trained.count(d), 0u);
  options.validation_fraction = 0.1;
  EXPECT_CONTAINS(ErrorOf([&] { BatchStream(options, StoryTokenizer()); }), "both given");
}

TEST_F(BatchesTest, ExcludedDocumentsAreNotTrainedOn) {
  DataOptions options = Corpus();
  options.exclude = Write("exclude.jsonl.gz", Gzip(JsonLine(SomeText(7, 5 + 49)) + JsonLine(SomeText(310, 20 + 10))));
  options.fim_rate = 0;
  options.sequence_length = 700;
  std::vector<Notice> notices;
  BatchStream stream(options, StoryTokenizer(), Split::kTrain, [&](const Notice& n) { notices.push_back(n); });
  const std::multiset<std::string> trained = WholeDocuments(stream.Next(200));
  EXPECT_EQ(trained.count(SomeText(7, 54)), 0u);
  EXPECT_EQ(trained.count(SomeText(310, 30)), 0u);
  EXPECT_GT(trained.count(SomeText(8, 5 + 56)), 0u);
  EXPECT_GT(trained.count(SomeText(311, 20 + 11)), 0u);
  EXPECT_GT(stream.notice_counts()[static_cast<size_t>(NoticeKind::kExcluded)], 1);
  EXPECT_EQ(notices.size(), 2u);
  options.exclude = Write("bad.jsonl", JsonLine("fine") + "not json\n");
  EXPECT_CONTAINS(ErrorOf([&] { BatchStream(options, StoryTokenizer()); }), "exclude");
}

TEST_F(BatchesTest, CursorsOfOtherStreamsAreRefused) {
  const DataOptions options = Corpus();
  BatchStream stream(options, StoryTokenizer());
  stream.Next(10);
  const std::string cursor = stream.Cursor();
  const Batch next = stream.Next(5);
  const auto refusal = [&](const std::function<void(DataOptions&)>& change) {
    DataOptions changed = options;
    change(changed);
    return ErrorOf([&] { BatchStream(changed, StoryTokenizer()).Restore(cursor); });
  };
  EXPECT_EQ(refusal([](DataOptions& o) { o.isolate_documents = true; }), "no error");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.seed = 4; }), "seed");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.sequence_length = 33; }), "sequence_length");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.sources[1].weight = 2; }), "sources[1].weight");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.sources.pop_back(); }), "sources");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.fim_rate = 0; }), "fim_rate");
  EXPECT_CONTAINS(refusal([](DataOptions& o) { o.validation_fraction = 0.1; }), "validation_fraction");
  EXPECT_CONTAINS(refusal([this](DataOptions& o) { o.exclude = Write("x.jsonl", JsonLine("x")); }), "exclude");
  tokenizer::ModelText other = tokenizer::LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer");
  other.tokenizer.set_bos_id(5);
  EXPECT_CONTAINS(ErrorOf([&] { BatchStream(options, other.tokenizer).Restore(cursor); }), "tokenizer");

  Write("lines/c.jsonl", JsonLine("one more file"));
  EXPECT_CONTAINS(refusal([](DataOptions&) {}), "sources[0]");
  std::filesystem::remove(Root() + "/lines/c.jsonl");
  std::filesystem::resize_file(Root() + "/lines/a.jsonl", 5000);
  EXPECT_CONTAINS(refusal([](DataOptions&) {}), "sources[0].bytes");
}

TEST_F(BatchesTest, DamagedCursorsAreErrorsAndLeaveTheStreamAsItWas) {
  const DataOptions options = Corpus();
  BatchStream stream(options, StoryTokenizer());
  stream.Next(10);
  const std::string cursor = stream.Cursor();
  const Batch next = stream.Next(5);
  stream.Restore(cursor);
  nlohmann::json json = nlohmann::json::parse(cursor);
  const auto damaged = [&](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json copy = json;
    copy[nlohmann::json::json_pointer(pointer)] = value;
    return copy.dump();
  };
  for (const std::string& bad :
       {std::string(), std::string("{}"), std::string("[1]"), cursor.substr(0, cursor.size() / 2),
        damaged("/version", 2), damaged("/state", 3), damaged("/state/sources", nlohmann::json::array()),
        damaged("/state/documents", -1), damaged("/skip", 1'000'000), damaged("/skip", -1), damaged("/sequence", "a"),
        damaged("/state/sources/0/shard", 1'000'000), damaged("/state/sources/0/shard", -1),
        damaged("/state/sources/0/index", 1'000'000), damaged("/state/sources/0/epoch", 1e300),
        damaged("/state/sources/1", nlohmann::json::object())}) {
    EXPECT_THROW(stream.Restore(bad), Error) << bad;
  }
  ExpectEqual(stream.Next(5), next);
  stream.Restore(damaged("/sequence", 1'000'000));
  EXPECT_THROW(stream.Next(1), Error);
}

TEST_F(BatchesTest, BadCorporaAreNamed) {
  DataOptions options;
  options.sequence_length = 16;
  const auto error = [&] { return ErrorOf([&] { BatchStream(options, StoryTokenizer()).Next(1); }); };
  EXPECT_CONTAINS(error(), "no sources");
  options.sources.resize(1);
  EXPECT_CONTAINS(error(), "sources[0] has no path");
  options.sources[0].path = Root() + "/missing";
  EXPECT_CONTAINS(error(), "missing");
  options.sources[0].path = Root();
  EXPECT_CONTAINS(error(), "no documents in");  // an empty folder
  Write("notes.md", "no format that is read");
  EXPECT_CONTAINS(error(), "no documents in");
  Write("empty.txt", "");
  Write("binary.txt", std::string(100, '\0'));
  Write("bad.jsonl", "not json\n{\"title\":\"x\"}\n");
  EXPECT_CONTAINS(error(), "no documents in");  // zero documents: no endless search
  std::map<NoticeKind, int> kinds;
  {
    Write("good.txt", SomeText(1, 3000));
    BatchStream stream(options, StoryTokenizer(), Split::kTrain, [&](const Notice& n) { ++kinds[n.kind]; });
    EXPECT_EQ(stream.Next(20).sequences, 20);
  }
  EXPECT_EQ(kinds, (std::map<NoticeKind, int>{{NoticeKind::kUnknownFile, 1},
                                              {NoticeKind::kEmptyFile, 1},
                                              {NoticeKind::kBinary, 1},
                                              {NoticeKind::kBadJson, 1},
                                              {NoticeKind::kNoText, 1}}));
  for (const char* name : {"x.parquet", "x.arrow", "x.bin", "x.npy", "deep/X.PARQUET"}) {
    const std::string path = Write(name, "PAR1");
    EXPECT_CONTAINS(error(), name);
    EXPECT_CONTAINS(error(), std::string(name).find(".bin") != std::string::npos ||
                                     std::string(name).find(".npy") != std::string::npos
                                 ? "token ids"
                                 : "convert it to JSONL");
    std::filesystem::remove(path);
  }
  options.sources[0].path = Root() + "/notes.md";
  EXPECT_CONTAINS(error(), "format");
  options.sources[0].format = "text";
  EXPECT_EQ(error(), "no error");
  options.validation_fraction = 0.5;
  EXPECT_CONTAINS(ErrorOf([&] { BatchStream(options, StoryTokenizer(), Split::kValidation).Next(1); }), "validation");
  options.validation_fraction = 0;
  EXPECT_CONTAINS(ErrorOf([&] { BatchStream(options, StoryTokenizer(), Split::kValidation); }), "no validation split");
  options.fim_rate = 1.5;
  EXPECT_CONTAINS(error(), "fim_rate");
}

// The loader must not hold up a caller that takes its time, and stop at once when it is no longer wanted.
TEST_F(BatchesTest, StopsInTheMiddle) {
  const DataOptions options = Corpus();
  for (int i = 0; i < 20; ++i) {
    BatchStream stream(options, StoryTokenizer());
    if (i % 2 == 0) stream.Next(i);
  }
}

}  // namespace
}  // namespace fathom::data
