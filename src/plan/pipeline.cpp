#include "plan/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/error.h"

namespace fathom::plan {
namespace {

// One forward, one backward; with `split` the weights' gradients of the first `put_off` micro-batches come later.
std::vector<Op> OneDirection(int64_t ranks, int64_t n, int64_t rank, bool split) {
  std::vector<Op> steps;
  const int64_t ahead = std::min(n, ranks - 1 - rank);
  int64_t f = 0, b = 0, w = 0;
  const auto forward = [&] { steps.push_back({OpKind::kForward, {0, f++}, {}}); };
  const auto backward = [&] {
    steps.push_back({split ? OpKind::kBackwardInput : OpKind::kBackward, {}, {0, b++}});
    // Rank r puts off r of them: together with the ranks - r in flight, ranks micro-batches.
    if (split && b - w > rank) steps.push_back({OpKind::kBackwardWeight, {}, {0, w++}});
  };
  while (f < ahead) forward();
  while (f < n) {
    forward();
    backward();
  }
  while (b < n) backward();
  while (split && w < n) steps.push_back({OpKind::kBackwardWeight, {}, {0, w++}});
  return steps;
}

// The steps of deepseek-ai/DualPipe. "Phase" 0 is the direction in which the rank is in the first half of the line.
class DualPipe {
 public:
  DualPipe(int64_t ranks, int64_t n, int64_t rank)
      : half_(ranks / 2),
        h_(std::min(rank, ranks - 1 - rank)),
        main_(n / 2 - ranks + h_ + 1),
        middle_(rank == half_ - 1 || rank == half_),
        second_(rank >= half_ ? 1 : 0) {}

  std::vector<Op> Run() {
    const int64_t outer = half_ - h_ - 1, inner = h_ + 1;
    for (int64_t i = 0; i < 2 * outer; ++i) Forward(0);
    for (int64_t i = 0; i < inner; ++i) {
      Forward(0);
      Forward(1);
    }
    for (int64_t i = 0; i < outer; ++i) {
      Backward(1, true);
      Weight();
      Forward(1);
    }
    for (int64_t i = 0; i < main_; ++i) {
      if (i == 0 && middle_) {
        Forward(0);
        Backward(1, false);
      } else {
        Overlapped(0, 1);
      }
      Overlapped(1, 0);
    }
    for (int64_t i = 0; i < outer; ++i) {
      Backward(1, false);
      Overlapped(1, 0);
    }
    bool put_off = false;
    for (int64_t i = 0; i < inner; ++i) {
      if (i == inner / 2 && h_ % 2 == 1) put_off = true;
      Backward(1, put_off);
      if (i == inner / 2 && h_ % 2 == 0) put_off = true;
      Backward(0, put_off);
    }
    for (int64_t i = 0; i < outer; ++i) {
      Weight();
      Backward(0, true);
    }
    for (int64_t i = 0; i < inner; ++i) Weight();
    FATHOM_CHECK(waiting_.empty());
    return std::move(steps_);
  }

 private:
  PassOf Next(std::array<int64_t, 2>& count, int64_t phase) {
    const int64_t direction = phase ^ second_;
    return {direction, count[static_cast<size_t>(direction)]++};
  }
  void Forward(int64_t phase) { steps_.push_back({OpKind::kForward, Next(f_, phase), {}}); }
  void Backward(int64_t phase, bool put_off) {
    const PassOf pass = Next(b_, phase);
    if (put_off) waiting_.push_back(pass);
    steps_.push_back({put_off ? OpKind::kBackwardInput : OpKind::kBackward, {}, pass});
  }
  void Overlapped(int64_t forward, int64_t backward) {
    const PassOf f = Next(f_, forward);
    steps_.push_back({OpKind::kOverlapped, f, Next(b_, backward)});
  }
  void Weight() {
    FATHOM_CHECK(!waiting_.empty());
    steps_.push_back({OpKind::kBackwardWeight, {}, waiting_.front()});
    waiting_.erase(waiting_.begin());
  }

  int64_t half_, h_, main_;
  bool middle_;
  int64_t second_;
  std::array<int64_t, 2> f_{}, b_{};
  std::vector<PassOf> waiting_;
  std::vector<Op> steps_;
};

bool HasForward(OpKind k) { return k == OpKind::kForward || k == OpKind::kOverlapped; }
bool HasBackward(OpKind k) { return k == OpKind::kBackward || k == OpKind::kBackwardInput || k == OpKind::kOverlapped; }

double TimeOf(OpKind kind, const PassTimes& t) {
  switch (kind) {
    case OpKind::kForward:
      return t.f;
    case OpKind::kBackward:
      return t.b;
    case OpKind::kBackwardInput:
      return t.b - t.w;
    case OpKind::kBackwardWeight:
      return t.w;
    default:
      return t.fb;
  }
}

}  // namespace

int64_t LeastMicroBatches(PipelineSchedule schedule, int64_t ranks) {
  return schedule == PipelineSchedule::kDualPipe && ranks > 1 ? 2 * ranks : 1;
}

std::vector<Op> Steps(PipelineSchedule schedule, int64_t ranks, int64_t n, int64_t rank) {
  FATHOM_CHECK(rank >= 0 && rank < ranks && n >= LeastMicroBatches(schedule, ranks));
  if (schedule == PipelineSchedule::kDualPipe && ranks > 1) {
    FATHOM_CHECK(ranks % 2 == 0 && n % 2 == 0);
    return DualPipe(ranks, n, rank).Run();
  }
  return OneDirection(ranks, n, rank, schedule == PipelineSchedule::kZB1P);
}

std::string ToString(const std::vector<Op>& steps) {
  std::string out;
  for (const Op& op : steps) {
    if (!out.empty()) out += ' ';
    switch (op.kind) {
      case OpKind::kForward:
        out += fmt::format("F{}", op.forward.direction);
        break;
      case OpKind::kBackward:
        out += fmt::format("B{}", op.backward.direction);
        break;
      case OpKind::kBackwardInput:
        out += fmt::format("Bi{}", op.backward.direction);
        break;
      case OpKind::kBackwardWeight:
        out += "W";
        break;
      default:
        out += fmt::format("FB{}{}", op.forward.direction, op.backward.direction);
    }
  }
  return out;
}

Timeline Simulate(PipelineSchedule schedule, int64_t ranks, int64_t n, const PassTimes& times,
                  const std::vector<std::array<double, 2>>& weights) {
  const auto p = static_cast<size_t>(ranks);
  std::vector<std::vector<Op>> steps;
  for (int64_t r = 0; r < ranks; ++r) steps.push_back(Steps(schedule, ranks, n, r));
  // When a pass was done: (backward, direction, micro-batch, stage in that direction).
  std::map<std::tuple<bool, int64_t, int64_t, int64_t>, double> done;
  Timeline line;
  line.ranks.resize(p);
  std::vector<double> now(p), worked(p);
  const auto stage = [&](int64_t rank, int64_t direction) { return direction == 0 ? rank : ranks - 1 - rank; };
  // When what the op needs is there; negative: not yet.
  const auto ready = [&](int64_t rank, const Op& op) {
    double at = 0;
    const auto need = [&](bool backward, const PassOf& pass, int64_t s) {
      if (s < 0) return;
      const auto found = done.find({backward, pass.direction, pass.micro_batch, s});
      at = found == done.end() || at < 0 ? -1 : std::max(at, found->second);
    };
    if (HasForward(op.kind)) need(false, op.forward, stage(rank, op.forward.direction) - 1);
    if (HasBackward(op.kind)) {
      const int64_t s = stage(rank, op.backward.direction);
      s == ranks - 1 ? need(false, op.backward, s) : need(true, op.backward, s + 1);
    }
    return at;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (int64_t r = 0; r < ranks; ++r) {
      const auto i = static_cast<size_t>(r);
      while (line.ranks[i].size() < steps[i].size()) {
        const Op& op = steps[i][line.ranks[i].size()];
        const double at = ready(r, op);
        if (at < 0) break;
        const double begin = std::max(now[i], at), took = TimeOf(op.kind, times);
        now[i] = begin + took;
        worked[i] += took;
        line.ranks[i].push_back({op, begin, now[i]});
        if (HasForward(op.kind))
          done[{false, op.forward.direction, op.forward.micro_batch, stage(r, op.forward.direction)}] = now[i];
        if (HasBackward(op.kind))
          done[{true, op.backward.direction, op.backward.micro_batch, stage(r, op.backward.direction)}] = now[i];
        moved = true;
      }
    }
  }
  for (size_t i = 0; i < p; ++i) {
    FATHOM_CHECK(line.ranks[i].size() == steps[i].size(), "a schedule whose ranks wait for each other");
    line.end = std::max(line.end, now[i]);
    std::array<int64_t, 2> alive{}, most{};
    const std::array<double, 2> each = weights.empty() ? std::array<double, 2>{1, 1} : weights[i];
    double peak = -1;
    for (const Op& op : steps[i]) {
      if (HasForward(op.kind)) ++alive[static_cast<size_t>(op.forward.direction)];
      const double now_alive = each[0] * static_cast<double>(alive[0]) + each[1] * static_cast<double>(alive[1]);
      if (now_alive > peak) {
        peak = now_alive;
        most = alive;
      }
      if (op.kind != OpKind::kForward && op.kind != OpKind::kBackwardInput)
        --alive[static_cast<size_t>(op.backward.direction)];
    }
    line.alive.push_back(most);
  }
  for (size_t i = 0; i < p; ++i) line.idle.push_back(line.end - worked[i]);
  return line;
}

double Bubble(PipelineSchedule schedule, int64_t ranks, const PassTimes& t) {
  const auto p = static_cast<double>(ranks);
  if (ranks <= 1) return 0;
  switch (schedule) {
    case PipelineSchedule::k1F1B:
      return (p - 1) * (t.f + t.b);
    case PipelineSchedule::kZB1P:
      return (p - 1) * (t.f + t.b - 2 * t.w);
    default:
      return (p / 2 - 1) * (t.fb + t.b - 3 * t.w);
  }
}

const char* BubbleFormula(PipelineSchedule schedule) {
  switch (schedule) {
    case PipelineSchedule::k1F1B:
      return "(PP-1)(F+B)";
    case PipelineSchedule::kZB1P:
      return "(PP-1)(F+B-2W)";
    default:
      return "(PP/2-1)(F&B+B-3W)";
  }
}

}  // namespace fathom::plan
