// DeepSeekMoE (V3 report 2.1.2, eq. 12-16): shared experts plus routed experts chosen by the gate, and the plain
// feed-forward of the dense layers. The phases are callable apart: Route, dispatch, RunExperts, combine.
//
// ExpertExchange is the seam to expert parallelism: the model hands over tokens and their experts and gets back rows
// grouped by the experts that live here, and later the other way round. LocalExchange keeps all on this device. The
// model never sees ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/env.h"
#include "model/params.h"

namespace fathom::model {

// The experts of each token of a step.
struct Routing {
  int32_t* ids = nullptr;    // (T, K), descending selection score
  float* weights = nullptr;  // (T, K), normalised and scaled
  int64_t tokens = 0, top_k = 0;
};

// R rows grouped by local expert: expert e has rows [offsets[e], offsets[e + 1]).
struct Dispatched {
  const float* x = nullptr;
  std::vector<int32_t> x_rows;   // (R,): row i of the R is row x_rows[i] of x (.., d); empty: row i
  std::vector<int64_t> offsets;  // (local experts + 1,)
  std::vector<int32_t> row_of;   // (T, K): the row of a token's k-th expert
  int64_t rows() const { return offsets.back(); }
};

class ExpertExchange {
 public:
  virtual ~ExpertExchange() = default;
  // Brings each token of x (T, d) to its experts. What is copied lies in env.arena.
  virtual Dispatched Dispatch(const Env& env, const Routing& routing, const float* x, int64_t d) = 0;
  // y (T, d) += sum over k of weight * expert_out[row_of], in the order of k.
  virtual void Combine(const Env& env, const Routing& routing, const Dispatched& sent, const float* expert_out,
                       float* y, int64_t d) = 0;
};

class LocalExchange : public ExpertExchange {
 public:
  explicit LocalExchange(int64_t experts) : experts_(experts) {}
  Dispatched Dispatch(const Env& env, const Routing& routing, const float* x, int64_t d) override;
  void Combine(const Env& env, const Routing& routing, const Dispatched& sent, const float* expert_out, float* y,
               int64_t d) override;

 private:
  int64_t experts_;
};

// Experts and weights of x (T, d); storage from env.arena. The router's product is float32 whatever env.compute is.
Routing Route(const Env& env, const ModelConfig& config, const MoeParams& params, const float* x, int64_t tokens);

// y (R, d) = each expert's feed-forward of its rows.
void RunExperts(const Env& env, const std::vector<MlpParams>& experts, const Dispatched& sent, float* y, int64_t d);

// y (T, d) = down(silu(gate(x)) * up(x)).
void MlpForward(const Env& env, const MlpParams& params, const float* x, int64_t tokens, float* y);

// y (T, d) = shared experts + routed experts of x (T, d), x already normalised. `layer` names what the probe sees.
void MoeForward(const Env& env, const ModelConfig& config, const MoeParams& params, int64_t layer,
                ExpertExchange& exchange, const float* x, int64_t tokens, float* y);

}  // namespace fathom::model
