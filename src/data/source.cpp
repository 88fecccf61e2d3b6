#include "data/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"
#include "data/chat.h"
#include "data/hash.h"

namespace fathom::data {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kShardOrder = 1, kBlockOrder = 2;  // streams of random numbers

template <class T>
void Shuffle(std::vector<T>& items, uint64_t seed, uint64_t stream) {
  Rng rng(seed, stream);
  for (size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(i)))]);
  }
}

std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

void RefuseByName(const std::string& path, const std::string& extension) {
  constexpr std::array<std::string_view, 5> kRefused = {".parquet", ".arrow", ".feather", ".bin", ".npy"};
  if (std::find(kRefused.begin(), kRefused.end(), extension) == kRefused.end()) return;
  const bool tokens = extension == ".bin" || extension == ".npy";
  throw Error(fmt::format("{}: {} is not read", path, tokens ? "a file of token ids" : "a Parquet or Arrow file"),
              extension, "text (.txt) or JSON lines (.jsonl), also as .gz or .zst",
              tokens ? "give the text that the ids were made from; fathom encodes while it trains"
                     : "convert it to JSONL, one object with a key \"text\" a line");
}

// What the name says; false if nothing.
bool FormatByName(const std::string& path, const SourceOptions& options, SourceFile* file) {
  const std::string lower = Lower(fs::path(path).filename().string());
  std::string_view stem;
  file->compression = CompressionOf(lower, &stem);
  const std::string extension = fs::path(stem).extension().string();
  RefuseByName(path, extension);
  if (options.format != "auto") {
    file->format = options.format == "jsonl"  ? Format::kJsonl
                   : options.format == "chat" ? Format::kChat
                                              : Format::kText;
    return true;
  }
  file->format = extension == ".txt" ? Format::kText : Format::kJsonl;
  return extension == ".txt" || extension == ".jsonl" || extension == ".ndjson";
}

}  // namespace

std::vector<SourceFile> ListFiles(const SourceOptions& options, Notices& notices) {
  std::error_code error;
  const fs::file_status status = fs::status(options.path, error);
  if (!fs::exists(status)) {
    throw Error("data: cannot open " + options.path, error ? error.message() : "no such file or folder", "",
                "check the path; a relative one begins at the working directory");
  }
  std::vector<SourceFile> files;
  const auto size_of = [&](const fs::path& path) {
    const uintmax_t bytes = fs::file_size(path, error);
    if (error) throw Error("data: cannot read " + path.string(), error.message());
    return static_cast<int64_t>(bytes);
  };
  if (!fs::is_directory(status)) {
    SourceFile file;
    if (!FormatByName(options.path, options, &file)) {
      throw Error("data: the name of " + options.path + " says no format that is read", "",
                  ".txt, .jsonl or .ndjson, perhaps with .gz or .zst behind it",
                  "say what it is with format = \"text\" or \"jsonl\"");
    }
    file.path = options.path;
    file.name = fs::path(options.path).filename().string();
    file.bytes = size_of(options.path);
    files.push_back(std::move(file));
    return files;
  }
  const fs::path root(options.path);
  auto it = fs::recursive_directory_iterator(root, fs::directory_options::follow_directory_symlink, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code dangling;  // a link to nothing is no file
    const bool hidden = it->path().filename().string().substr(0, 1) == ".";
    if (it->is_directory(dangling)) {
      if (hidden || it.depth() > 64) it.disable_recursion_pending();  // a link may lead back up
      continue;
    }
    if (hidden || !it->is_regular_file(dangling)) continue;
    SourceFile file;
    file.path = it->path().string();
    if (!FormatByName(file.path, options, &file)) {
      notices.Add(NoticeKind::kUnknownFile, file.path, 0);
      continue;
    }
    file.name = it->path().lexically_relative(root).generic_string();
    file.bytes = size_of(it->path());
    files.push_back(std::move(file));
  }
  if (error) throw Error("data: cannot read the folder " + options.path, error.message());
  if (files.empty()) {
    throw Error("data: no documents in " + options.path, "no file that is read",
                "*.txt, *.jsonl or *.ndjson, perhaps with .gz or .zst behind it",
                "say what the files are with format = \"text\" or \"jsonl\"");
  }
  std::sort(files.begin(), files.end(), [](const SourceFile& a, const SourceFile& b) { return a.name < b.name; });
  return files;
}

Source::Source(SourceOptions options, std::vector<SourceFile> files, Settings settings, Notices& notices)
    : options_(std::move(options)), files_(std::move(files)), settings_(std::move(settings)), notices_(notices) {
  for (const Format format : {Format::kText, Format::kJsonl, Format::kChat}) {
    record_options_[static_cast<size_t>(format)] = {format, options_.text_key, options_.separator,
                                                    settings_.max_document_bytes};
  }
  for (uint32_t i = 0; i < files_.size(); ++i) {
    const SourceFile& file = files_[i];
    shards_.push_back({i, 0});
    if (!HasLines(file.format) || file.compression != Compression::kNone) continue;
    for (int64_t begin = kShardBytes; begin < file.bytes; begin += kShardBytes) shards_.push_back({i, begin});
  }
  FATHOM_CHECK(shards_.size() < UINT32_MAX);
}

int64_t Source::bytes() const {
  return std::accumulate(files_.begin(), files_.end(), int64_t{0},
                         [](int64_t sum, const SourceFile& file) { return sum + file.bytes; });
}

int64_t Source::ShardEnd(const Shard& shard) const {
  const SourceFile& file = files_[shard.file];
  const bool parts = HasLines(file.format) && file.compression == Compression::kNone;
  return parts && shard.begin + kShardBytes < file.bytes ? shard.begin + kShardBytes : RecordReader::kNoEnd;
}

void Source::StartEpoch(int64_t epoch) {
  if (order_epoch_ == epoch) return;
  order_epoch_ = epoch;
  order_.resize(shards_.size());
  std::iota(order_.begin(), order_.end(), 0u);
  if (settings_.shuffle) Shuffle(order_, settings_.seed, HashPair(kShardOrder, static_cast<uint64_t>(epoch)));
}

void Source::Add(std::string text) {
  if (settings_.wanted && !settings_.wanted(text)) return;
  block_bytes_ += static_cast<int64_t>(text.size() + sizeof(std::string));
  block_.push_back(std::move(text));
}

// Reads the block that begins at state_; false if the epoch has nothing more. Behind it is the reader.
bool Source::FillBlock() {
  StartEpoch(state_.epoch);
  block_.clear();
  block_bytes_ = 0;
  filled_ = true;
  reader_shard_ = state_.shard;
  reader_offset_ = state_.offset;
  std::string text;
  std::vector<std::string> rest;
  while (block_bytes_ < settings_.block_bytes && reader_shard_ < static_cast<int64_t>(shards_.size())) {
    const Shard& shard = shards_[order_[static_cast<size_t>(reader_shard_)]];
    const SourceFile& file = files_[shard.file];
    if (reader_ == nullptr) {
      const RecordOptions& options = record_options_[static_cast<size_t>(file.format)];
      reader_ = std::make_unique<RecordReader>(file.path, file.compression, options, notices_);
      if (reader_offset_ > 0) {
        reader_->Resume(reader_offset_, ShardEnd(shard));
      } else if (HasLines(file.format)) {
        reader_->SetRange(shard.begin, ShardEnd(shard));
      }
    }
    int64_t begin = 0;
    if (!reader_->Next(&text, &begin)) {
      reader_.reset();
      ++reader_shard_;
      reader_offset_ = 0;
      continue;
    }
    reader_offset_ = reader_->position();
    if (file.format == Format::kChat) {  // a conversation is left out as a whole
      if (settings_.exclusion != nullptr && settings_.exclusion->Cut(ContentsOfLine(text), &rest)) {
        notices_.Add(NoticeKind::kExcluded, file.path, begin);
      } else {
        Add(std::move(text));
      }
    } else if (settings_.exclusion != nullptr && settings_.exclusion->Cut(text, &rest)) {
      notices_.Add(NoticeKind::kExcluded, file.path, begin);
      for (std::string& part : rest) Add(std::move(part));
    } else {
      Add(std::move(text));
    }
  }
  if (settings_.shuffle) {
    const uint64_t place = HashPair(static_cast<uint64_t>(state_.shard), static_cast<uint64_t>(state_.offset));
    Shuffle(block_, settings_.seed, HashPair(HashPair(kBlockOrder, static_cast<uint64_t>(state_.epoch)), place));
  }
  return !block_.empty();
}

bool Source::Next(std::string* text) {
  for (;;) {
    if (!filled_) FillBlock();
    if (state_.index < static_cast<int64_t>(block_.size())) {
      *text = std::move(block_[static_cast<size_t>(state_.index++)]);
      return true;
    }
    state_.documents += state_.index;
    state_.index = 0;
    state_.shard = reader_shard_;
    state_.offset = reader_offset_;
    filled_ = false;
    if (state_.shard < static_cast<int64_t>(shards_.size())) continue;
    if (settings_.one_pass) {
      filled_ = true;  // stays at the end
      block_.clear();
      return false;
    }
    if (state_.documents == 0) {
      throw Error("data: no documents in " + options_.path, fmt::format("{} files without any", files_.size()),
                  "a document or more",
                  "the files are empty, binary, of another format, or all of them went to validation or were excluded");
    }
    ++state_.epoch;
    state_.shard = state_.offset = state_.documents = 0;
  }
}

void Source::Restore(const SourceState& state) {
  const auto shards = static_cast<int64_t>(shards_.size());
  if (state.epoch < 0 || state.shard < 0 || state.shard > shards || state.offset < 0 || state.index < 0 ||
      state.documents < 0 || state.tokens < 0) {
    throw Error("data: the cursor names a place that " + options_.path + " does not have",
                fmt::format("epoch {}, shard {} of {}, offset {}, document {}", state.epoch, state.shard, shards,
                            state.offset, state.index),
                "", "the checkpoint is damaged: resume from the one before it");
  }
  state_ = state;
  reader_.reset();
  FillBlock();
  if (state.index > static_cast<int64_t>(block_.size())) {
    throw Error("data: the cursor names a place that " + options_.path + " does not have",
                fmt::format("document {} of a block of {}", state.index, block_.size()), "",
                "the files have changed, or the checkpoint is damaged");
  }
}

}  // namespace fathom::data
