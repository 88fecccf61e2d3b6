// One source: its files, and the documents in them as an endless stream, epoch after epoch.
//
// Order. The files are cut into shards: JSONL that is not compressed into parts of kShardBytes (a line belongs to the
// part it begins in), any other file is one shard. Each epoch goes through the shards in an order of its own, drawn
// from (seed, source, epoch). Documents are read one shard after the other into a block of `block_bytes`; a full block
// is shuffled and given out. So the order is random within a block, and over the whole corpus as far as shards are
// small against a block; a corpus smaller than a block is shuffled wholly. A place in the stream is where its block
// begins and how many documents of that were given out: to go on there, one block is read again (of a compressed file,
// also what comes before it in that file).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/exclusion.h"
#include "data/notices.h"
#include "data/options.h"
#include "data/records.h"

namespace fathom::data {

struct SourceFile {
  std::string path;
  std::string name;  // within the source's folder: what a corpus is recognised by, wherever it lies
  int64_t bytes = 0;
  Compression compression = Compression::kNone;
  Format format = Format::kText;
};

// The files of a source, in the order of their names. Throws Error: no such path, no file of a kind that is read, or
// one of a kind that is refused (Parquet, Arrow, token files).
std::vector<SourceFile> ListFiles(const SourceOptions& options, Notices& notices);

// The place of the next document.
struct SourceState {
  int64_t epoch = 0;
  int64_t shard = 0;      // in the epoch's order: where the block begins
  int64_t offset = 0;     // and where in that file; 0: where the shard begins
  int64_t index = 0;      // documents of the block already given out
  int64_t documents = 0;  // given out in this epoch before the block
  int64_t tokens = 0;     // given out since the beginning; kept by DocumentStream
};

class Source {
 public:
  static constexpr int64_t kShardBytes = 4 << 20;

  struct Settings {
    uint64_t seed = 0;  // of this source
    bool shuffle = true;
    bool one_pass = false;  // ends after an epoch
    int64_t block_bytes = 64 << 20;
    int64_t max_document_bytes = 64 << 20;
    std::function<bool(std::string_view)> wanted{};  // which documents; null: all
    const Exclusion* exclusion = nullptr;            // null: none
  };

  Source(SourceOptions options, std::vector<SourceFile> files, Settings settings, Notices& notices);

  // The next document. False only with one_pass, at the end. Throws Error if a whole epoch has none.
  bool Next(std::string* text);

  const SourceOptions& options() const { return options_; }
  const std::vector<SourceFile>& files() const { return files_; }
  int64_t bytes() const;  // of the files, as they lie on the disk
  SourceState& state() { return state_; }
  // `state` may come from a file: throws Error where it cannot be of this source.
  void Restore(const SourceState& state);

 private:
  struct Shard {
    uint32_t file;
    int64_t begin;
  };
  int64_t ShardEnd(const Shard& shard) const;
  void StartEpoch(int64_t epoch);
  bool FillBlock();
  void Add(std::string text);

  SourceOptions options_;
  std::vector<SourceFile> files_;
  Settings settings_;
  Notices& notices_;
  RecordOptions record_options_[3];  // by Format
  std::vector<Shard> shards_;
  std::vector<uint32_t> order_;
  int64_t order_epoch_ = -1;
  SourceState state_;
  // The block, and where the reader is behind it.
  std::vector<std::string> block_;
  int64_t block_bytes_ = 0;
  bool filled_ = false;
  std::unique_ptr<RecordReader> reader_;
  int64_t reader_shard_ = 0, reader_offset_ = 0;
};

}  // namespace fathom::data
