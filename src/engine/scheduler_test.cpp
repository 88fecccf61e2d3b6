#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <sstream>

#include "core/rng.h"
#include "engine/prefix_tree.h"

namespace fathom::engine {
namespace {

using States = std::vector<SequenceState>;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::vector<size_t> InOrder(const States& s) {
  std::vector<size_t> order(s.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(-s[a].priority, s[a].arrival) < std::pair(-s[b].priority, s[b].arrival);
  });
  return order;
}

// What the header promises of any schedule, computed anew; an empty string: all kept. Blocks are not shared.
std::string Broken(const States& running, const States& waiting, int64_t blocks_left, const SchedulerLimits& limits,
                   const Schedule& plan) {
  const std::vector<size_t> order = InOrder(running), queue = InOrder(waiting);
  const auto blocks_for = [&](int64_t positions) { return CeilDiv(positions, limits.block_tokens); };
  const auto place = [](const std::vector<size_t>& o, size_t i) {
    return std::find(o.begin(), o.end(), i) - o.begin();
  };

  // Preempted: the end of the order, backwards, never the first, and no more than needed.
  const size_t stays = running.size() - plan.preempted.size();
  for (size_t k = 0; k < plan.preempted.size(); ++k) {
    if (plan.preempted[k] != order[order.size() - 1 - k]) return "preempted out of order";
  }
  if (!running.empty() && stays == 0) return "the first is preempted";
  const auto one_more = [&](size_t i) {
    return std::max<int64_t>(0, blocks_for(running[i].cached + 1) - running[i].blocks);
  };
  int64_t left = blocks_left;
  for (size_t i : plan.preempted) left += running[i].blocks;
  if (!plan.preempted.empty()) {
    int64_t wanted = 0;
    for (size_t k = 0; k <= stays; ++k) {
      if (running[order[k]].pending == 1 || k == 0) wanted += one_more(order[k]);
    }
    if (wanted <= left - running[plan.preempted.back()].blocks) return "preempted without need";
  }

  std::vector<int64_t> tokens(running.size()), drafts(running.size()), admitted(waiting.size());
  int64_t rows = 0, prompt_rows = 0, decoding = 0, new_running = 0;
  bool prompts_began = false;
  for (const ScheduledSlice& slice : plan.slices) {
    if (slice.index >= (slice.waiting ? waiting : running).size()) return "no such sequence";
    const SequenceState& s = (slice.waiting ? waiting : running)[slice.index];
    int64_t& mine = (slice.waiting ? admitted : tokens)[slice.index];
    if (mine != 0) return "twice in a step";
    mine = slice.tokens;
    if (slice.tokens < 1 || slice.tokens > s.pending) return "tokens";
    if (slice.drafts < 0 || slice.drafts > s.drafts) return "drafts";
    rows += slice.tokens + slice.drafts;
    const bool decodes = !slice.waiting && s.pending == 1;
    if (!decodes && slice.drafts > 0) return "drafts behind a prompt";
    if (decodes && prompts_began) return "a prompt before one that decodes";
    prompts_began = prompts_began || !decodes;
    decoding += decodes;
    prompt_rows += decodes ? 0 : slice.tokens;
    new_running += slice.waiting;
    if (slice.waiting) {
      left -= blocks_for(s.cached + slice.tokens) - blocks_for(s.cached) + s.found_unused;
    } else {
      drafts[slice.index] = slice.drafts;
      if (place(order, slice.index) >= static_cast<std::ptrdiff_t>(stays)) return "preempted and in the step";
      left -= std::max<int64_t>(0, blocks_for(s.cached + slice.tokens + slice.drafts) - s.blocks);
    }
  }
  if (rows != plan.tokens()) return "tokens()";
  if (rows > limits.step_tokens) return "step_tokens";
  if (decoding > 0 && prompt_rows > limits.prompt_tokens) return "prompt_tokens";
  if (left < 0) return "blocks";
  if (static_cast<int64_t>(stays) + new_running > limits.max_running) return "max_running";
  if (plan.slices.empty() != (running.empty() && waiting.empty())) return "no progress";
  if (!plan.preempted.empty() && new_running > 0) return "admitted and preempted in one step";

  for (size_t k = 0; k < stays; ++k) {
    if (running[order[k]].pending == 1 && tokens[order[k]] == 0) return "one that decodes waits";
  }
  // The first has a token, or the tokens went to waiting ones of higher priority.
  if (!running.empty() && tokens[order[0]] == 0) {
    for (size_t w = 0; w < waiting.size(); ++w) {
      if (admitted[w] > 0 && waiting[w].priority <= running[order[0]].priority) return "the first waits";
    }
    if (new_running == 0) return "the first waits for nobody";
  }
  // Prompts in the order: one that lacks tokens or blocks leaves none to those behind it.
  const int64_t budget =
      decoding > 0 ? std::min(limits.prompt_tokens, limits.step_tokens - decoding) : limits.step_tokens;
  for (size_t k = 0; k < stays; ++k) {
    const SequenceState& s = running[order[k]];
    if (s.pending == 1 || tokens[order[k]] == s.pending) continue;
    const bool no_tokens = prompt_rows == budget;
    bool no_blocks = (s.cached + tokens[order[k]]) % limits.block_tokens == 0 && left == 0;
    if (!no_tokens && !no_blocks) return "a prompt could have gone on";
    for (size_t j = k + 1; no_tokens && j < stays; ++j) {
      if (running[order[j]].pending > 1 && tokens[order[j]] > 0 && left > 0) return "prompts out of order";
    }
  }
  // Blocks for drafts alone: none that a prompt of this step or a running one will need.
  int64_t draft_blocks = 0, room_for_drafts = left;
  for (size_t k = 0; k < stays; ++k) {
    const SequenceState& s = running[order[k]];
    const int64_t held = std::max(s.blocks, blocks_for(s.cached + tokens[order[k]]));
    draft_blocks += std::max<int64_t>(0, blocks_for(s.cached + tokens[order[k]] + drafts[order[k]]) - held);
    if (s.pending > 1) room_for_drafts -= std::max<int64_t>(0, blocks_for(s.cached + s.pending) - held) + 1;
  }
  for (size_t w = 0; w < waiting.size(); ++w) {
    const SequenceState& s = waiting[w];
    if (admitted[w] > 0 && (!running.empty() || new_running > 1)) {
      room_for_drafts -= blocks_for(s.cached + s.pending) - blocks_for(s.cached + admitted[w]) + 1;
    }
  }
  if (draft_blocks > 0 && room_for_drafts < 0) return "drafts took blocks that prompts need";
  // Waiting ones in the order; room for all that runs.
  bool passed = false;
  for (size_t w : queue) {
    if (admitted[w] > 0 && passed) return "admitted out of order";
    if (admitted[w] == 0 && !waiting[w].held_back) passed = true;
    if (admitted[w] > 0 && waiting[w].held_back && plan.slices.size() > 1) return "admitted though held back";
  }
  if (new_running > 0 && (!running.empty() || new_running > 1)) {
    int64_t room = blocks_left;
    for (size_t i = 0; i < running.size(); ++i) {
      const SequenceState& s = running[i];
      const int64_t extra = s.pending > 1 ? 1 : 0;
      room -= std::max<int64_t>(0, blocks_for(s.cached + s.pending) - s.blocks) + extra;
    }
    for (size_t w = 0; w < waiting.size(); ++w) {
      const SequenceState& s = waiting[w];
      if (admitted[w] == 0) continue;
      room -= blocks_for(s.cached + s.pending) - blocks_for(s.cached) + s.found_unused + 1;
    }
    if (room < 0) return "admitted without room";
  }
  // The first of the queue is admitted if tokens, sequences and blocks allow.
  if (!queue.empty() && admitted[queue[0]] == 0 && !waiting[queue[0]].held_back && plan.preempted.empty() &&
      static_cast<int64_t>(stays) < limits.max_running && prompt_rows < budget) {
    const SequenceState& s = waiting[queue[0]];
    int64_t room = blocks_left - (blocks_for(s.cached + s.pending) - blocks_for(s.cached) + s.found_unused + 1);
    for (const SequenceState& r : running) {
      room -= std::max<int64_t>(0, blocks_for(r.cached + r.pending) - r.blocks) + (r.pending > 1 ? 1 : 0);
    }
    if (room >= 0) return "could have been admitted";
  }
  return "";
}

std::string Show(const States& running, const States& waiting, int64_t left, const SchedulerLimits& limits,
                 const Schedule& plan) {
  std::ostringstream out;
  const auto show = [&](const char* name, const States& states) {
    for (const SequenceState& s : states) {
      out << name << " priority " << s.priority << " arrival " << s.arrival << " cached " << s.cached << " pending "
          << s.pending << " drafts " << s.drafts << " blocks " << s.blocks << " unused " << s.found_unused << " held "
          << s.held_back << "\n";
    }
  };
  show("running", running);
  show("waiting", waiting);
  out << "left " << left << " of " << limits.pool_blocks << " step " << limits.step_tokens << " prompts "
      << limits.prompt_tokens << " running " << limits.max_running << "\n";
  for (size_t i : plan.preempted) out << "preempts " << i << "\n";
  for (const ScheduledSlice& s : plan.slices) {
    out << (s.waiting ? "waiting " : "running ") << s.index << ": " << s.tokens << " + " << s.drafts << "\n";
  }
  return out.str();
}

// Every state of up to `n` sequences of these kinds, of each combination.
void ForAll(const std::vector<SequenceState>& kinds, size_t n, const std::function<void(const States&)>& f) {
  std::vector<size_t> digits(n, 0);
  for (;;) {
    States states;
    for (size_t d : digits) states.push_back(kinds[d]);
    f(states);
    size_t i = 0;
    while (i < n && ++digits[i] == kinds.size()) digits[i++] = 0;
    if (i == n) return;
  }
}

TEST(Scheduler, EverySmallState) {
  constexpr int64_t kBlock = 2;
  States running_kinds, waiting_kinds;
  for (int priority : {0, 1}) {
    for (int64_t cached : {1, 2}) {
      for (auto [pending, drafts] : {std::pair<int64_t, int64_t>{1, 0}, {1, 2}, {4, 0}}) {
        running_kinds.push_back({.priority = priority,
                                 .cached = cached,
                                 .pending = pending,
                                 .drafts = drafts,
                                 .blocks = CeilDiv(cached, kBlock)});
      }
    }
    // One that holds more than it takes.
    if (priority == 0) running_kinds.push_back({.cached = 6, .pending = 1, .blocks = 3});
    for (int64_t pending : {1, 3}) {
      for (bool held : {false, true}) {
        waiting_kinds.push_back({.priority = priority, .pending = pending, .held_back = held});
        for (int64_t unused : {0, 1}) {
          waiting_kinds.push_back(
              {.priority = priority, .cached = kBlock, .pending = pending, .found_unused = unused, .held_back = held});
        }
      }
    }
  }
  int64_t states = 0, preempting = 0, admitting = 0;
  const auto check = [&](const States& running, const States& waiting) {
    for (int64_t blocks_left : {0, 1, 2, 4}) {
      for (auto [step, prompt] : {std::pair<int64_t, int64_t>{5, 1}, {5, 2}, {8, 8}}) {
        // Of four sequences a part of the limits is enough.
        if (running.size() + waiting.size() > 3 && (blocks_left == 1 || blocks_left == 4 || prompt == 2)) continue;
        for (int64_t more : {0, 1}) {
          SchedulerLimits limits{.step_tokens = step,
                                 .prompt_tokens = prompt,
                                 .max_running = std::max<int64_t>(1, static_cast<int64_t>(running.size()) + more),
                                 .block_tokens = kBlock,
                                 .pool_blocks = blocks_left};
          int64_t unused = 0, found = 0, longest = 0;
          for (const SequenceState& s : running) limits.pool_blocks += s.blocks;
          for (const SequenceState& s : waiting) {
            unused += s.found_unused;
            found += s.cached / kBlock - s.found_unused;
          }
          for (const States* list : {&running, &waiting}) {
            for (const SequenceState& s : *list) longest = std::max(longest, s.cached + s.pending);
          }
          // States that cannot be: found blocks that are nowhere, a sequence larger than the pool.
          if (unused > blocks_left || (running.empty() && found > 0) || CeilDiv(longest, kBlock) > limits.pool_blocks)
            continue;
          const Schedule plan = PlanStep(running, waiting, blocks_left, limits);
          const std::string broken = Broken(running, waiting, blocks_left, limits, plan);
          ASSERT_EQ(broken, "") << Show(running, waiting, blocks_left, limits, plan);
          ++states;
          preempting += !plan.preempted.empty();
          admitting += !plan.slices.empty() && plan.slices.back().waiting;
        }
      }
    }
  };
  for (const auto& sizes : {std::pair<size_t, size_t>{0, 1},
                            {0, 2},
                            {0, 3},
                            {1, 0},
                            {1, 1},
                            {1, 2},
                            {2, 0},
                            {2, 1},
                            {3, 0},
                            {3, 1},
                            {4, 0}}) {
    ForAll(running_kinds, sizes.first, [&](States running) {
      // Arrival is not the order of the list.
      for (size_t i = 0; i < running.size(); ++i) running[i].arrival = static_cast<int64_t>((i * 3 + 1) % 5);
      ForAll(waiting_kinds, sizes.second, [&](States waiting) {
        for (size_t i = 0; i < waiting.size(); ++i) waiting[i].arrival = static_cast<int64_t>(20 - i);
        if (!HasFatalFailure()) check(running, waiting);
      });
    });
  }
  EXPECT_GT(states, 100000);
  EXPECT_GT(preempting, 10000);
  EXPECT_GT(admitting, 10000);
}

TEST(Scheduler, NothingInNothingOut) {
  const Schedule plan = PlanStep(
      {}, {}, 3, {.step_tokens = 4, .prompt_tokens = 4, .max_running = 4, .block_tokens = 2, .pool_blocks = 3});
  EXPECT_TRUE(plan.slices.empty() && plan.preempted.empty());
  EXPECT_EQ(plan.tokens(), 0);
}

// Two share three of their four blocks: preempting one of them returns one block.
TEST(Scheduler, SharedBlocksDoNotReturn) {
  const SequenceState a{.arrival = 0, .cached = 8, .pending = 1, .blocks = 4, .shared = 3};
  SequenceState b = a, c{.arrival = 2, .cached = 4, .pending = 1, .blocks = 2};
  b.arrival = 1;
  const SchedulerLimits limits{
      .step_tokens = 8, .prompt_tokens = 8, .max_running = 4, .block_tokens = 2, .pool_blocks = 7};
  // Each needs a block: c returns two, for a and b.
  Schedule plan = PlanStep(States{a, b, c}, {}, 0, limits);
  EXPECT_EQ(plan.preempted, std::vector<size_t>{2});
  EXPECT_EQ(plan.slices.size(), 2u);
  // Shared by those that are preempted alone: when the first is alone, all blocks but its own are there.
  SequenceState first{.priority = 1, .cached = 4, .pending = 1, .blocks = 2};
  SequenceState d = a, e = b;
  d.blocks = d.shared = e.blocks = e.shared = 3;
  SchedulerLimits five = limits;
  five.pool_blocks = 5;
  plan = PlanStep(States{first, d, e}, {}, 0, five);
  EXPECT_EQ(plan.preempted, (std::vector<size_t>{2, 1}));
  EXPECT_EQ(plan.slices.size(), 1u);
  // Without c one of b is all there is.
  SchedulerLimits small = limits;
  small.pool_blocks = 5;
  plan = PlanStep(States{a, b}, {}, 0, small);
  EXPECT_EQ(plan.preempted, std::vector<size_t>{1});
  ASSERT_EQ(plan.slices.size(), 1u);
  EXPECT_EQ(plan.slices[0].index, 0u);
}

// An engine without a model: a tiny pool, a tree, prompts that share beginnings, drafts that are kept by chance.
class Simulation {
 public:
  static constexpr int64_t kBlock = 4;

  struct Sequence {
    int priority = 0;
    int64_t arrival = 0;
    std::vector<int32_t> tokens;  // prompt and the whole answer
    int64_t known = 0;            // of them
    int64_t cached = 0;
    std::vector<int32_t> blocks;
    std::vector<PrefixTree::Node> nodes;  // of the first blocks
    bool listed = false;
    int64_t work() const { return static_cast<int64_t>(tokens.size()); }
  };

  Simulation(uint64_t seed, SchedulerLimits limits) : rng_(seed), limits_(limits), tree_(kBlock) {
    limits_.block_tokens = kBlock;
    for (int32_t b = 0; b < limits.pool_blocks; ++b) free_.push_back(b);
  }

  void Add(int priority, int64_t prompt, int64_t answer) {
    Sequence s;
    s.priority = priority;
    s.arrival = arrivals_++;
    const int32_t family = static_cast<int32_t>(rng_.NextBelow(3));
    for (int64_t i = 0; i < prompt + answer; ++i) {
      const bool common = i < prompt * 3 / 4;
      s.tokens.push_back(common ? family : static_cast<int32_t>(3 + rng_.NextBelow(50)));
    }
    s.known = prompt;
    waiting_.push_back(s);
  }

  bool Step() {
    if (running_.empty() && waiting_.empty()) return false;
    States running, waiting;
    for (const Sequence& s : running_) {
      running.push_back({.priority = s.priority,
                         .arrival = s.arrival,
                         .cached = s.cached,
                         .pending = s.known - s.cached,
                         .drafts = rng_.NextBelow(4),
                         .blocks = static_cast<int64_t>(s.blocks.size()),
                         .shared = tree_.Shared(s.nodes)});
    }
    for (const Sequence& s : waiting_) {
      const auto nodes = Found(s);
      const int64_t cached = static_cast<int64_t>(nodes.size()) * kBlock;
      int64_t unused = 0;
      for (PrefixTree::Node node : nodes) unused += tree_.users(node) == 0;
      waiting.push_back({.priority = s.priority,
                         .arrival = s.arrival,
                         .cached = cached,
                         .pending = s.known - cached,
                         .found_unused = unused,
                         .held_back = rng_.NextBelow(4) == 0});
    }
    const int64_t left = static_cast<int64_t>(free_.size()) + tree_.evictable();
    const Schedule plan = PlanStep(running, waiting, left, limits_);
    EXPECT_FALSE(plan.slices.empty());
    EXPECT_LE(plan.tokens(), limits_.step_tokens);
    preemptions += static_cast<int64_t>(plan.preempted.size());

    std::vector<Sequence> stay, back;
    for (size_t i : plan.preempted) Release(running_[i]);
    for (const ScheduledSlice& slice : plan.slices) {
      if (slice.waiting) Admit(waiting_[slice.index]);
    }
    for (const ScheduledSlice& slice : plan.slices) {
      Compute(slice.waiting ? waiting_[slice.index] : running_[slice.index], slice);
    }
    std::vector<bool> preempted(running_.size()), admitted(waiting_.size());
    for (size_t i : plan.preempted) preempted[i] = true;
    for (const ScheduledSlice& slice : plan.slices) {
      if (slice.waiting) admitted[slice.index] = true;
    }
    for (size_t i = 0; i < running_.size(); ++i) (preempted[i] ? back : stay).push_back(std::move(running_[i]));
    for (size_t i = 0; i < waiting_.size(); ++i) (admitted[i] ? stay : back).push_back(std::move(waiting_[i]));
    running_.clear();
    for (Sequence& s : stay) {
      if (s.known == s.work() && s.cached >= s.known - 1) {
        Release(s);
        ++finished;
      } else {
        running_.push_back(std::move(s));
      }
    }
    waiting_ = std::move(back);
    EXPECT_LE(static_cast<int64_t>(running_.size()), limits_.max_running);
    return true;
  }

  // Arrival of the first in the order of all that are not finished.
  int64_t First() const {
    const Sequence* first = nullptr;
    for (const auto* list : {&running_, &waiting_}) {
      for (const Sequence& s : *list) {
        if (!first || std::pair(-s.priority, s.arrival) < std::pair(-first->priority, first->arrival)) first = &s;
      }
    }
    return first ? first->arrival : -1;
  }
  int64_t blocks_free() const { return static_cast<int64_t>(free_.size()) + tree_.evictable(); }

  int64_t finished = 0, preemptions = 0, evictions = 0, found = 0;

 private:
  std::vector<PrefixTree::Node> Found(const Sequence& s) {
    return tree_.Match(0, std::span(s.tokens).first(static_cast<size_t>(s.known - 1)));
  }
  void Admit(Sequence& s) {
    s.nodes = Found(s);
    for (PrefixTree::Node node : s.nodes) {
      tree_.Acquire(node);
      s.blocks.push_back(tree_.Block(node));
    }
    s.cached = static_cast<int64_t>(s.nodes.size()) * kBlock;
    found += s.cached;
  }
  void Release(Sequence& s) {
    for (size_t i = s.blocks.size(); i-- > s.nodes.size();) free_.push_back(s.blocks[i]);
    for (size_t i = s.nodes.size(); i-- > 0;) tree_.Release(s.nodes[i]);
    s.blocks.clear();
    s.nodes.clear();
    s.cached = 0;
  }
  void Compute(Sequence& s, const ScheduledSlice& slice) {
    const int64_t rows = s.cached + slice.tokens + slice.drafts;
    while (static_cast<int64_t>(s.blocks.size()) * kBlock < rows) {
      if (free_.empty()) {
        const std::optional<int32_t> block = tree_.Evict();
        ASSERT_TRUE(block.has_value()) << "more blocks planned than there are";
        free_.push_back(*block);
        ++evictions;
      }
      s.blocks.push_back(free_.back());
      free_.pop_back();
    }
    s.cached += slice.tokens;
    if (s.cached == s.known) {  // its last logits choose a token, and kept drafts more
      const int64_t kept = slice.drafts > 0 ? rng_.NextBelow(slice.drafts + 1) : 0;
      const int64_t chosen = std::min(1 + kept, s.work() - s.known);
      s.known += chosen;
      s.cached = std::min(s.cached + kept, s.known - 1);
    }
    while (static_cast<int64_t>(s.nodes.size() + 1) * kBlock <= s.cached) {
      const size_t i = s.nodes.size();
      const auto put = tree_.Insert(0, i == 0 ? PrefixTree::kRoot : s.nodes.back(),
                                    std::span(s.tokens).subspan(i * kBlock, kBlock), s.blocks[i], false);
      if (!put.fresh) {
        free_.push_back(s.blocks[i]);
        s.blocks[i] = tree_.Block(put.node);
      }
      s.nodes.push_back(put.node);
    }
  }

  Rng rng_;
  SchedulerLimits limits_;
  PrefixTree tree_;
  std::vector<int32_t> free_;
  std::vector<Sequence> running_, waiting_;
  int64_t arrivals_ = 0;
};

// Thousands of requests through a pool that holds a few. All finish, and each soon after it has become the first: those
// that run then are at most max_running, and at least the first of them gets a token in every step.
TEST(Scheduler, AllFinishUnderATinyPool) {
  constexpr int64_t kLongest = 60;
  int64_t preemptions = 0, evictions = 0, found = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Rng rng(seed, 1);
    SchedulerLimits limits{.step_tokens = 8 + rng.NextBelow(20),
                           .prompt_tokens = 1 + rng.NextBelow(8),
                           .max_running = 2 + rng.NextBelow(6),
                           .block_tokens = Simulation::kBlock,
                           .pool_blocks = kLongest / Simulation::kBlock + rng.NextBelow(12)};
    Simulation sim(seed, limits);
    constexpr int64_t kRequests = 400;
    int64_t added = 0, first = -1, since = 0, most = 0;
    for (int64_t step = 0;; ++step) {
      while (added < kRequests && rng.NextBelow(3) == 0) {
        const int64_t prompt = 1 + rng.NextBelow(kLongest - 20);
        sim.Add(/*priority=*/0, prompt, 1 + rng.NextBelow(kLongest - prompt));
        ++added;
      }
      const bool stepped = sim.Step();
      if (HasFailure()) return;
      if (!stepped && added == kRequests) break;
      if (sim.First() != first) {
        first = sim.First();
        since = step;
      }
      most = std::max(most, step - since);
      ASSERT_LE(step - since, (limits.max_running + 1) * kLongest) << "starved: " << first;
    }
    EXPECT_EQ(sim.finished, kRequests);
    EXPECT_EQ(sim.blocks_free(), limits.pool_blocks);
    preemptions += sim.preemptions;
    evictions += sim.evictions;
    found += sim.found;
  }
  EXPECT_GT(preemptions, 200);
  EXPECT_GT(evictions, 500);
  EXPECT_GT(found, 500);
}

// With priorities all finish too once no more come.
TEST(Scheduler, AllPrioritiesFinish) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Rng rng(seed, 2);
    SchedulerLimits limits{
        .step_tokens = 16, .prompt_tokens = 5, .max_running = 4, .block_tokens = Simulation::kBlock, .pool_blocks = 17};
    Simulation sim(seed, limits);
    int64_t steps = 0, work = 0;
    for (int i = 0; i < 300; ++i) {
      const int64_t prompt = 1 + rng.NextBelow(40), answer = 1 + rng.NextBelow(20);
      sim.Add(static_cast<int>(rng.NextBelow(3)), prompt, answer);
      work += prompt + answer;
      if (i % 3 == 0) steps += sim.Step();
    }
    // The first of all gets a token in every step in which it runs; while it waits, the first that runs does.
    while (sim.Step() && !HasFailure()) ASSERT_LE(++steps, 10 * work);
    EXPECT_EQ(sim.finished, 300);
  }
}

}  // namespace
}  // namespace fathom::engine
