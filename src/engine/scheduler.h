// What the next step computes: a pure function of the sequences' states.
//
// The order: higher priority first, then earlier arrival. Policy:
//
//   1. Each running sequence that decodes gets its one token. Where it needs a block and there is none, the running
//      sequence that is last in the order is preempted, be it that one itself: its blocks return, and it waits, in its
//      place of the order, to be computed again. The first of the running is never preempted, and if it is a prompt it
//      is given the block of its next token here too: there is always progress.
//   2. Then prompts, in the order, at equal priority those that run before those that wait: as many tokens as are
//      pending and as the step and the pool have. A prompt that runs and finds no block waits for one.
//   3. A waiting sequence is admitted if its whole prompt and one block more fit into the pool beside what runs and
//   what
//      running prompts will still need; or if nothing runs. One that does not fit holds back the waiting ones behind
//      it, so none is starved by smaller ones; one that is `held_back` lets others pass, and is admitted nevertheless
//      if the step would be empty. In a step that preempts none is admitted: what it would find has changed.
//   4. Drafts get, in the order, what tokens are left, and blocks that no running prompt will need.
//
// Priorities are strict: those of a lower one wait as long as higher ones come. A running sequence is not preempted for
// a waiting one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom::engine {

struct SequenceState {
  int priority = 0;
  int64_t arrival = 0;       // order number, distinct
  int64_t cached = 0;        // positions whose rows are there (waiting: that would be found in the prefix tree)
  int64_t pending = 0;       // tokens known but not computed: 1 decodes, more is a prompt; >= 1
  int64_t drafts = 0;        // tokens that it would like to verify behind its pending one (decoding only)
  int64_t blocks = 0;        // held, those of its nodes in the tree included (waiting: 0)
  int64_t shared = 0;        // of them, those that other sequences use too: they do not return when it is preempted
  int64_t found_unused = 0;  // waiting: of the blocks found in the tree, those that nobody uses: counted in blocks_left
  bool held_back = false;    // waiting: another sequence is computing the same prefix; others may pass it
};

struct SchedulerLimits {
  int64_t step_tokens = 0;    // rows of a step; at least max_running
  int64_t prompt_tokens = 0;  // of them for prompts, while sequences decode: bounds the time between their tokens
  int64_t max_running = 0;
  int64_t block_tokens = 0;
  int64_t pool_blocks = 0;  // all there are
};

struct ScheduledSlice {
  bool waiting = false;  // index is of the waiting sequences: admitted in this step
  size_t index = 0;
  int64_t tokens = 0;  // of pending
  int64_t drafts = 0;  // verified behind them
};

struct Schedule {
  std::vector<size_t> preempted;       // of running, the last in the order first
  std::vector<ScheduledSlice> slices;  // those that decode first
  int64_t tokens() const;              // rows: tokens and drafts
};

// `blocks_left`: free in the pool or evictable from the tree. Nothing in, nothing out; else at least one slice. The
// first of the running has one, unless waiting prompts of a higher priority took its tokens. FATHOM_CHECKs that one
// sequence alone fits into the pool. To carry it out: preempt; acquire the found blocks of all that are admitted; only
// then take (and evict) blocks.
Schedule PlanStep(std::span<const SequenceState> running, std::span<const SequenceState> waiting, int64_t blocks_left,
                  const SchedulerLimits& limits);

}  // namespace fathom::engine
