// One optimiser step: global norm, clipping, AdamW with decay on matrices, and the router bias of auxiliary-loss-free
// balancing (V3 report 2.1.2, 4.2).
#pragma once

#include <span>
#include <vector>

#include "train/param_store.h"

namespace fathom::train {

struct AdamwOptions {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
  double clip = 1.0;       // of the global norm; 0: off
  double ema_decay = 0.0;  // of the averaged weights
  int64_t step = 1;        // counted from 1, for the bias corrections
};

// L2 norm of all gradients, float32 squares summed in double.
double GradientNorm(Context& ctx, const ParamStore& store);

// Updates masters, moments, copies and averages, and zeroes the gradients. `norm`: GradientNorm.
void AdamwStep(Context& ctx, ParamStore& store, const AdamwOptions& options, double norm);

// Zeroes the gradients of a step that is not to be taken.
void DropGradients(Context& ctx, ParamStore& store);

// b += gamma sign(mean load - load), load (cache layers, E) being the whole batch's; layers without routing are empty.
void UpdateRouterBias(ParamStore& store, std::span<const std::vector<int64_t>> load, double gamma);

}  // namespace fathom::train
