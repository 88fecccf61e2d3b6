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
#include "model/fp8.h"
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

// The same rows of the gradient: row i of the R is row dy_rows[i] of dy (empty: row i), weights (R,) what Combine
// multiplies it by.
struct DispatchedGradient {
  const float* dy = nullptr;
  std::span<const int32_t> dy_rows;
  const float* weights = nullptr;
};

class ExpertExchange {
 public:
  virtual ~ExpertExchange() = default;
  // Brings each token of x (T, d) to its experts. What is copied lies in env.arena.
  virtual Dispatched Dispatch(const Env& env, const Routing& routing, const float* x, int64_t d) = 0;
  // y (T, d) += sum over k of weight * expert_out[row_of], in the order of k.
  virtual void Combine(const Env& env, const Routing& routing, const Dispatched& sent, const float* expert_out,
                       float* y, int64_t d) = 0;
  // Brings each token of dy (T, d), the gradient of Combine's y, to its experts. What is copied lies in env.arena.
  virtual DispatchedGradient CombineBackward(const Env& env, const Routing& routing, const Dispatched& sent,
                                             const float* dy, int64_t d) = 0;
  // dx (T, d) += the rows (R, d) of each token; dweights (T, K) = the values of row_weights (R,) of its experts.
  virtual void DispatchBackward(const Env& env, const Routing& routing, const Dispatched& sent, const float* rows,
                                const float* row_weights, float* dx, float* dweights, int64_t d) = 0;
};

class LocalExchange : public ExpertExchange {
 public:
  explicit LocalExchange(int64_t experts) : experts_(experts) {}
  Dispatched Dispatch(const Env& env, const Routing& routing, const float* x, int64_t d) override;
  void Combine(const Env& env, const Routing& routing, const Dispatched& sent, const float* expert_out, float* y,
               int64_t d) override;
  DispatchedGradient CombineBackward(const Env& env, const Routing& routing, const Dispatched& sent, const float* dy,
                                     int64_t d) override;
  void DispatchBackward(const Env& env, const Routing& routing, const Dispatched& sent, const float* rows,
                        const float* row_weights, float* dx, float* dweights, int64_t d) override;

 private:
  int64_t experts_;
};

// Experts and weights of x (T, d), storage from env.Keep; the router's product is float32 whatever env.compute is.
// logits (T, E) or null: scratch.
Routing Route(const Env& env, const ModelConfig& config, const MoeParams& params, const float* x, int64_t tokens,
              float* logits = nullptr);

// y (R, d) = each expert's feed-forward of its rows.
void RunExperts(const Env& env, const std::vector<MlpParams>& experts, const Dispatched& sent, float* y, int64_t d);

// gate(x) and up(x) of all rows of all groups, one after the other: kept for backward, which makes SwiGLU's output
// again (report 3.2.3). Backward overwrites them with their gradients. With kFp8 they are null, and the rows of one
// width after the other are kept as E4M3 (report 3.3.3).
struct GatedSaved {
  float* gate = nullptr;
  float* up = nullptr;
  std::vector<PackedRows> packed_gate = {}, packed_up = {};
};

// y (T, d) = down(silu(gate(x)) * up(x)).
void MlpForward(const Env& env, const MlpParams& params, const float* x, int64_t tokens, float* y,
                GatedSaved* saved = nullptr);
// dx (T, d) of dy (T, d), for the same x; gradients of the parameters are added to `grads`.
void MlpBackward(const Env& env, const MlpParams& params, const MlpParams& grads, const GatedSaved& saved,
                 const float* x, const float* dy, int64_t tokens, float* dx);

struct MoeSaved {
  const float* logits = nullptr;  // (T, E) of the router
  Routing routing;
  Dispatched sent;                       // without x
  PackedRows payload;                    // kFp8: what the experts saw of x, E4M3 with power-of-two scales
  GatedSaved gated;                      // routed experts' rows, then the shared experts' (T)
  const float* balance = nullptr;        // (S, E) gradient by the normalised scores of each sequence's tokens, or null
  const int32_t* sequence_of = nullptr;  // (T,)
};

// y (T, d) = shared experts + routed experts of x (T, d), x already normalised. `layer` (its cache's number) names what
// the probe sees. In training the experts' loads and the balance loss are added to env.training, and `saved` is filled.
void MoeForward(const Env& env, const ModelConfig& config, const MoeParams& params, int64_t layer,
                ExpertExchange& exchange, const float* x, const Step& step, float* y, MoeSaved* saved = nullptr);

// dx (T, d) of dy (T, d), for the same x: through the experts, their weights and the balance loss; nothing reaches the
// selection bias.
void MoeBackward(const Env& env, const ModelConfig& config, const MoeParams& params, const MoeParams& grads,
                 ExpertExchange& exchange, const MoeSaved& saved, const float* x, const float* dy, int64_t tokens,
                 float* dx);

}  // namespace fathom::model
