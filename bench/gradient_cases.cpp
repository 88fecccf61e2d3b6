// Gradients of the matrix products. See op_cases.h for the grammar.
#include "kernels/problem.h"
#include "kernels/train_ops.h"
#include "op_cases.h"
#include "op_data.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;
using kernels::LinearProblem;

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
    c.unit = p.compute == kernels::Compute::kBf16 && (weight || p.weight == DType::kBF16) ? Unit::kBf16 : Unit::kF32;
  }
};

OpCase Input(Context& ctx, const std::string& text, double cold_bytes) {
  Data d(text, false);
  const LinearProblem p = d.p;
  d.c.copies = CopiesOf(p.WeightBytes(), cold_bytes);
  d.c.bytes += p.WeightBytes();
  const int64_t bytes = p.n * p.k * SizeOf(p.weight);
  const auto w = Random(p.n * p.k * p.jobs * d.c.copies, p.weight, 0.02f);
  const auto call = [=, &ctx, dy = d.dy, dx = d.x](int64_t copy, Arena& scratch) {
    std::vector<kernels::LinearBackwardTerm> terms(static_cast<size_t>(p.jobs));
    std::vector<kernels::LinearBackwardInputJob> jobs(terms.size());
    for (int64_t j = 0; j < p.jobs; ++j) {
      const size_t at = static_cast<size_t>(j);
      terms[at].dy = dy->data<float>() + j * p.m * p.n;
      terms[at].ldy = p.n;
      terms[at].w = {.data = w->data() + (copy * p.jobs + j) * bytes, .dtype = p.weight, .rows = p.n, .cols = p.k};
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
                                      .m = p.m};
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
  static const std::vector<std::pair<std::string, Maker>> makers = {{"linear_backward_input", Input},
                                                                    {"linear_backward_weight", WeightGradient}};
  return makers;
}

}  // namespace fathom::bench
