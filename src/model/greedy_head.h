// The head where only the likeliest token is wanted. Upper bounds of all logits from 8-bit codes of lm_head, which are
// half of its bytes in BF16 and half of its arithmetic, say which tokens may be the likeliest; only their logits are
// computed. The token is certainly the one that all logits would give (docs/greedy-head.md).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"
#include "model/env.h"

namespace fathom::model {

class GreedyHead {
 public:
  // Of `head` (V, d), which must outlive it. Null where it would be of no use: bounds are not faster than logits on
  // this machine, or FP8 weights.
  static std::unique_ptr<GreedyHead> Make(const Context& ctx, const kernels::Weight& head);

  // Makes the codes; otherwise Logits does when it has been asked for kRowsBefore rows, whose logits were all computed:
  // codes of 132M weights take as long as they save in some 50 rows. Of weights that are not finite there are none.
  void Prepare(Context& ctx);
  static constexpr int64_t kRowsBefore = 64;

  // logits (rows, V) of normed (rows, d). Of each row the largest, and each that equals it, are what Linear gives for
  // the row alone; the others are smaller, and at least what it gives. Where bounds are given up: all logits.
  void Logits(const Env& env, const float* normed, int64_t rows, float* logits);

  int64_t bytes() const { return storage_.bytes(); }  // 0: no codes
  // Rows whose bounds left more than kMostCandidates: all their logits were computed. Where these are many, bounds are
  // not asked any more.
  int64_t loose_rows() const { return loose_; }
  static constexpr int64_t kMostCandidates = 256;

 private:
  explicit GreedyHead(const kernels::Weight& head) : head_(head), codes_{.rows = head.rows, .cols = head.cols} {}
  bool Pays() const;

  kernels::Weight head_;
  Buffer storage_;
  kernels::CodedMatrix codes_;
  bool prepared_ = false;
  int64_t asked_ = 0, rows_ = 0, loose_ = 0;
};

}  // namespace fathom::model
