// Files of a source, the order of its documents, the mixture of several, document by document.
#include "data/source.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "data/document_stream.h"
#include "data/test_files.h"

namespace fathom::data {
namespace {

class SourceTest : public DataTest {
 protected:
  // 3000 documents in JSONL of several shards, small files, and compressed ones; 5 MiB.
  std::multiset<std::string> WriteCorpus() {
    std::multiset<std::string> texts;
    std::string large, packed;
    for (uint64_t i = 0; i < 3000; ++i) {
      const std::string text = SomeText(i, 50 + static_cast<int64_t>(i % 500));
      texts.insert(text);
      if (i % 10 == 0) {
        packed += JsonLine(text);
      } else if (i % 100 == 1) {
        Write("texts/" + std::to_string(i) + ".txt", text);
      } else {
        large += JsonLine(text);
      }
    }
    EXPECT_GT(large.size(), static_cast<size_t>(Source::kShardBytes));
    Write("large.jsonl", large);
    Write("packed.jsonl.zst", Zstd(packed));
    return texts;
  }
  Source Make(const Source::Settings& settings) {
    SourceOptions options;
    options.path = Root();
    return Source(options, ListFiles(options, notices_), settings, notices_);
  }
  static std::vector<std::string> Take(Source& source, size_t count) {
    std::vector<std::string> documents(count);
    for (std::string& d : documents) EXPECT_TRUE(source.Next(&d));
    return documents;
  }
  Notices notices_;
};

TEST_F(SourceTest, ListsAFolderInOrder) {
  for (const char* name :
       {"b.txt", "a/z.jsonl", "a/y.ndjson.gz", "c.TXT.zst", ".hidden.txt", ".git/x.txt", "d.md", "e"}) {
    Write(name, "x");
  }
  SourceOptions options;
  options.path = Root();
  const auto names = [&] {
    std::vector<std::string> list;
    for (const SourceFile& file : ListFiles(options, notices_)) list.push_back(file.name);
    return list;
  };
  EXPECT_EQ(names(), (std::vector<std::string>{"a/y.ndjson.gz", "a/z.jsonl", "b.txt", "c.TXT.zst"}));
  EXPECT_EQ(notices_.counts()[static_cast<size_t>(NoticeKind::kUnknownFile)], 2);
  options.format = "text";
  EXPECT_EQ(names().size(), 6u);
}

TEST_F(SourceTest, EveryEpochHasEveryDocumentOnceInAnOrderOfItsOwn) {
  const std::multiset<std::string> texts = WriteCorpus();
  for (const int64_t block_bytes : {int64_t{1} << 16, int64_t{1} << 30}) {
    Source source = Make({.seed = 5, .shuffle = true, .block_bytes = block_bytes});
    std::vector<std::vector<std::string>> epochs;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      epochs.push_back(Take(source, texts.size()));
      EXPECT_EQ(source.state().epoch, epoch);
      EXPECT_EQ(std::multiset<std::string>(epochs.back().begin(), epochs.back().end()), texts);
    }
    EXPECT_NE(epochs[0], epochs[1]);
    EXPECT_NE(epochs[1], epochs[2]);
    Source again = Make({.seed = 5, .shuffle = true, .block_bytes = block_bytes});
    EXPECT_EQ(Take(again, texts.size()), epochs[0]);
    Source other = Make({.seed = 6, .shuffle = true, .block_bytes = block_bytes});
    EXPECT_NE(Take(other, texts.size()), epochs[0]);
  }
}

TEST_F(SourceTest, OnePassInTheOrderOfTheFilesEnds) {
  const std::multiset<std::string> texts = WriteCorpus();
  Source source = Make({.shuffle = false, .one_pass = true, .block_bytes = 1 << 16});
  const std::vector<std::string> documents = Take(source, texts.size());
  EXPECT_EQ(std::multiset<std::string>(documents.begin(), documents.end()), texts);
  EXPECT_EQ(documents[0], SomeText(2, 52));  // of large.jsonl
  std::string text;
  EXPECT_FALSE(source.Next(&text));
  EXPECT_FALSE(source.Next(&text));
}

TEST_F(SourceTest, GoesOnFromAnyState) {
  WriteCorpus();
  for (const bool shuffle : {true, false}) {
    const Source::Settings settings{.seed = 5, .shuffle = shuffle, .block_bytes = 1 << 18};
    Source source = Make(settings);
    std::vector<SourceState> states;
    std::vector<std::string> documents;
    for (int i = 0; i < 7000; ++i) {
      states.push_back(source.state());
      documents.push_back(Take(source, 1)[0]);
    }
    Source other = Make(settings);
    Rng rng(2);
    for (int round = 0; round < 20; ++round) {
      const auto at = static_cast<size_t>(rng.NextBelow(6900));
      other.Restore(states[at]);
      ASSERT_EQ(Take(other, 100), std::vector<std::string>(documents.begin() + static_cast<ptrdiff_t>(at),
                                                           documents.begin() + static_cast<ptrdiff_t>(at) + 100));
    }
  }
}

TEST_F(SourceTest, SharesStayWithinADocumentOfTheWeights) {
  std::string a, b, c;
  for (uint64_t i = 0; i < 200; ++i) a += JsonLine(SomeText(i, 1 + static_cast<int64_t>(i)));
  for (uint64_t i = 0; i < 20; ++i) b += JsonLine(SomeText(i + 1000, 300));
  for (uint64_t i = 0; i < 900; ++i) c += JsonLine(SomeText(i + 2000, 3));
  DataOptions options;
  for (const auto& [name, text, weight] :
       {std::tuple("a.jsonl", a, 0.5), std::tuple("b.jsonl", b, 0.3), std::tuple("c.jsonl", c, 0.2)}) {
    options.sources.push_back({.path = Write(name, text), .weight = weight});
  }
  options.sequence_length = 8;
  options.fim_rate = 0;
  DocumentStream stream(options, StoryTokenizer(), Split::kTrain, notices_);
  std::vector<int32_t> ids;
  int64_t longest = 0, total = 0;
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(stream.Next(&ids));
    longest = std::max(longest, static_cast<int64_t>(ids.size()));
    total += static_cast<int64_t>(ids.size());
    const StreamState state = stream.State();
    // The source drawn from was the furthest behind, so none is ahead of its share by more than a document.
    for (size_t s = 0; s < 3; ++s) {
      const double share = options.sources[s].weight * static_cast<double>(total);
      EXPECT_LE(std::abs(static_cast<double>(state.sources[s].tokens) - share), 2.0 * static_cast<double>(longest));
    }
  }
  EXPECT_GT(total, 100 * longest);
}

TEST_F(SourceTest, NoDocumentsAtAllIsAnErrorAndNoEndlessSearch) {
  Write("a.txt", "  \n");
  Source source = Make({});
  std::string text;
  EXPECT_THROW(source.Next(&text), Error);
  Write("a.txt", "one");
  Source unwanted = Make({.wanted = [](std::string_view) { return false; }});
  EXPECT_THROW(unwanted.Next(&text), Error);
  Source once = Make({.one_pass = true, .wanted = [](std::string_view) { return false; }});
  EXPECT_FALSE(once.Next(&text));
}

}  // namespace
}  // namespace fathom::data
