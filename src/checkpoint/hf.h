// A directory in the published (Hugging Face) layout: config.json beside model.safetensors, or beside
// model.safetensors.index.json and the files that it names. No other file is taken for weights.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/bind.h"

namespace fathom::checkpoint {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

// weight_map of an index: tensor name to file name, in the order of the file.
struct SafetensorsIndex {
  std::vector<std::pair<std::string, std::string>> weight_map;
};
Result<SafetensorsIndex> ParseIndex(std::string_view json);

// Whether `directory` holds weights in this layout.
bool IsHfDirectory(const std::string& directory);

// Opens all files of the directory; throws Error if one is absent or damaged. Tensors on which index and files disagree
// go to `audit`.
class HfSource : public TensorSource {
 public:
  HfSource(const std::string& directory, Audit& audit);

  bool Has(const std::string& name) const override { return table_.Find(name) != nullptr; }
  std::optional<TensorView> Take(const std::string& name, bool headers_only, Audit& audit) override;
  std::vector<std::string> NotTaken() const override { return table_.NotTaken(); }

  std::vector<std::unique_ptr<io::SafetensorsFile>>& files() { return files_; }
  std::vector<Buffer>& owned() { return owned_; }

 private:
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::vector<Buffer> owned_;
  TensorTable table_;
};

}  // namespace fathom::checkpoint
