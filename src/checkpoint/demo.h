// The shards of DeepSeek's inference demo: model{i}-mp{n}.safetensors, one for each of n ranks (convert.py of
// deepseek-ai/DeepSeek-V3). Projections are cut along one dimension, their scales with them; routed experts are whole,
// rank i holding [i E / n, (i + 1) E / n); the rest is whole on every rank. Read here as one model in the published
// names: with n = 1 in place, else what was cut is joined in memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/bind.h"

namespace fathom::checkpoint {

enum class Cut : uint8_t { kWhole, kRows, kColumns };

struct DemoName {
  std::string name;
  Cut cut = Cut::kWhole;
};
// The demo's name of a published one, and the dimension that the demo cuts.
DemoName ToDemoName(const std::string& hf_name);

bool IsDemoDirectory(const std::string& directory);

class DemoSource : public TensorSource {
 public:
  DemoSource(const std::string& directory, int64_t n_routed_experts, Audit& audit);

  bool Has(const std::string& name) const override;
  std::optional<TensorView> Take(const std::string& name, bool headers_only, Audit& audit) override;
  std::vector<std::string> NotTaken() const override;

  std::vector<std::unique_ptr<io::SafetensorsFile>>& files() { return files_; }
  std::vector<Buffer>& owned() { return owned_; }

 private:
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::vector<Buffer> owned_;
  std::vector<TensorTable> ranks_;
  int64_t n_routed_experts_;
};

}  // namespace fathom::checkpoint
