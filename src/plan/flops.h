// The arithmetic of a token, by kind, in operations (a multiply-add is two).
//
// Attention is causal: a token of a sequence of `length` sees (length + 1) / 2 others on average. What is counted as
// the model's own is what MFU counts: forward once, backward twice of it; what the backward pass makes again is apart.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "model/transformer.h"

namespace fathom::plan {

inline double D(int64_t n) { return static_cast<double>(n); }  // counts in products that pass 2^63

// Parameters of a layer, by what becomes of them.
struct LayerSize {
  int64_t attention = 0;     // projections of the latent attention
  int64_t up = 0;            // of these q_b_proj and kv_b_proj, which "paper" recomputation runs again
  int64_t feed_forward = 0;  // dense, or shared experts
  int64_t expert = 0;        // one routed expert
  int64_t experts = 0;       // how many there are
  int64_t join = 0;          // eh_proj of an MTP module
  int64_t gate = 0;          // router
  int64_t norms = 0;
  int64_t bias = 0;  // of the router: not learned by gradient
  int64_t Total() const { return attention + feed_forward + expert * experts + join + gate + norms + bias; }
};

// Layer 0 .. num_hidden_layers + num_nextn_predict_layers - 1: MTP modules come last, without embedding and head.
LayerSize SizeOfLayer(const model::ModelConfig& config, int64_t layer);
int64_t Layers(const model::ModelConfig& config);  // MTP modules included

// Forward, a token.
struct Work {
  double linear = 0;     // products with weights
  double attention = 0;  // scores and weighted values
  double again = 0;      // products that the backward pass makes again
  double scores = 0;     // the scores alone, which attention's backward pass always makes again

  double Forward() const { return linear + attention; }
  double BackwardInput() const { return linear + 2 * attention; }  // gradients of activations
  double BackwardWeight() const { return linear; }
  double Train() const { return 3 * (linear + attention); }  // what MFU counts
  double Recomputed() const { return again + scores; }
  void Add(const Work& o) {
    linear += o.linear;
    attention += o.attention;
    again += o.again;
    scores += o.scores;
  }
};

Work WorkOfLayer(const model::ModelConfig& config, int64_t layer, int64_t length, model::Recompute recompute);
// The output head, once for the main model and once for each MTP module.
Work WorkOfHeads(const model::ModelConfig& config);
// A token of the model; `mtp`: its MTP modules and their heads too.
Work WorkOfModel(const model::ModelConfig& config, int64_t length, model::Recompute recompute, bool mtp = true);

}  // namespace fathom::plan
