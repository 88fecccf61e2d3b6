// Batches of token sequences for training and validation: text files in, ids out (docs/data.md).
//
// A thread reads, encodes and packs ahead of the caller, two windows at most. What comes out depends on the options,
// the files and the tokenizer alone: not on timing, nor on how many sequences are asked for at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/document_stream.h"
#include "data/notices.h"
#include "data/options.h"
#include "tokenizer/tokenizer.h"

namespace fathom::data {

struct Batch {
  // (sequences, length + 1): inputs are [0, length) of a row, targets [1, length + 1). Rows share no tokens.
  std::vector<int32_t> ids;
  std::vector<uint8_t> learned;  // beside ids: whether the id is a target; empty: all are
  int64_t sequences = 0, length = 0;
  // (sequences): positions in a row at which a document, or the rest of one that was cut, begins; ascending, the first
  // is 0.
  std::vector<std::vector<int32_t>> starts;
  bool isolate_documents = false;  // as DataOptions has it
};

// What was handed out so far, counted from where the stream began or was restored, by whole windows.
struct DataCounts {
  int64_t sequences = 0, documents = 0;
  int64_t cuts = 0, cuts_without_packing = 0;  // see Window
  std::vector<int64_t> epochs;                 // of each source, where the current window begins
  std::vector<int64_t> tokens;                 // of each source since the very beginning, likewise
};

class BatchStream {
 public:
  // Called by Next on the caller's thread.
  using OnNotice = std::function<void(const Notice&)>;

  // Opens the corpus; throws Error for bad options, missing or refused files, an unfit tokenizer. `tokenizer` outlives
  // this.
  BatchStream(const DataOptions& options, const tokenizer::Tokenizer& tokenizer, Split split = Split::kTrain,
              OnNotice on_notice = nullptr);
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  // The next sequences. Training never ends; validation gives fewer, at last none, where its one pass ends. Throws what
  // the reading thread met: no documents in a whole epoch of a source, too little validation text for one sequence.
  Batch Next(int64_t sequences);
  // Back to the beginning; validation does so before each pass.
  void Rewind();

  // Where Next goes on: JSON, some hundred bytes a source. What was read ahead does not show in it.
  std::string Cursor() const;
  // Throws Error if the cursor is damaged or is not of this corpus, these options and this tokenizer; it says what
  // differs. The stream is then as it was. (A damaged number may come to light only in Next.)
  void Restore(std::string_view cursor);

  DataCounts counts() const;
  NoticeCounts notice_counts() const;

 private:
  class Prefetch;
  DataOptions options_;
  OnNotice on_notice_;
  Notices notices_;
  std::unique_ptr<DocumentStream> stream_;
  std::unique_ptr<Prefetch> prefetch_;
};

}  // namespace fathom::data
