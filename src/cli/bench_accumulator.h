// fathom bench --fp8-accumulator: what the 14 bits in which Hopper's tensor cores sum FP8 products cost, and that
// adding to float32 every 128 products brings it back (V3 report 3.3.2).
#pragma once

#include <cstdint>
#include <vector>

#include "core/context.h"

namespace fathom::cli {

// Largest |sum - exact| / exact over the elements of a product of uniform non-negative matrices.
struct AccumulatorRow {
  int64_t k = 0;
  int64_t interval = 0;  // products between additions to float32; 0: none
  int64_t group = 0;     // products added exactly before the 14 bits apply
  double error = 0;
};
std::vector<AccumulatorRow> MeasureAccumulator(Context& ctx);

int RunAccumulatorBench(int threads, bool json);

}  // namespace fathom::cli
