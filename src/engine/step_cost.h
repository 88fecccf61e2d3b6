// What a step must read and compute at least: the bounds that measured speeds are held against.
//
// Bytes: every weight that the step uses, once, however many sequences share it; of the routed experts those that its
// tokens chose; the head if logits are wanted; the latent rows that its queries see. Operations: a multiply-add is two.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/peak.h"
#include "model/config.h"
#include "model/env.h"
#include "model/params.h"

namespace fathom::engine {

// The experts of each layer that the steps seen by its probe chose, and by how many tokens.
class ExpertUse {
 public:
  explicit ExpertUse(const model::ModelConfig& config);
  void Clear();
  int64_t Tokens(int64_t layer, int64_t expert) const;
  int64_t Distinct(int64_t layer) const;
  double DistinctPerLayer() const;                      // mean over the layers with experts; 0 without any
  const model::Probe& probe() const { return probe_; }  // hand it to Env; lives as long as this object
  ExpertUse(const ExpertUse&) = delete;
  ExpertUse& operator=(const ExpertUse&) = delete;

 private:
  int64_t experts_;
  std::vector<bool> is_moe_;
  std::vector<std::vector<int64_t>> tokens_;  // [layer][expert]
  model::Probe probe_;
};

// Where the weights of the main model lie.
class WeightMap {
 public:
  WeightMap(const model::ModelConfig& config, const model::ModelParams& params);

  // Weights of the body that a step of these tokens reads: one row of the embedding a token, the chosen experts, all
  // else.
  std::vector<kernels::ByteSpan> Body(const ExpertUse& use, std::span<const int32_t> ids) const;
  std::vector<kernels::ByteSpan> Head() const;
  // The least time of the products of these weights with `rows` rows (of a routed expert those that chose it): of each
  // matrix the longer of reading it and of multiplying.
  double BodySeconds(const ExpertUse& use, int64_t rows, double bytes_per_s, double ops_per_s) const;
  double HeadSeconds(int64_t rows, double bytes_per_s, double ops_per_s) const;
  std::vector<kernels::ByteSpan> All() const;  // embedding included

 private:
  struct Item {
    kernels::ByteSpan span;
    int64_t values = 0;               // that rows are multiplied with
    int64_t layer = -1, expert = -1;  // of routed experts
  };
  const model::ModelParams& params_;
  std::vector<Item> body_;
};

// Rows [0, length) of every cache, neighbouring blocks joined.
std::vector<kernels::ByteSpan> CacheSpans(std::span<const kernels::LatentCache> caches, int64_t length);

// Attention of one token over `length` latent rows in the absorbed form, all layers: scores over r + dr values, sums of
// r.
double AbsorbedAttentionOps(const model::ModelConfig& config, int64_t length);

// A prompt of `tokens` from position 0: two operations for each active weight of the body and each token, causal
// attention in the full form. The last layer makes latent rows of all tokens, all else for the last position only, as
// the head.
double PrefillOps(const model::ModelConfig& config, int64_t tokens);

}  // namespace fathom::engine
