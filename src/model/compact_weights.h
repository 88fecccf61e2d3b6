// The matrices of a BF16 model once more in 12 bits a value (kernels::CompactMatrix), which products read:
// three quarters of the bytes that a decoded token waits for, and the same values.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor.h"
#include "model/params.h"

namespace fathom::model {

class CompactWeights {
 public:
  // What they would take beside the weights; 0 where they would not be read.
  static int64_t Bytes(Isa isa, kernels::Compute compute, const ModelConfig& config, const ModelParams& params);

  // Of `params`, whose data must outlive it. Matrices whose values do not fit the form are left out.
  // progress(bytes done, of all) from any thread, one at a time.
  CompactWeights(Context& ctx, const ModelConfig& config, const ModelParams& params,
                 const std::function<void(int64_t done, int64_t total)>& progress = {});
  CompactWeights(const CompactWeights&) = delete;
  CompactWeights& operator=(const CompactWeights&) = delete;

  // The same, with Weight::compact and AttentionParams::turned_keys.
  const ModelParams& params() const { return params_; }
  const Buffer& storage() const { return storage_; }

 private:
  static bool TurnKeys(const ModelConfig& config, const AttentionParams& params, uint8_t* memory,
                       kernels::CompactMatrix* to);

  ModelParams params_;
  Buffer storage_;
  std::vector<kernels::CompactMatrix> matrices_;
};

}  // namespace fathom::model
