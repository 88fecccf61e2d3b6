// What the tests of training's operations share: random values, instruction sets of this machine, slopes.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "core/rng.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {

inline constexpr double kU = 0x1p-24;  // half an ulp of float32, relative

inline std::vector<float> Random(int64_t n, uint64_t stream, double scale = 1) {
  Rng rng(23, stream);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = static_cast<float>(scale * rng.NextNormal());
  return v;
}
inline std::vector<double> Doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// Of this machine; with the reference in front.
inline std::vector<Isa> IsasAndReference() {
  std::vector<Isa> isas;
  for (int i = 0; i < kIsaCount; ++i) {
    if (MachineHas(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}
inline std::vector<Isa> VectorIsas() {
  std::vector<Isa> isas = IsasAndReference();
  isas.erase(isas.begin());
  return isas;
}

// Calls f(ctx, arena) on `threads` threads, after a plan; the plan must hold.
template <class F>
void RunPlanned(Isa isa, int threads, const F& f) {
  ThreadPool pool(threads);
  Context ctx{pool, isa, {}};
  Arena plan = Arena::Planner();
  f(ctx, plan);
  Arena arena(plan.HighWater());
  f(ctx, arena);
  EXPECT_EQ(arena.HighWater(), plan.HighWater());
}

// Central differences of f at x against `gradient`. The step of 2^-16 leaves h^2 / 6 = 4e-11 of the third derivative
// and 2^-52 |f| / h = 2e-11 |f| of rounding: 1e-8 (1 + |f|) covers both with room for third derivatives of some tens.
// `relative` is what the gradient itself may be off, of its largest value.
inline void ExpectSlopes(const std::function<double(const std::vector<double>&)>& f, std::vector<double> x,
                         const std::vector<float>& gradient, double relative, const char* what) {
  ASSERT_EQ(x.size(), gradient.size()) << what;
  constexpr double kStep = 0x1p-16;
  double largest = 0;
  for (float g : gradient) largest = std::max(largest, std::abs(static_cast<double>(g)));
  const double tolerance = 1e-8 * (1 + std::abs(f(x))) + relative * largest;
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + kStep;
    const double above = f(x);
    x[i] = at - kStep;
    const double below = f(x);
    x[i] = at;
    ASSERT_NEAR(gradient[i], (above - below) / (2 * kStep), tolerance) << what << " at " << i;
  }
}

}  // namespace fathom::kernels
