// The tiled gradient of attention on given primitives; the table in attention_backward.cpp chooses them.
#pragma once

#include <span>

#include "kernels/flash.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {

struct BackwardKernels {
  FlashKernels flash;
  void (*step)(const BackwardTile&) = nullptr;
  void (*row_dots)(float* to, const float* a, const float* b, int64_t ld, int64_t rows, int64_t n) = nullptr;
};
void AttentionBackwardTiled(Context& ctx, Arena& scratch, std::span<const AttentionBackwardArgs> sequences,
                            const BackwardKernels& kernels);

}  // namespace fathom::kernels
