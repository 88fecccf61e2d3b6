// Documents out of files: every format and compression, and files that are not as they should be.
#include "data/records.h"

#include <vector>

#include "data/test_files.h"

namespace fathom::data {
namespace {

using Documents = std::vector<std::string>;

class RecordsTest : public DataTest {
 protected:
  Documents Read(const std::string& path, const RecordOptions& options) {
    std::string_view stem;
    RecordReader reader(path, CompressionOf(path, &stem), options, notices_);
    Documents documents;
    for (std::string text; reader.Next(&text);) documents.push_back(text);
    return documents;
  }
  int64_t Count(NoticeKind kind) const { return notices_.counts()[static_cast<size_t>(kind)]; }
  int64_t CountAll() const {
    int64_t sum = 0;
    for (const int64_t count : notices_.counts()) sum += count;
    return sum;
  }
  Notices notices_;
  const RecordOptions text_{.format = Format::kText};
  const RecordOptions jsonl_{.format = Format::kJsonl};
};

TEST_F(RecordsTest, EveryFormatAndCompression) {
  const Documents documents = {SomeText(1, 50), "short", SomeText(2, 300'000), "   kept as it is \n"};
  std::string lines;
  for (const std::string& d : documents) lines += JsonLine(d);
  EXPECT_EQ(Read(Write("a.jsonl", lines), jsonl_), documents);
  EXPECT_EQ(Read(Write("a.jsonl.gz", Gzip(lines)), jsonl_), documents);
  EXPECT_EQ(Read(Write("a.jsonl.zst", Zstd(lines)), jsonl_), documents);
  EXPECT_EQ(Read(Write("b.jsonl.gz", Gzip(lines) + Gzip(lines)), jsonl_).size(), 8u);  // two members
  EXPECT_EQ(Read(Write("b.jsonl.zst", Zstd(lines) + Zstd(lines)), jsonl_).size(), 8u);
  lines.pop_back();  // no line end at the end
  EXPECT_EQ(Read(Write("c.jsonl", lines), jsonl_), documents);
  EXPECT_EQ(Read(Write("d.txt", documents[2]), text_), Documents{documents[2]});
  EXPECT_EQ(Read(Write("d.txt.gz", Gzip(documents[2])), text_), Documents{documents[2]});
  EXPECT_EQ(Read(Write("d.txt.zst", Zstd(documents[2])), text_), Documents{documents[2]});
  EXPECT_EQ(CountAll(), 0);
}

TEST_F(RecordsTest, Separators) {
  RecordOptions options = text_;
  options.separator = "\n\n";
  const std::string path = Write("a.txt", "\n\none\nstill one\n\n\n\n\ntwo\n\n   \n\nthree\n");
  EXPECT_EQ(Read(path, options), (Documents{"one\nstill one", "two", "three"}));
  options.separator = "<|end|>";
  EXPECT_EQ(Read(Write("b.txt", "one<|end|>two <|end| <|end|>"), options), (Documents{"one", "two <|end| "}));
  // Separators across the ends of read buffers (1 MiB).
  options.separator = "0123456789";
  for (const size_t before : {(1u << 20) - 9, (1u << 20) - 1, (1u << 20)}) {
    const std::string first(before, 'x');
    EXPECT_EQ(Read(Write("c.txt", first + options.separator + "rest"), options), (Documents{first, "rest"}));
  }
  EXPECT_EQ(CountAll(), 0);
}

TEST_F(RecordsTest, KeysOfJsonLines) {
  RecordOptions options = jsonl_;
  options.text_key = "content";
  EXPECT_EQ(Read(Write("a.jsonl", JsonLine("hello", "content")), options), Documents{"hello"});
  EXPECT_EQ(Read(Write("b.jsonl", R"({"a":{"content":"deep"},"content":"a\nb\u00e9\ud83d\ude00"})"), options),
            Documents{"a\nbé😀"});
  EXPECT_EQ(CountAll(), 0);
}

TEST_F(RecordsTest, BadLinesAreCountedAndTheOthersRead) {
  const std::string path = Write("a.jsonl",
                                 "{\"text\": \"first\"}\n\n{\"text\": \n[\"text\"]\n\"text\"\n{\"title\": \"x\"}\n"
                                 "{\"text\": 3}\n{\"text\": \" \"}\n{\"text\": \"nul \\u0000\"}\n"
                                 "{\"text\": \"half \\ud83d\"}\n{\"text\": \"more\"} x\n{\"text\": \"last\"}\n");
  EXPECT_EQ(Read(path, jsonl_), (Documents{"first", "last"}));
  EXPECT_EQ(Count(NoticeKind::kBadJson), 5);
  EXPECT_EQ(Count(NoticeKind::kNoText), 2);
  EXPECT_EQ(Count(NoticeKind::kEmptyDocument), 1);
  EXPECT_EQ(Count(NoticeKind::kBinary), 1);
  const std::vector<Notice> named = notices_.Take();
  ASSERT_EQ(named.size(), 4u);  // once a file and kind
  EXPECT_NE(ToString(named[0]).find(path), std::string::npos);
  EXPECT_NE(ToString(named[0]).find("no JSON object"), std::string::npos);
  EXPECT_EQ(named[0].offset, 19);
}

TEST_F(RecordsTest, DeepAndWideJsonStaysBounded) {
  const std::string deep(3'000'000, '['), wide = "{\"a\":" + deep + "\n{\"text\":\"x\"}\n";
  EXPECT_EQ(Read(Write("a.jsonl", wide), jsonl_), Documents{"x"});
  EXPECT_EQ(Count(NoticeKind::kBadJson), 1);
}

TEST_F(RecordsTest, EmptyAndBinaryFiles) {
  EXPECT_TRUE(Read(Write("empty.txt", ""), text_).empty());
  EXPECT_TRUE(Read(Write("empty.jsonl", ""), jsonl_).empty());
  EXPECT_TRUE(Read(Write("empty.txt.gz", Gzip("")), text_).empty());
  EXPECT_EQ(Count(NoticeKind::kEmptyFile), 3);
  EXPECT_TRUE(Read(Write("blank.txt", " \n\t\r\n"), text_).empty());
  EXPECT_EQ(Count(NoticeKind::kEmptyDocument), 1);
  EXPECT_TRUE(Read(Write("nul.txt", std::string_view("text\0text", 9)), text_).empty());
  EXPECT_TRUE(Read(Write("nul.jsonl", std::string_view("{\"text\":\"a\"}\n\0", 14)), jsonl_).empty());
  std::string noise(100'000, ' ');
  Rng rng(5);
  for (char& c : noise) c = static_cast<char>(1 + rng.NextBelow(255));
  EXPECT_TRUE(Read(Write("noise.txt", noise), text_).empty());
  EXPECT_TRUE(Read(Write("latin.txt", "\xC4\xD6\xDC \xE4\xF6\xFC"), text_).empty());  // mostly no UTF-8
  EXPECT_EQ(Count(NoticeKind::kBinary), 4);
  // Binary far behind the beginning of a text: that document is left out.
  EXPECT_TRUE(Read(Write("late.txt", SomeText(1, 60'000) + std::string(1, '\0')), text_).empty());
  EXPECT_EQ(Count(NoticeKind::kBinary), 5);
}

TEST_F(RecordsTest, InvalidUtf8IsReplaced) {
  EXPECT_EQ(Read(Write("a.txt", "a long enough text \xFF with a bad byte"), text_),
            Documents{"a long enough text \xEF\xBF\xBD with a bad byte"});
  EXPECT_EQ(Read(Write("a.jsonl", "{\"text\":\"a long enough line \xC3\"}"), jsonl_),
            Documents{"a long enough line \xEF\xBF\xBD"});
  EXPECT_EQ(Read(Write("b.txt", "\xEF\xBB\xBFno mark"), text_), Documents{"no mark"});
  EXPECT_EQ(Count(NoticeKind::kInvalidUtf8), 2);
  EXPECT_EQ(CountAll(), 2);
}

TEST_F(RecordsTest, ALineThatIsTooLongIsLeftOut) {
  RecordOptions options = jsonl_;
  options.max_document_bytes = 1000;
  for (const size_t length : {1001u, 5'000'000u}) {  // within a read buffer, and several of them
    const std::string lines = JsonLine("before") + JsonLine(std::string(length, 'x')) + JsonLine("after");
    EXPECT_EQ(Read(Write("a.jsonl", lines), options), (Documents{"before", "after"}));
    EXPECT_EQ(Read(Write("a.jsonl.gz", Gzip(lines)), options), (Documents{"before", "after"}));
  }
  EXPECT_EQ(Count(NoticeKind::kOversized), 4);
  EXPECT_EQ(Read(Write("b.jsonl", JsonLine(std::string(3'000'000, 'x'))), options), Documents{});  // without an end
}

TEST_F(RecordsTest, ASparseHugeLineTakesNoMemory) {
  const std::string path = Write("huge.jsonl", JsonLine("before"));
  std::filesystem::resize_file(path, int64_t{200} << 20);  // a hole: NUL bytes, no line end
  std::ofstream(path, std::ios::app) << "\n" << JsonLine("after");
  RecordOptions options = jsonl_;
  options.max_document_bytes = 1 << 20;
  EXPECT_TRUE(Read(path, options).empty());  // NUL bytes at its beginning: binary as a whole
  EXPECT_EQ(Count(NoticeKind::kBinary), 1);
}

TEST_F(RecordsTest, ATextThatIsTooLongIsCut) {
  RecordOptions options = text_;
  options.max_document_bytes = 64;
  std::string text;
  for (int i = 0; i < 100; ++i) text += "line number " + std::to_string(i) + "\n";
  const Documents lines = Read(Write("a.txt", text), options);
  std::string joined;
  for (const std::string& part : lines) {
    EXPECT_LE(part.size(), 64u);
    EXPECT_EQ(part.back(), '\n');
    joined += part;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(Count(NoticeKind::kOversized), 1);
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "狐😀é";  // no line ends: between characters
  joined.clear();
  for (const std::string& part : Read(Write("b.txt.zst", Zstd(wide)), options)) {
    EXPECT_LE(part.size(), 64u);
    joined += part;
  }
  EXPECT_EQ(joined, wide);
  EXPECT_EQ(Count(NoticeKind::kInvalidUtf8), 0);
}

TEST_F(RecordsTest, DamagedCompressedFiles) {
  std::string lines;
  Documents documents;
  for (uint64_t i = 0; i < 3000; ++i) {
    documents.push_back(SomeText(i, 100));
    lines += JsonLine(documents.back());
  }
  const std::string gz = Gzip(lines), zst = Zstd(lines);
  for (const auto& [name, bytes] : {std::pair("cut.jsonl.gz", gz.substr(0, gz.size() / 2)),
                                    std::pair("cut.jsonl.zst", zst.substr(0, zst.size() / 2))}) {
    const int64_t before = Count(NoticeKind::kDamaged);
    const Documents read = Read(Write(name, bytes), jsonl_);
    EXPECT_LT(read.size(), documents.size());
    EXPECT_TRUE(std::equal(read.begin(), read.end(), documents.begin())) << "whole documents, and none that was cut";
    EXPECT_EQ(Count(NoticeKind::kDamaged), before + 1);
  }
  EXPECT_TRUE(Read(Write("cut.txt.gz", Gzip(documents[0]).substr(0, 40)), text_).empty());
  EXPECT_TRUE(Read(Write("plain.txt.gz", "no gzip file at all"), text_).empty());
  EXPECT_TRUE(Read(Write("plain.txt.zst", "no zstd file at all"), text_).empty());
  std::string flipped = gz;
  flipped[flipped.size() / 2] ^= 0x10;
  EXPECT_LT(Read(Write("flipped.jsonl.gz", flipped), jsonl_).size(), documents.size());
  EXPECT_EQ(Count(NoticeKind::kDamaged), 6);
  EXPECT_TRUE(Read(Root() + "/missing.txt", text_).empty());
  EXPECT_EQ(Count(NoticeKind::kDamaged), 7);
}

TEST_F(RecordsTest, RangesPartitionALineFile) {
  std::string lines;
  Documents documents;
  Rng rng(1);
  for (uint64_t i = 0; i < 12; ++i) {
    documents.push_back(SomeText(i, 1 + rng.NextBelow(30)));
    lines += JsonLine(documents.back());
  }
  const std::string path = Write("a.jsonl", lines);
  const auto size = static_cast<int64_t>(lines.size());
  for (const int64_t part : {int64_t{1}, int64_t{7}, int64_t{100}, int64_t{1000}, size}) {
    Documents read;
    for (int64_t begin = 0; begin < size; begin += part) {
      RecordReader reader(path, Compression::kNone, jsonl_, notices_);
      reader.SetRange(begin, begin + part);
      for (std::string text; reader.Next(&text);) read.push_back(text);
    }
    EXPECT_EQ(read, documents) << part;
  }
}

TEST_F(RecordsTest, ResumesAtAnyDocument) {
  RecordOptions options = text_;
  options.separator = "\n\n";
  options.max_document_bytes = 100;  // some are cut
  std::string text;
  for (uint64_t i = 0; i < 40; ++i) text += SomeText(i, 1 + static_cast<int64_t>(i)) + "\n\n";
  for (const auto& [path, compression] : {std::pair(Write("a.txt", text), Compression::kNone),
                                          std::pair(Write("a.txt.gz", Gzip(text)), Compression::kGzip),
                                          std::pair(Write("a.txt.zst", Zstd(text)), Compression::kZstd)}) {
    const Documents all = Read(path, options);
    ASSERT_GT(all.size(), 40u);
    RecordReader whole(path, compression, options, notices_);
    std::string document;
    for (size_t i = 0; whole.Next(&document); ++i) {
      RecordReader rest(path, compression, options, notices_);
      rest.Resume(whole.position());
      for (size_t j = i + 1; j < all.size(); ++j) {
        ASSERT_TRUE(rest.Next(&document));
        ASSERT_EQ(document, all[j]);
      }
      EXPECT_FALSE(rest.Next(&document));
    }
  }
}

}  // namespace
}  // namespace fathom::data
