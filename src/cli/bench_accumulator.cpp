#include "cli/bench_accumulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/terminal.h"
#include "core/rng.h"
#include "kernels/train_ops.h"

namespace fathom::cli {
namespace {

constexpr int64_t kRows = 32;
constexpr int64_t kShownK = 4096;
constexpr int64_t kGroup = kernels::kTensorCoreGroup;

std::vector<uint8_t> Uniform(int64_t n, uint64_t stream) {
  Rng rng(1, stream);
  std::vector<uint8_t> codes(static_cast<size_t>(n));
  for (uint8_t& c : codes) c = F32ToE4M3(static_cast<float>(rng.NextDouble()) * kE4M3Max);
  return codes;
}

}  // namespace

std::vector<AccumulatorRow> MeasureAccumulator(Context& ctx) {
  std::vector<AccumulatorRow> rows;
  for (int64_t k = 512; k <= 16384; k *= 2) {
    const std::vector<uint8_t> x = Uniform(kRows * k, 0), w = Uniform(kRows * k, 1);
    std::vector<double> exact;
    for (int64_t i = 0; i < kRows * kRows; ++i) {
      double sum = 0;  // exact: products of 8 bits, some ten powers of two apart, 2^14 of them
      for (int64_t j = 0; j < k; ++j) {
        sum += static_cast<double>(E4M3ToF32(x[static_cast<size_t>(i / kRows * k + j)])) *
               E4M3ToF32(w[static_cast<size_t>(i % kRows * k + j)]);
      }
      exact.push_back(sum);
    }
    const auto measure = [&](int64_t interval, int64_t group) {
      std::vector<float> y(exact.size());
      kernels::Fp8TensorCore(ctx, {.y = y.data(),
                                   .x = x.data(),
                                   .w = w.data(),
                                   .m = kRows,
                                   .n = kRows,
                                   .k = k,
                                   .interval = interval,
                                   .group = group});
      AccumulatorRow row{k, interval, group, 0};
      for (size_t i = 0; i < y.size(); ++i) row.error = std::max(row.error, std::fabs(y[i] - exact[i]) / exact[i]);
      rows.push_back(row);
    };
    for (const int64_t interval : {0, 32, 128}) measure(interval, kGroup);
    if (k != kShownK) continue;
    for (const int64_t group : {1, 32}) measure(0, group);
  }
  return rows;
}

int RunAccumulatorBench(int threads, bool json) {
  ThreadPool pool(threads > 0 ? threads : DefaultThreadCount());
  Context ctx{.pool = pool, .isa = Isa::kReference, .verbose = {}};
  const std::vector<AccumulatorRow> rows = MeasureAccumulator(ctx);
  if (json) {
    nlohmann::ordered_json j = nlohmann::ordered_json::array();
    for (const AccumulatorRow& r : rows) {
      j.push_back({{"k", r.k}, {"interval", r.interval}, {"group", r.group}, {"max_relative_error", r.error}});
    }
    Print(nlohmann::ordered_json{{"bits", kernels::kTensorCoreBits}, {"fp8_accumulator", j}}.dump(2) + "\n");
    return 0;
  }
  std::string t = fmt::format(
      "Largest relative error of an FP8 product of uniform non-negative matrices, summed in {} bits\n"
      "(Hopper, emulated), with the sum added to float32 after so many products\n\n{:>8} {:>10} {:>10} {:>10}\n",
      kernels::kTensorCoreBits, "K", "never", "32", "128");
  for (const AccumulatorRow& r : rows) {
    if (r.group != kGroup) continue;
    if (r.interval == 0) t += fmt::format("{:>8}", r.k);
    t += fmt::format(" {:>8.3f} %", 100 * r.error);
    if (r.interval == 128) t += "\n";
  }
  t += fmt::format(
      "\n{} products are added exactly before the bits are cut, which gives the report's figure (3.3.2: nearly 2 %\n"
      "at K = {}); it does not say how many they are. Never added to float32, K = {}:\n",
      kGroup, kShownK, kShownK);
  for (const AccumulatorRow& r : rows) {
    if (r.group != kGroup) t += fmt::format("  {:>2} at a time {:>8.3f} %\n", r.group, 100 * r.error);
  }
  Print(t);
  return 0;
}

}  // namespace fathom::cli
