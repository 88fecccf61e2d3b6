// What the problems of fathom-bench are made of: parsed sizes, random data, copies that no cache holds together.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "kernels/ops.h"

namespace fathom::bench {

// "t512l512h8:bf16" as sizes by letters and words.
struct Problem {
  std::map<std::string, int64_t> sizes;
  std::vector<std::string> words;

  int64_t at(const std::string& key) const { return sizes.at(key); }
  double d(const std::string& key) const { return static_cast<double>(sizes.at(key)); }
};

// Sizes that `defaults` names with 0 have to be given. Throws Error with the example.
Problem Parse(const std::string& op, const std::string& text, const std::string& example,
              std::map<std::string, int64_t> defaults);

// The first word of a problem: f32 or bf16, which is the default.
kernels::Compute ComputeOf(const std::string& op, const Problem& p);
DType CacheType(kernels::Compute compute);

// Values of a normal distribution of some width, repeated.
std::shared_ptr<Buffer> Random(int64_t count, DType dtype, float width);
std::shared_ptr<Buffer> RandomF32(int64_t count);
std::shared_ptr<Buffer> Ids(int64_t count, int64_t below);

// Copies of `bytes` that come to `cold_bytes` together, at most 1024.
int64_t CopiesOf(double bytes, double cold_bytes);

// Runs an op on a planner for its scratch, and returns an arena of that size.
template <class F>
std::shared_ptr<Arena> Planned(const F& op) {
  Arena planner = Arena::Planner();
  op(planner);
  return std::make_shared<Arena>(std::max<int64_t>(planner.HighWater(), 64));
}

// Latent caches of one buffer, blocks of 64 rows.
struct Caches {
  std::shared_ptr<Buffer> data;
  std::vector<std::byte*> blocks;
  std::vector<kernels::LatentCache> caches;
  int64_t bytes_each = 0;
};

std::shared_ptr<Caches> MakeCaches(int64_t count, int64_t rows, int64_t width, DType dtype, int64_t rope = 0);

}  // namespace fathom::bench
