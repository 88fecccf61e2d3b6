#include "model/greedy_head.h"

#include <algorithm>
#include <cmath>

#include "kernels/logit_ops.h"

namespace fathom::model {
namespace {

constexpr int64_t kJobs = 256;      // of a call of Linear
constexpr int64_t kTriedRows = 64;  // before bounds are judged,
constexpr int64_t kLooseShare = 4;  // and given up where one row in so many is loose

}  // namespace

std::unique_ptr<GreedyHead> GreedyHead::Make(const Context& ctx, const kernels::Weight& head) {
  const bool useful = head.dtype != DType::kF8E4M3 && kernels::FastUpperBounds(ctx, 1);
  return std::unique_ptr<GreedyHead>(useful ? new GreedyHead(head) : nullptr);
}

void GreedyHead::Prepare(Context& ctx) {
  if (prepared_) return;
  prepared_ = true;
  storage_ = Buffer(kernels::CodedBytes(head_.rows, head_.cols));
  codes_ = kernels::CodedMatrixIn(storage_.data(), head_.rows, head_.cols);
  kernels::CodeMatrix(ctx, head_, codes_);
  if (std::any_of(codes_.norms, codes_.norms + head_.rows, [](float norm) { return !std::isfinite(norm); })) {
    storage_ = Buffer();
  }
}

bool GreedyHead::Pays() const { return bytes() > 0 && (rows_ < kTriedRows || loose_ * kLooseShare < rows_); }

void GreedyHead::Logits(const Env& env, const float* normed, int64_t rows, float* logits) {
  const int64_t v = head_.rows, d = head_.cols;
  if (!env.planning() && asked_ >= kRowsBefore) Prepare(env.ctx);
  if (!env.planning()) asked_ += rows;
  const bool bounds_first = Pays() && kernels::FastUpperBounds(env.ctx, rows);
  if (env.planning() || !bounds_first) env.Linear(logits, normed, rows, head_);
  if (!env.planning() && !bounds_first) return;
  const ArenaScope scope(env.arena);
  const int64_t blocks = kernels::MaximaCount(v);
  auto* maxima = env.arena.Take<float>(rows * blocks);
  kernels::UpperBounds(env.ctx, env.arena,
                       {.y = logits,
                        .ldy = v,
                        .x = normed,
                        .ldx = d,
                        .m = rows,
                        .w = codes_,
                        .round = RoundsToBf16(env.compute) && head_.dtype == DType::kBF16,
                        .maxima = maxima});
  const auto job = [&](int64_t row, int64_t id) {
    return kernels::LinearJob{
        .y = logits + row * v + id, .ldy = v, .x = normed + row * d, .ldx = d, .m = 1, .w = head_.Rows(id, 1)};
  };
  std::vector<kernels::LinearJob> jobs;
  if (env.planning()) {
    jobs.assign(static_cast<size_t>(std::max(kJobs, rows)), job(0, 0));
    return env.Linear(jobs);
  }
  // The logit of the largest bound: what lies below it in bounds cannot be the largest.
  const Isa isa = env.ctx.isa;
  std::vector<int64_t> first(static_cast<size_t>(rows));
  std::vector<std::vector<int32_t>> candidates(static_cast<size_t>(rows));
  const auto each_row = [&](const auto& f) {
    env.ctx.pool.ParallelFor(
        rows, [&](int64_t row, int) { f(static_cast<size_t>(row), logits + row * v, maxima + row * blocks); });
  };
  each_row([&](size_t row, const float* bounds, const float* tops) { first[row] = kernels::ArgMax(bounds, v, tops); });
  for (int64_t row = 0; row < rows; ++row) jobs.push_back(job(row, first[static_cast<size_t>(row)]));
  env.Linear(jobs);
  each_row([&](size_t row, const float* bounds, const float* tops) {
    const float floor = bounds[first[row]];
    if (!std::isfinite(floor)) return;
    const auto many = [&] { return static_cast<int64_t>(candidates[row].size()) > kMostCandidates; };
    for (int64_t block = 0; block < blocks && !many(); ++block) {
      if (tops[block] < floor) continue;
      const int64_t begin = block * kernels::kMaximaOf, n = std::min(kernels::kMaximaOf, v - begin);
      kernels::ForEachAtLeast(isa, bounds + begin, n, floor, [&](int32_t id) {
        candidates[row].push_back(static_cast<int32_t>(begin) + id);
        return !many();
      });
    }
  });
  jobs.clear();
  const auto flush = [&](int64_t room) {
    if (static_cast<int64_t>(jobs.size()) <= kJobs - room) return;
    env.Linear(jobs);
    jobs.clear();
  };
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t>& ids = candidates[static_cast<size_t>(row)];
    const auto count = static_cast<int64_t>(ids.size());
    if (count == 0 || count > kMostCandidates) {
      env.Linear(logits + row * v, normed + row * d, 1, head_);
      ++loose_;
      continue;
    }
    flush(count);
    for (int32_t id : ids) {
      if (id != first[static_cast<size_t>(row)]) jobs.push_back(job(row, id));
    }
  }
  flush(kJobs);
  rows_ += rows;
}

}  // namespace fathom::model
