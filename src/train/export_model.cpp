#include "train/export_model.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

namespace fathom::train {

void ExportModel(const ParamStore& store, const model::ModelConfig& config, const std::string& out_dir,
                 const checkpoint::WriteOptions& options, bool use_ema, ThreadPool& pool) {
  std::unordered_map<std::string_view, const StoredTensor*> tensors;
  for (const StoredTensor& t : store.tensors()) tensors.emplace(t.name, &t);
  const auto values = [&](const model::ParamInfo& info, int64_t first_row, int64_t rows, int64_t cols, float* out) {
    const StoredTensor& t = *tensors.at(info.name);
    const float* from = use_ema && t.ema ? t.ema : t.master;
    std::copy_n(from + first_row * cols, rows * cols, out);
  };
  checkpoint::WriteCheckpoint(config, out_dir, options, values, pool);
}

}  // namespace fathom::train
