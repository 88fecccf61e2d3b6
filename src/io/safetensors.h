// The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
//
//   {"__metadata__": {"k": "v"}, "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
//
// Offsets count from the end of the header, each tensor's bytes are its elements in row-major order, and the tensors
// together fill the rest of the file without overlap and without holes. The header is at most 100 MB. (Rules of the
// format's own library, huggingface/safetensors.) Everything in a file is untrusted: parsing is bounded and returns
// Result.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "io/file.h"

namespace fathom::io {

inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes, from the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

// The JSON header alone. `data_bytes` is what follows it in the file. Errors begin with `path`.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, int64_t data_bytes, const std::string& path);

// The tensors of a file where they lie. Opening reads the header and nothing else.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const SafetensorsEntry* Find(std::string_view name) const;  // null: no such tensor
  // A view into the mapping: valid as long as this object, wherever it is moved to. It may lie at an address that is no
  // multiple of its element size: see IsAligned.
  TensorView View(const SafetensorsEntry& entry) const;
  bool IsAligned(const SafetensorsEntry& entry) const;
  // The view of a tensor by name; throws Error if it is absent.
  TensorView Get(std::string_view name) const;
  int64_t data_begin() const { return data_begin_; }  // offset of the first tensor's bytes in the file

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, size_t> index_;  // views of header_'s names
  int64_t data_begin_ = 0;
};

}  // namespace fathom::io
