// Gradients of the matrix products. See op_cases.h for the grammar.
#include "kernels/problem.h"
#include "kernels/train_ops.h"
#include "op_cases.h"
#include "op_data.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;
using kernels::LinearProblem;

int64_t ScaleCount(int64_t rows, int64_t cols) {
  return (rows + kFp8Block - 1) / kFp8Block * ((cols + kFp8Block - 1) / kFp8Block);
}

// A problem with `jobs` matrices, each with rows of its own, as experts have them.
struct Data {
  LinearProblem p;
  std::shared_ptr<Buffer> dy, x, dw;
  OpCase c;

  Data(const std::string& text, bool weight) : p(kernels::ParseLinearProblem(text).Value()) {
    dy = RandomF32(p.m * p.n * p.jobs);
    x = RandomF32(p.m * p.k * p.jobs);
    if (weight) dw = RandomF32(p.n * p.k * p.jobs);
    c.operations = p.Flops();
    c.bytes = static_cast<double>(dy->bytes() + x->bytes()) + (dw ? 2.0 * static_cast<double>(dw->bytes()) : 0);
    c.unit = kernels::RoundsToBf16(p.compute) && (weight || p.weight != DType::kF32) ? Unit::kBf16 : Unit::kF32;
  }
};

OpCase Input(Context& ctx, const std::string& text, double cold_bytes) {
  Data d(text, false);
  const LinearProblem p = d.p;
  d.c.copies = CopiesOf(p.WeightBytes(), cold_bytes);
  d.c.bytes += p.WeightBytes();
  const int64_t bytes = p.n * p.k * SizeOf(p.weight);
  const auto w = Random(p.n * p.k * p.jobs * d.c.copies, p.weight, 0.02f);
  const auto scales = RandomF32(p.jobs * ScaleCount(p.n, p.k));  // one set for all copies: they are few
  const auto call = [=, &ctx, dy = d.dy, dx = d.x](int64_t copy, Arena& scratch) {
    std::vector<kernels::LinearBackwardTerm> terms(static_cast<size_t>(p.jobs));
    std::vector<kernels::LinearBackwardInputJob> jobs(terms.size());
    for (int64_t j = 0; j < p.jobs; ++j) {
      const size_t at = static_cast<size_t>(j);
      terms[at].dy = dy->data<float>() + j * p.m * p.n;
      terms[at].ldy = p.n;
      terms[at].w = {.data = w->data() + (copy * p.jobs + j) * bytes, .dtype = p.weight, .rows = p.n, .cols = p.k};
      terms[at].w.scale = scales->data<float>() + j * ScaleCount(p.n, p.k);
      terms[at].w.ue8m0 = p.ue8m0;
      terms[at].dy_blocks = p.dy_blocks;
      jobs[at] = {.dx = dx->data<float>() + j * p.m * p.k,
                  .ldx = p.k,
                  .m = p.m,
                  .terms = std::span(&terms[at], 1),
                  .accumulate = p.accumulate};
    }
    kernels::LinearBackwardInput(ctx, scratch, jobs, p.compute);
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  d.c.run = [=](int64_t copy) { call(copy, *scratch); };
  d.c.spans = [=](int64_t copy) { return std::vector<ByteSpan>{{w->data() + copy * p.jobs * bytes, p.jobs * bytes}}; };
  return d.c;
}

// gate_proj and up_proj of `jobs` experts, each with rows of its own.
OpCase Experts(Context& ctx, const std::string& text, double) {
  const LinearProblem p = kernels::ParseLinearProblem(text).Value();
  OpCase c;
  const int64_t bytes = p.n * p.k * SizeOf(p.weight), rows = p.m * p.jobs;
  const auto w = Random(2 * p.n * p.k * p.jobs, p.weight, 0.02f);
  const auto scales = RandomF32(2 * p.jobs * ScaleCount(p.n, p.k));
  const auto x = RandomF32(rows * p.k), y = RandomF32(2 * rows * p.n);
  c.operations = 2 * p.Flops();
  c.bytes = 2 * p.WeightBytes() + static_cast<double>(x->bytes() + y->bytes());
  c.unit = p.compute == kernels::Compute::kF32 ? Unit::kF32 : Unit::kBf16;
  const auto call = [=, &ctx](Arena& scratch) {
    std::vector<kernels::LinearJob> jobs(static_cast<size_t>(2 * p.jobs));
    for (int64_t j = 0; j < 2 * p.jobs; ++j) {
      kernels::LinearJob& job = jobs[static_cast<size_t>(j)];
      job.y = y->data<float>() + j * p.m * p.n;
      job.ldy = p.n;
      job.x = x->data<float>() + j / 2 * p.m * p.k;
      job.ldx = p.k;
      job.m = p.m;
      job.w = {.data = w->data() + j * bytes, .dtype = p.weight, .rows = p.n, .cols = p.k};
      job.w.scale = scales->data<float>() + j * ScaleCount(p.n, p.k);
      job.w.ue8m0 = p.ue8m0;
    }
    kernels::Linear(ctx, scratch, {jobs, p.compute});
  };
  const auto scratch = Planned(call);
  c.run = [=](int64_t) { call(*scratch); };
  c.spans = [x](int64_t) { return std::vector<ByteSpan>{{x->data(), x->bytes()}}; };
  return c;
}

OpCase WeightGradient(Context& ctx, const std::string& text, double) {
  Data d(text, true);
  const LinearProblem p = d.p;
  const auto call = [=, &ctx, dy = d.dy, x = d.x, dw = d.dw](Arena& scratch) {
    std::vector<kernels::LinearBackwardWeightJob> jobs(static_cast<size_t>(p.jobs));
    for (int64_t j = 0; j < p.jobs; ++j) {
      jobs[static_cast<size_t>(j)] = {.dw = dw->data<float>() + j * p.n * p.k,
                                      .n = p.n,
                                      .k = p.k,
                                      .dy = dy->data<float>() + j * p.m * p.n,
                                      .ldy = p.n,
                                      .x = x->data<float>() + j * p.m * p.k,
                                      .ldx = p.k,
                                      .m = p.m,
                                      .ue8m0 = p.ue8m0,
                                      .dy_blocks = p.dy_blocks};
    }
    kernels::LinearBackwardWeight(ctx, scratch, jobs, p.compute);
  };
  const auto scratch = Planned(call);
  d.c.run = [=](int64_t) { call(*scratch); };
  d.c.spans = [dy = d.dy, x = d.x](int64_t) {
    return std::vector<ByteSpan>{{dy->data(), dy->bytes()}, {x->data(), x->bytes()}};
  };
  return d.c;
}

}  // namespace

const std::vector<std::pair<std::string, Maker>>& GradientMakers() {
  static const std::vector<std::pair<std::string, Maker>> makers = {
      {"linear_backward_input", Input}, {"linear_backward_weight", WeightGradient}, {"experts", Experts}};
  return makers;
}

}  // namespace fathom::bench
