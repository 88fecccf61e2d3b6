// What the next step computes: a pure function of the sequences' states. Policy:
//
//   1. Running sequences that decode come first (one token each and their drafts), by priority, then by arrival.
//   2. Running prompts go on, then waiting sequences are admitted, in the same order, as long as the step has tokens
//      and the pool blocks. A waiting sequence that does not fit holds back those behind it: none is starved.
//   3. Where a decoding sequence needs a block and there is none, drafts are given up first, then the sequence that is
//      last in the order is preempted: its blocks return, and it waits, in the order of its arrival, to be computed
//      again. The first in the order is never preempted, so there is always progress.
//   4. A sequence is admitted only if its whole prompt and one block more would fit beside what runs, or nothing runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom::engine {

struct SequenceState {
  int priority = 0;
  int64_t arrival = 0;  // order number, distinct
  int64_t cached = 0;   // positions whose rows are there (waiting: that would be found in the prefix tree)
  int64_t pending = 0;  // tokens known but not computed: 1 decodes, more is a prompt; >= 1
  int64_t drafts = 0;   // tokens that it would like to verify behind its pending one (decoding only)
  int64_t blocks = 0;   // held (waiting: 0)
  int64_t found_unused =
      0;  // waiting: blocks found in the tree that nobody uses: admission takes them from `blocks_left`
  bool held_back = false;  // waiting: another sequence is computing the same prefix; others may pass it
};

struct SchedulerLimits {
  int64_t step_tokens = 0;    // rows of a step
  int64_t prompt_tokens = 0;  // of them for prompts, while sequences decode: bounds the time between their tokens
  int64_t max_running = 0;
  int64_t block_tokens = 0;
};

struct ScheduledSlice {
  bool waiting = false;  // index is of the waiting sequences: admitted in this step
  size_t index = 0;
  int64_t tokens = 0;  // of pending
  int64_t drafts = 0;  // verified behind them
};

struct Schedule {
  std::vector<size_t> preempted;  // of running, the last in the order first
  std::vector<ScheduledSlice> slices;
  int64_t tokens() const;
};

// `blocks_left`: free in the pool or evictable from the tree. Nothing in, nothing out; if anything runs or could be
// admitted, at least one slice. FATHOM_CHECKs that one sequence alone always fits.
Schedule PlanStep(std::span<const SequenceState> running, std::span<const SequenceState> waiting, int64_t blocks_left,
                  const SchedulerLimits& limits);

}  // namespace fathom::engine
