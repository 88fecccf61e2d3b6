#include "cli/corpus_files.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 1 << 18, kLongestRow = size_t{1} << 30;
constexpr const char* kFormats = "files that end in .txt or .jsonl, also with .gz behind";

enum class Format { kText, kJsonl, kOther };
Format FormatOf(const std::string& path) {
  std::string_view name = path;
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name.ends_with(".jsonl") ? Format::kJsonl : name.ends_with(".txt") ? Format::kText : Format::kOther;
}

// A file's bytes in blocks, gunzipped where it is gzipped.
class Blocks {
 public:
  explicit Blocks(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb"), gzclose) {
    if (!file_) throw io::FileError("cannot open " + path, path, errno);
    gzbuffer(file_.get(), kBlock);
  }
  std::string_view Next() {  // empty at the end
    errno = 0;
    const int n = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
    int status = Z_OK;
    const char* said = gzerror(file_.get(), &status);
    if (status == Z_ERRNO) throw io::FileError("cannot read " + path_, path_, errno);
    if (n < 0 || status != Z_OK) throw Error("cannot gunzip " + path_, said, "", "the file is damaged or cut off");
    return {buffer_.data(), static_cast<size_t>(n)};
  }
  int64_t Offset() const { return gzoffset(file_.get()); }

 private:
  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
  std::string buffer_ = std::string(kBlock, '\0');
};

void CheckIsText(const std::string& path, std::string_view block) {
  const size_t at = block.find('\0');
  if (at == std::string_view::npos) return;
  throw Error("a file of the corpus is binary", fmt::format("{}: a zero byte near its byte {}", path, at),
              "text in UTF-8", "convert UTF-16 to UTF-8, and leave other files out");
}

void AddRow(const std::string& path, int64_t number, std::string_view row, DocumentSink& sink) {
  if (row.find_first_not_of(" \t\r") == std::string_view::npos) return;
  const nlohmann::json json = nlohmann::json::parse(row, nullptr, /*allow_exceptions=*/false);
  const auto it = json.is_object() ? json.find("text") : json.end();
  if (!json.is_object() || it == json.end() || !it->is_string()) {
    throw Error(fmt::format("{}, line {}: {}", path, number, json.is_discarded() ? "not valid JSON" : "no \"text\""),
                std::string(row.substr(0, 120)), "{\"text\": \"...\"} in each line");
  }
  sink.Append(it->get_ref<const std::string&>());
  sink.EndDocument();
}

void ReadRows(const std::string& path, std::string& pending, int64_t& number, DocumentSink& sink) {
  size_t at = 0;
  for (size_t end; (end = pending.find('\n', at)) != std::string::npos; at = end + 1) {
    AddRow(path, ++number, std::string_view(pending).substr(at, end - at), sink);
  }
  pending.erase(0, at);
  if (pending.size() > kLongestRow) {
    throw Error(fmt::format("{}, line {} is too long", path, number + 1), io::HumanBytes(pending.size()) + " so far",
                "at most 1 GiB a row");
  }
}

}  // namespace

std::vector<std::string> FindCorpusFiles(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) throw io::FileError("cannot read the corpus " + path, path, ENOENT);
    if (!fs::is_directory(status)) {
      if (FormatOf(path) == Format::kOther) throw Error("a file's format is not known", path, kFormats);
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      if (!it->is_directory() && FormatOf(it->path().string()) != Format::kOther) found.push_back(it->path().string());
    }
    if (error) throw Error("cannot read the folder " + path, error.message());
    if (found.empty()) throw Error("a folder holds no text", path, kFormats);
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

void ReadCorpus(const std::vector<std::string>& files, DocumentSink& sink, const ProgressFn& progress) {
  std::vector<int64_t> sizes;
  int64_t total = 0, done = 0;
  for (const std::string& path : files) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    total += sizes.emplace_back(error ? 0 : static_cast<int64_t>(size));
  }
  for (size_t i = 0; i < files.size(); ++i) {
    Blocks blocks(files[i]);
    const bool rows = FormatOf(files[i]) == Format::kJsonl;
    std::string pending;
    int64_t number = 0;
    for (std::string_view block; !(block = blocks.Next()).empty();) {
      CheckIsText(files[i], block);
      if (rows) {
        const bool complete = block.find('\n') != std::string_view::npos;
        pending += block;
        if (complete || pending.size() > kLongestRow) ReadRows(files[i], pending, number, sink);
      } else {
        sink.Append(block);
      }
      progress(std::min(done + blocks.Offset(), total), total);
    }
    if (rows) {
      AddRow(files[i], number + 1, pending, sink);
    } else {
      sink.EndDocument();
    }
    done += sizes[i];
  }
}

}  // namespace fathom::cli
