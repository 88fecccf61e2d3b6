// What was wrong with the corpus and left out: counted by kind, and named once for each file and kind.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::data {

enum class NoticeKind : uint8_t {
  kUnknownFile,    // a file of a folder whose name says no format that is read
  kEmptyFile,      // nothing in it
  kEmptyDocument,  // white space only
  kBinary,         // NUL bytes, or a tenth or more of it is no UTF-8
  kInvalidUtf8,    // some of it is no UTF-8: replaced by U+FFFD, the document is kept
  kOversized,      // longer than max_document_bytes: a JSONL line is left out, a text is cut there
  kDamaged,        // a compressed file that ends too early or is corrupt, or an unreadable one
  kBadJson,        // a line that is no JSON object
  kNoText,         // a line without the text key, or where it is no string
  kExcluded,       // a document that was left out, or from which text was cut out, because of `exclude`
  kCount,
};

std::string_view Name(NoticeKind kind);
std::string_view Meaning(NoticeKind kind);  // a sentence's end: "is empty: left out"

struct Notice {
  NoticeKind kind = NoticeKind::kCount;
  std::string path;
  int64_t offset = 0;  // bytes into the file (decompressed) where the document begins
  std::string detail;
};
std::string ToString(const Notice& notice);  // one line

using NoticeCounts = std::array<int64_t, static_cast<size_t>(NoticeKind::kCount)>;

// Filled by the thread that reads, emptied by the one that reports.
class Notices {
 public:
  void Add(NoticeKind kind, const std::string& path, int64_t offset, std::string detail = "");
  std::vector<Notice> Take();  // those not yet taken: the first of each file and kind
  NoticeCounts counts() const;

 private:
  mutable std::mutex mutex_;
  NoticeCounts counts_{};
  std::set<std::pair<NoticeKind, std::string>> seen_;
  std::vector<Notice> waiting_;
};

}  // namespace fathom::data
