#include "checkpoint/fingerprint.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "io/digest.h"

namespace fathom::checkpoint {
namespace {

constexpr int64_t kHashedAtOnce = 4 << 20;  // a task
constexpr int64_t kSample = 4 << 10;        // at the beginning, the middle and the end of what is not read whole

struct HashedPiece {
  const std::byte* data;
  int64_t bytes;
};

void AddPieces(std::vector<HashedPiece>& pieces, const void* data, int64_t bytes, bool whole) {
  const auto* p = static_cast<const std::byte*>(data);
  if (whole || bytes <= 3 * kSample) {
    for (int64_t at = 0; at < bytes; at += kHashedAtOnce)
      pieces.push_back({p + at, std::min(kHashedAtOnce, bytes - at)});
    return;
  }
  for (const int64_t at : {int64_t{0}, (bytes - kSample) / 2, bytes - kSample}) pieces.push_back({p + at, kSample});
}

// Names, sizes and times of the files of a directory, sorted.
std::string Files(const std::string& path) {
  std::vector<std::string> lines;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) {
    struct stat s {};
    if (entry.path().extension() != ".safetensors" || ::stat(entry.path().c_str(), &s) != 0) continue;
    lines.push_back(fmt::format("{} {} {}.{:09}\n", entry.path().filename().string(), s.st_size, s.st_mtim.tv_sec,
                                s.st_mtim.tv_nsec));
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

}  // namespace

std::string WeightsFingerprint(const Checkpoint& checkpoint, ThreadPool& pool, int64_t whole_bytes) {
  std::string text;
  struct Part {
    const void* data;
    int64_t bytes;
  };
  std::vector<Part> parts;
  int64_t total = 0;
  checkpoint.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    text += fmt::format("{} {} {} {}\n", info.name, Name(w.dtype), w.rows, w.cols);
    parts.push_back({w.data, w.rows * w.cols * SizeOf(w.dtype)});
    if (w.scale) {
      const int64_t block_rows = (w.rows + kFp8Block - 1) / kFp8Block;
      parts.push_back({w.scale, block_rows * w.scale_cols() * static_cast<int64_t>(sizeof(float))});
    }
  });
  for (const Part& part : parts) total += part.bytes;
  const bool whole = total <= whole_bytes;
  std::vector<HashedPiece> pieces;
  for (const Part& part : parts) AddPieces(pieces, part.data, part.bytes, whole);
  std::vector<uint64_t> sums(pieces.size());
  pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const HashedPiece& piece = pieces[static_cast<size_t>(i)];
    sums[static_cast<size_t>(i)] = io::Checksum64({piece.data, static_cast<size_t>(piece.bytes)});
  });
  for (uint64_t sum : sums) text += fmt::format("{:016x}\n", sum);
  if (!whole) text += Files(checkpoint.path());
  return io::Hex(io::Sha256(text));
}

}  // namespace fathom::checkpoint
