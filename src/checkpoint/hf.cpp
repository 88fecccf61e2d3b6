#include "checkpoint/hf.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace fathom::checkpoint {
namespace {

constexpr int64_t kMaxIndexBytes = 256 << 20;

std::string Join(const std::string& directory, const std::string& name) {
  return (std::filesystem::path(directory) / name).string();
}

// {"metadata": {anything}, "weight_map": {"tensor": "file", ...}}, event by event.
class IndexReader {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  SafetensorsIndex index;
  std::optional<Error> error;
  bool seen = false;

  bool key(string_t& s) {
    if (depth_ == 1) {
      in_map_ = s == "weight_map";
      if (in_map_ && seen) return Refuse("weight_map is there twice");
      seen = seen || in_map_;
    } else if (in_map_) {
      tensor_ = std::move(s);
    }
    return true;
  }
  bool start_object(size_t) {
    if (in_map_ && depth_ != 1) return Refuse("weight_map", "an object within", "names of tensors with names of files");
    return Deeper();
  }
  bool end_object() {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool start_array(size_t) {
    if (depth_ == 0) return Refuse("the index", "a list", "an object with weight_map");
    if (in_map_) return Refuse("weight_map", "a list", "names of tensors with names of files");
    return Deeper();
  }
  bool end_array() {
    --depth_;
    return true;
  }
  bool string(string_t& s) {
    if (!in_map_ || depth_ != 2) return Scalar();
    if (s.empty() || s.size() > 255 || s[0] == '.' || s.find('/') != std::string::npos ||
        s.find('\0') != std::string::npos)
      return Refuse("weight_map names a file outside the directory", s.substr(0, 80),
                    "the name of a file beside the index");
    index.weight_map.emplace_back(std::move(tensor_), std::move(s));
    return true;
  }
  bool null() { return Scalar(); }
  bool boolean(bool) { return Scalar(); }
  bool number_integer(number_integer_t) { return Scalar(); }
  bool number_unsigned(number_unsigned_t) { return Scalar(); }
  bool number_float(number_float_t, const string_t&) { return Scalar(); }
  bool binary(binary_t&) { return Scalar(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    error = Error("the index is not valid JSON", fmt::format("a fault at byte {}", position));
    return false;
  }

 private:
  bool Scalar() {
    if (depth_ == 0) return Refuse("the index", "a single value", "an object with weight_map");
    return !in_map_ || Refuse("weight_map", "a value that is no file name", "names of tensors with names of files");
  }
  bool Deeper() {
    constexpr int kMaxDepth = 16;
    return ++depth_ <= kMaxDepth || Refuse("the index is nested too deeply");
  }
  bool Refuse(std::string what, std::string got = "", std::string expected = "") {
    error = Error(std::move(what), std::move(got), std::move(expected));
    return false;
  }

  int depth_ = 0;
  bool in_map_ = false;
  std::string tensor_;
};

Error In(const std::string& path, const Error& e) {
  return Error(path + ": " + e.summary(), e.got(), e.expected(), e.hint());
}

}  // namespace

Result<SafetensorsIndex> ParseIndex(std::string_view text) {
  IndexReader reader;
  const bool ok = nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  if (reader.error) return *reader.error;
  if (!ok) return Error("the index is not valid JSON");
  if (!reader.seen) return Error("the index has no weight_map", "", "an object of tensor names with file names");
  std::vector<std::string_view> names;
  for (const auto& [tensor, file] : reader.index.weight_map) names.push_back(tensor);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Error(fmt::format("weight_map names {} twice", twice->substr(0, 200)));
  return std::move(reader.index);
}

bool IsHfDirectory(const std::string& directory) {
  std::error_code ignored;
  return std::filesystem::exists(Join(directory, kSingleFile), ignored) ||
         std::filesystem::exists(Join(directory, kIndexFile), ignored);
}

HfSource::HfSource(const std::string& directory, Audit& audit) {
  const auto open = [&](const std::string& name) -> io::SafetensorsFile& {
    files_.push_back(std::make_unique<io::SafetensorsFile>(io::SafetensorsFile::Open(Join(directory, name)).Value()));
    audit.files.push_back(files_.back()->path());
    return *files_.back();
  };
  const std::string index_path = Join(directory, kIndexFile);
  std::error_code ignored;
  if (std::filesystem::exists(Join(directory, kSingleFile), ignored)) {
    if (std::filesystem::exists(index_path, ignored))
      audit.warnings.push_back(
          fmt::format("{} and {} are both there: the single file is read", kSingleFile, kIndexFile));
    const io::SafetensorsFile& file = open(kSingleFile);
    for (const io::SafetensorsEntry& e : file.entries()) table_.Add(file, e);
    return;
  }
  const std::string text = io::ReadFile(index_path, kMaxIndexBytes).Value();
  const Result<SafetensorsIndex> index = ParseIndex(text);
  if (!index) throw In(index_path, index.error());

  std::vector<std::string> names;
  for (const auto& [tensor, file] : index.Value().weight_map) names.push_back(file);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string absent;
  int absent_count = 0;
  for (const std::string& name : names) {
    if (std::filesystem::exists(Join(directory, name), ignored)) continue;
    if (++absent_count <= 5) absent += (absent.empty() ? "" : ", ") + name;
  }
  if (absent_count > 0) {
    throw Error(fmt::format("{} names {} that {} not there", index_path,
                            absent_count == 1 ? "a file" : fmt::format("{} files", absent_count),
                            absent_count == 1 ? "is" : "are"),
                absent + (absent_count > 5 ? ", ..." : ""), fmt::format("all {} files of the index", names.size()),
                "the download is incomplete");
  }
  std::unordered_map<std::string_view, const io::SafetensorsFile*> by_name;
  for (const std::string& name : names) by_name.emplace(name, &open(name));
  for (const auto& [tensor, name] : index.Value().weight_map) {
    const io::SafetensorsFile& file = *by_name[name];
    const io::SafetensorsEntry* entry = file.Find(tensor);
    if (!entry) {
      audit.Add(Fault::kIndex, tensor, "not in " + name + ", where the index has it", "a tensor of that file");
    } else {
      table_.Add(file, *entry);
    }
  }
  for (const auto& file : files_) {
    for (const io::SafetensorsEntry& e : file->entries()) {
      const TensorTable::Item* item = table_.Find(e.name);
      if (!item || item->entry != &e)
        audit.Add(Fault::kIndex, e.name,
                  fmt::format("in {}, where the index does not have it",
                              std::filesystem::path(file->path()).filename().string()));
    }
  }
}

std::optional<TensorView> HfSource::Take(const std::string& name, bool headers_only, Audit& audit) {
  TensorTable::Item* item = table_.Find(name);
  if (!item) return std::nullopt;
  item->taken = true;
  return ViewOrCopy(*item, headers_only, owned_, audit);
}

}  // namespace fathom::checkpoint
