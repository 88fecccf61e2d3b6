// Counts the pieces of a corpus: how often the published DeepSeek-V3 pre-tokenizer (published_scanner.h) cuts out each
// distinct string of bytes. This is all that training a BPE needs to know of the text.
//
// Memory grows with the distinct pieces alone: documents are given in parts of any size, buffered to a batch of some
// megabytes, counted and forgotten. A batch is cut into segments where no piece can reach across; threads count the
// pieces of some segments at a time, then each thread adds what falls into one shard (by hash) to that shard's table.
// The counts do not depend on the number of threads, nor on how the documents' bytes were handed over.
//
// A document is cut after each line end that text follows, between two ASCII words, and between a Chinese full stop
// and a character of U+5000 to U+8FFF. Where more than kLongestSegment bytes have no such place it is cut between two
// characters, so a piece has at most that length.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/threads.h"

namespace fathom::tokenizer {

struct PieceCount {
  std::string_view bytes;
  int64_t count;
};

class PieceCounter {
 public:
  static constexpr size_t kSegment = 1 << 18;
  static constexpr size_t kLongestSegment = 1 << 20;

  explicit PieceCounter(ThreadPool& pool);
  ~PieceCounter();
  PieceCounter(const PieceCounter&) = delete;
  PieceCounter& operator=(const PieceCounter&) = delete;

  // The next bytes of the document. Invalid UTF-8 is repaired as Utf8Lossy does.
  void Append(std::string_view bytes);
  void EndDocument();

  // The distinct pieces of all documents ended so far, in no particular order. Their bytes live in the counter.
  std::vector<PieceCount> Pieces();

  int64_t documents() const { return documents_; }  // that were not empty
  int64_t bytes() const { return bytes_; }
  int64_t repaired() const { return repaired_; }  // segments with invalid UTF-8

 private:
  class Shard;
  class Local;
  struct Task;
  void Cut(size_t begin, size_t end, bool ended, std::vector<std::string_view>& segments, size_t* rest) const;
  void CountBatch(bool all);
  void CountSegments(std::span<const std::string_view> segments);

  ThreadPool& pool_;
  size_t batch_bytes_;
  std::string buffer_;
  std::vector<size_t> ends_;  // of documents, in buffer_
  std::vector<Shard> shards_;
  std::vector<Local> locals_;  // one a thread
  size_t document_begin_ = 0;  // bytes() when the document began
  int64_t documents_ = 0, bytes_ = 0, repaired_ = 0;
};

}  // namespace fathom::tokenizer
