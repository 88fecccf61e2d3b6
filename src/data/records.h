// A file, or a part of one, to the documents in it, one after the other in bounded memory: one document and a read
// buffer. Bytes are untrusted. A document given out is valid UTF-8 without NUL and not of white space only.
//
//   text, no separator   the file is one document
//   text, a separator    what lies between two separators, without line ends at its ends
//   jsonl                a line is an object, its `text_key` the document
//   chat                 a line is an object with messages (chat.h), the line itself is the document
//
// A text longer than `max_document_bytes` is cut, after the last line end within the limit or else between two
// characters; a JSONL line longer than that is left out. Whatever is left out or changed goes to Notices.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "data/byte_reader.h"
#include "data/notices.h"

namespace fathom::data {

enum class Format : uint8_t { kText, kJsonl, kChat };
inline bool HasLines(Format format) { return format != Format::kText; }

struct RecordOptions {
  Format format = Format::kText;
  std::string text_key = "text";
  std::string separator{};
  int64_t max_document_bytes = 64 << 20;
};

// The text of a JSONL line; nothing, and why, where there is none. `line` must be valid UTF-8.
std::optional<std::string> TextOfJsonLine(std::string_view line, std::string_view text_key, NoticeKind* why,
                                          std::string* detail);

class RecordReader {
 public:
  static constexpr int64_t kNoEnd = INT64_MAX;

  // `options` and `notices` outlive the reader.
  RecordReader(std::string path, Compression compression, const RecordOptions& options, Notices& notices);
  RecordReader(std::string path, std::unique_ptr<ByteReader> bytes, const RecordOptions& options, Notices& notices);

  // Before the first Next, at most one of the two:
  // JSONL: only lines that begin in [begin, end), which may lie anywhere in a line.
  void SetRange(int64_t begin, int64_t end);
  // Goes on at an offset that position() gave, up to the `end` of that reader's range.
  void Resume(int64_t offset, int64_t end = kNoEnd);

  // The next document; false at the end. `begin` (if not null): its offset in the file.
  bool Next(std::string* text, int64_t* begin = nullptr);
  // Where the document after the last one begins, in decompressed bytes.
  int64_t position() const { return base_ + static_cast<int64_t>(begin_); }

 private:
  bool Fill();
  bool Skip(int64_t bytes);
  bool SkipLine(int64_t end);
  void Damaged(const Error& error);
  void Sniff();
  size_t CutPoint(std::string_view text) const;
  bool NextRaw(std::string_view* raw, int64_t* begin);
  bool Clean(std::string_view raw, int64_t begin, std::string* text);

  std::string path_;
  const RecordOptions& options_;
  Notices& notices_;
  std::unique_ptr<ByteReader> bytes_;
  std::string delimiter_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not yet given out, in buffer_
  int64_t base_ = 0;  // offset of buffer_ in the file
  int64_t end_ = kNoEnd;
  bool at_end_ = false, damaged_ = false, opened_ = false, cut_ = false;
};

}  // namespace fathom::data
