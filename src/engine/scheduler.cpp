#include "engine/scheduler.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace fathom::engine {
namespace {

bool Before(const SequenceState& a, const SequenceState& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.arrival < b.arrival;
}

std::vector<size_t> Order(std::span<const SequenceState> sequences) {
  std::vector<size_t> order(sequences.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return Before(sequences[a], sequences[b]); });
  return order;
}

class Planner {
 public:
  Planner(std::span<const SequenceState> running, std::span<const SequenceState> waiting, int64_t blocks_left,
          const SchedulerLimits& limits)
      : running_(running),
        waiting_(waiting),
        limits_(limits),
        left_(blocks_left),
        order_(Order(running)),
        stays_(running.size()),
        taken_(running.size(), 0) {}

  Schedule Plan() {
    Decode();
    Prompts();
    if (plan_.slices.empty() && !waiting_.empty()) AdmitFirst();
    Drafts();
    return std::move(plan_);
  }

 private:
  int64_t BlocksFor(int64_t positions) const { return (positions + limits_.block_tokens - 1) / limits_.block_tokens; }
  // Blocks beyond those that it holds or has been given.
  int64_t Missing(size_t i, int64_t positions) const {
    return std::max<int64_t>(0, BlocksFor(positions) - running_[i].blocks - taken_[i]);
  }
  void Give(size_t i, int64_t blocks) {
    taken_[i] += blocks;
    left_ -= blocks;
  }

  // Preempts from the end of the order until sequence i can have `blocks`; false if it went itself.
  bool Secure(size_t i, int64_t blocks) {
    while (blocks > left_) {
      const size_t last = order_[stays_ - 1];
      FATHOM_CHECK(stays_ > 1, "one sequence alone needs more blocks than there are");
      plan_.preempted.push_back(last);
      --stays_;
      left_ += running_[last].blocks - running_[last].shared;
      if (stays_ == 1) left_ = limits_.pool_blocks - running_[order_[0]].blocks - taken_[order_[0]];
      if (last == i) return false;
    }
    Give(i, blocks);
    return true;
  }

  void Decode() {
    for (size_t k = 0; k < stays_; ++k) {
      const size_t i = order_[k];
      const SequenceState& s = running_[i];
      FATHOM_CHECK(s.pending >= 1);
      if (s.pending > 1 && k > 0) continue;
      if (!Secure(i, Missing(i, s.cached + 1))) break;
      if (s.pending == 1) plan_.slices.push_back({.waiting = false, .index = i, .tokens = 1});
    }
    decoding_ = plan_.slices.size();
    tokens_ = static_cast<int64_t>(decoding_);
  }

  void Prompts() {
    int64_t budget = limits_.step_tokens - tokens_;
    if (decoding_ > 0) budget = std::min(budget, limits_.prompt_tokens);
    room_ = left_;
    std::vector<size_t> prompts;
    for (size_t k = 0; k < stays_; ++k) {
      const size_t i = order_[k];
      if (running_[i].pending == 1) continue;
      prompts.push_back(i);
      room_ -= Missing(i, running_[i].cached + running_[i].pending) + 1;
    }
    bool admit = plan_.preempted.empty();
    auto prompt = prompts.begin();
    const auto go_on_from = [&](int priority) {
      for (; prompt != prompts.end() && running_[*prompt].priority >= priority; ++prompt)
        budget -= GoOn(*prompt, budget);
    };
    for (size_t w : Order(waiting_)) {
      const SequenceState& s = waiting_[w];
      FATHOM_CHECK(s.pending >= 1);
      go_on_from(s.priority);
      if (s.held_back) continue;
      const int64_t need = NewBlocks(s, s.pending) + 1;
      const bool alone = stays_ == 0 && plan_.slices.empty();
      admit = admit && budget > 0 && running() < limits_.max_running && (need <= room_ || alone);
      if (!admit) break;
      room_ -= need;
      budget -= Admit(w, std::min(budget, s.pending));
    }
    go_on_from(std::numeric_limits<int>::min());
  }

  int64_t running() const { return static_cast<int64_t>(stays_) + admitted_; }

  // Tokens.
  int64_t GoOn(size_t i, int64_t budget) {
    const SequenceState& s = running_[i];
    const int64_t positions = (s.blocks + taken_[i] + left_) * limits_.block_tokens;
    const int64_t n = std::min({budget, s.pending, positions - s.cached});
    if (n <= 0) return 0;
    Give(i, Missing(i, s.cached + n));
    plan_.slices.push_back({.waiting = false, .index = i, .tokens = n});
    tokens_ += n;
    return n;
  }

  // What admission with n tokens takes from the blocks that are left.
  int64_t NewBlocks(const SequenceState& s, int64_t n) const {
    return BlocksFor(s.cached + n) - BlocksFor(s.cached) + s.found_unused;
  }
  int64_t Admit(size_t w, int64_t n) {
    left_ -= NewBlocks(waiting_[w], n);
    FATHOM_CHECK(left_ >= 0, "one sequence alone needs more blocks than there are");
    plan_.slices.push_back({.waiting = true, .index = w, .tokens = n});
    tokens_ += n;
    ++admitted_;
    return n;
  }

  // Nothing runs, and all that wait are held back.
  void AdmitFirst() {
    const size_t w = Order(waiting_).front();
    Admit(w, std::min(limits_.step_tokens, waiting_[w].pending));
  }

  void Drafts() {
    for (size_t k = 0; k < decoding_; ++k) {
      ScheduledSlice& slice = plan_.slices[k];
      const SequenceState& s = running_[slice.index];
      const int64_t blocks = s.blocks + taken_[slice.index] + std::max<int64_t>(room_, 0);
      slice.drafts = std::clamp<int64_t>(blocks * limits_.block_tokens - s.cached - 1, 0,
                                         std::min(s.drafts, limits_.step_tokens - tokens_));
      const int64_t more = Missing(slice.index, s.cached + 1 + slice.drafts);
      Give(slice.index, more);
      room_ -= more;
      tokens_ += slice.drafts;
    }
  }

  std::span<const SequenceState> running_, waiting_;
  const SchedulerLimits& limits_;
  int64_t left_;
  std::vector<size_t> order_;   // of running
  size_t stays_;                // so many of them are not preempted
  std::vector<int64_t> taken_;  // blocks given in this step, by index of running
  size_t decoding_ = 0;         // slices of sequences that decode
  int64_t tokens_ = 0, admitted_ = 0;
  int64_t room_ = 0;  // what would be left if each prompt that runs had all its blocks and one more
  Schedule plan_;
};

}  // namespace

int64_t Schedule::tokens() const {
  int64_t n = 0;
  for (const ScheduledSlice& s : slices) n += s.tokens + s.drafts;
  return n;
}

Schedule PlanStep(std::span<const SequenceState> running, std::span<const SequenceState> waiting, int64_t blocks_left,
                  const SchedulerLimits& limits) {
  FATHOM_CHECK(limits.max_running > 0 && limits.step_tokens >= limits.max_running && limits.prompt_tokens > 0 &&
               limits.block_tokens > 0 && limits.pool_blocks > 0 && blocks_left >= 0 &&
               static_cast<int64_t>(running.size()) <= limits.max_running);
  return Planner(running, waiting, blocks_left, limits).Plan();
}

}  // namespace fathom::engine
