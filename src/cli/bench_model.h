// Measuring a model's decode and prefill, each case beside its bound from peaks measured between its own steps.
//
// Decode: a batch of sequences, each with `context` positions of random rows in its cache and random tokens, one step
// at a time: forward, final norm, head. The same position is written again by each step. Bound = (weights that the
// batch reads, each once, + cache rows) / read bandwidth + attention operations / arithmetic peak. The bandwidth is
// that of reading the very same bytes, pass and step in turn. Several sequences also have a roofline, which the bound
// leaves out: a matrix takes the longer of reading it and of multiplying. Prefill: a prompt of random tokens in one
// step, head for the last position only. Bound = the longer of operations / peak and bytes / bandwidth.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/peak.h"
#include "model/transformer.h"

namespace fathom::cli {

struct BenchPlan {
  std::vector<int64_t> batches = {1, 8, 16};
  std::vector<int64_t> contexts = {0, 4096, 16384};
  std::vector<int64_t> prefills = {512, 2048};
  double seconds = 150;  // of measuring; cases that would not fit are left out
};

struct DecodeRow {
  int64_t batch = 0, context = 0, steps = 0;
  std::string skipped;                                     // why, if it was not measured
  double seconds = 0, body_seconds = 0, head_seconds = 0;  // medians of a step
  double bound_seconds = 0, body_bound_seconds = 0, head_bound_seconds = 0;
  double roofline_seconds = 0;   // of each matrix the longer of bytes and operations, and of the attention
  double experts_per_layer = 0;  // distinct, mean over layers and steps
  double body_bytes = 0, head_bytes = 0, cache_bytes = 0;  // of a step, mean
  kernels::Peaks peaks;
  double tokens_per_s() const { return static_cast<double>(batch) / seconds; }
  double bound_tokens_per_s() const { return static_cast<double>(batch) / bound_seconds; }
  double fraction() const { return bound_seconds / seconds; }
  double roofline_tokens_per_s() const { return static_cast<double>(batch) / roofline_seconds; }
  double fraction_of_roofline() const { return roofline_seconds / seconds; }
};

struct PrefillRow {
  int64_t tokens = 0, steps = 0;
  std::string skipped;
  double seconds = 0, bound_seconds = 0;
  double operations = 0, bytes = 0;
  double experts_per_layer = 0;
  double peak_tera_per_s = 0;  // of the unit that the bound is of
  kernels::Peaks peaks;
  double tokens_per_s() const { return static_cast<double>(tokens) / seconds; }
  double bound_tokens_per_s() const { return static_cast<double>(tokens) / bound_seconds; }
  double fraction_of_bound() const { return bound_seconds / seconds; }
  double fraction_of_peak() const { return operations / seconds / (peak_tera_per_s * 1e12); }
};

struct MemoryFigures {
  int64_t program = 0, weights = 0, cache = 0, arena = 0;  // the plan: resident before, weights, rows written, scratch
  int64_t peak = 0;                                        // what the system saw
  int64_t arena_overflows = 0;
  int64_t planned() const { return program + weights + cache + arena; }
};

struct BenchResult {
  kernels::Peaks peaks;  // bandwidth: of the bytes that one token reads; arithmetic: medians over the run
  std::vector<DecodeRow> decode;
  std::vector<PrefillRow> prefill;
  MemoryFigures memory;
  double seconds = 0;
};

struct BenchModel {
  Context& ctx;
  const model::Transformer& transformer;
  const model::ModelParams& params;
  model::Compute compute;
  DType cache_dtype;
  int64_t program_bytes;  // resident before weights were touched
};

// Positions that the caches and the angles must hold for a plan.
int64_t PositionsOf(const BenchPlan& plan);

// Throws Error if weights and caches do not fit into memory. on_case is told what is measured next.
BenchResult RunBench(const BenchModel& model, const BenchPlan& plan,
                     const std::function<void(const std::string&)>& on_case);

}  // namespace fathom::cli
