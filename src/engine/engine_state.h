// The inside of an Engine: its sequences and what a step does with them. engine.cpp has requests, blocks and the choice
// of a step; engine_step.cpp its computation; engine_blocks.cpp blocks that come from outside of memory.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "engine/engine.h"
#include "engine/prefix_tree.h"
#include "engine/scheduler.h"
#include "model/greedy_head.h"

namespace fathom::engine {

using Clock = std::chrono::steady_clock;
inline double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// From its arrival to its end. Invariants: rows [0, cached) of the table are those of tokens [0, cached); the first
// nodes.size() blocks of the table are full and belong to the tree.
struct Sequence {
  Sequence(RequestId number, Request asked, Listener heard, const LatentPool& pool, int64_t positions)
      : id(number),
        request(std::move(asked)),
        listener(std::move(heard)),
        tokens(request.prompt),
        table(pool, positions) {
    answer.prompt_tokens = prompt();
    BeginDrafts(0);
  }

  RequestId id;
  Request request;
  Listener listener;
  Answer answer;
  std::vector<int32_t> tokens;  // prompt and answer
  int64_t cached = 0;
  // The MTP module's rows are there for [draft_base, draft_cached). It lags behind `cached` when nothing was drafted
  // for some steps, and begins anew at a block's boundary: its attention then sees the tokens from there on.
  int64_t draft_base = 0, draft_cached = 0;
  std::vector<kernels::LatentCache> draft_caches;  // of the table, from draft_base on
  std::vector<Draft> drafts;                       // of the next step
  LatentTable table;
  std::vector<PrefixTree::Node> nodes;
  std::optional<Sampler> sampler;
  std::optional<grammar::Matcher> matcher;  // where the answer is of a grammar: behind its last token
  int64_t matched_drafts = 0;               // while drafts are drawn: behind so many of them
  std::vector<cache::BlockKey> keys;        // of its first blocks, as far as they were asked for
  std::shared_ptr<cache::BlockLoad> load;   // the block load_next and those behind it are on their way to the tree
  size_t load_next = 0;
  Clock::time_point load_deadline;
  bool asked = false;        // the store, since it waits
  bool unstored = false;     // a block was not taken by the store
  int64_t prompt_shown = 1;  // tokens of the prompt that on_prompt has seen; the first has no probability
  bool started = false, cancelled = false, finished = false;
  Clock::time_point added = Clock::now(), start, first;

  int64_t prompt() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t pending() const { return size() - cached; }
  void BeginDrafts(int64_t base) {
    draft_base = draft_cached = base;
    draft_caches.assign(table.caches().begin(), table.caches().end());
    for (kernels::LatentCache& cache : draft_caches) cache.blocks += base / kBlockTokens;
  }
};

class Engine::State {
 public:
  State(Context& ctx, const model::Transformer& transformer, const EngineOptions& options);

  RequestId Add(Request request, Listener listener);
  void Cancel(RequestId id);
  bool Step();
  void Check(const Request& request) const;
  EngineStats Stats() const;
  void Calibrate(double seconds);
  std::vector<std::vector<int64_t>> ExpertLoad() const;

  const EngineOptions options;
  const Arena& arena() const { return arena_; }
  const LatentPool& pool() const { return pool_; }
  const model::GreedyHead* greedy_head() const { return greedy_head_.get(); }
  void PrepareGreedyHead() {
    if (greedy_head_) greedy_head_->Prepare(ctx_);
  }
  void ProvideMemory(double seconds);

 private:
  // A sequence's part of a step: rows [row, row + tokens + drafts).
  struct Item {
    Sequence* sequence;
    int64_t begin;  // position of the first row
    int64_t row, tokens, drafts;
    bool completes = false;  // nothing of it is pending afterwards: its last logits choose a token
    int64_t logits = -1;     // first row of its logits
    int64_t kept = 0;        // drafts that were right
    std::vector<Token> chosen;
    bool complete = false;                      // behind them the grammar leaves nothing to say
    std::optional<Error> error = std::nullopt;  // of the grammar: no further token
    int64_t valid() const { return tokens + kept; }
  };

  // engine.cpp
  void Finish(Sequence& s, FinishReason reason, std::optional<Error> error = std::nullopt);
  void Reap();
  std::vector<Item> Choose();
  bool HeldBack(size_t index, int64_t found) const;
  int64_t Reusable(const Sequence& s) const;
  void Admit(Sequence& s);
  void Preempt(Sequence& s);
  int32_t TakeBlock();
  void Reserve(Sequence& s, int64_t positions);
  void Release(Sequence& s);
  void Share(Sequence& s);
  Verification How(const Sequence& s) const {
    return s.request.reproducible ? Verification::kCoupled : options.verification;
  }
  // Nothing is wanted of its logits but the largest.
  bool TakesLargest(const Sequence& s) const {
    return s.sampler->plain_greedy() && s.request.logprobs < 0 && !s.matcher;
  }
  int64_t blocks_left() const { return pool_.free() + tree_.evictable(); }

  // engine_blocks.cpp
  std::string Identity() const;
  const cache::BlockKey& KeyOf(Sequence& s, size_t block);
  bool Store(Sequence& s, size_t block);
  void StoreRest(Sequence& s);
  bool Loading() const;
  bool ReadingPays();
  bool AskStore(Sequence& s, int64_t found);
  void ReceiveBlocks();
  void Receive(Sequence& s, Clock::time_point end);
  void AwaitBlocks();
  void MeasureRows(int64_t rows, double seconds);

  // engine_grammar.cpp
  void CheckGrammar(const Request& request) const;
  void BeginGrammar(Sequence& s);
  bool Mask(Item& item, std::span<float> logits);
  bool Follow(Item& item, int32_t token);
  void MaskDraft(Sequence& s, std::span<float> logits) const;
  bool FollowDraft(Sequence& s, int32_t token) const;
  void ForgetDrafts(std::vector<Item>& items) const;

  // engine_step.cpp
  void Compute(std::vector<Item>& items);
  void Head(const model::Env& env, const float* normed, int64_t rows, bool largest, float* logits);
  void ShowPrompt(const model::Env& env, const Item& item, const float* normed);
  void ChooseTokens(Item& item, float* logits);
  void Take(Item& item);
  void DraftNext(const model::Env& env, std::vector<Item>& items, const float* normed);
  void CountExperts(int64_t layer, const TensorView& ids);
  void TellSteps(const std::vector<Item>& items, Clock::time_point begin, int64_t rows) const;
  void TellDrafts(const std::vector<Item>& items, Clock::time_point begin) const;
  void RecordExperts(const std::vector<Item>& items, const std::vector<std::vector<int32_t>>& ids);

  Context& ctx_;
  const model::Transformer& transformer_;
  std::unique_ptr<model::GreedyHead> greedy_head_;
  Arena arena_;
  LatentPool pool_;
  PrefixTree tree_;
  SpeculationGain gain_;
  EngineStats stats_;
  std::vector<std::atomic<int64_t>> expert_load_;  // (layers, experts) where they are counted
  std::string identity_;                           // Identity(), when it was needed first
  double row_seconds_ = 0;                         // of prompts, lately
  int64_t dear_loads_ = 0;
  RequestId next_id_ = 1;
  std::vector<std::unique_ptr<Sequence>> running_;  // in the order of admission
  std::vector<std::unique_ptr<Sequence>> waiting_;  // by priority, then by arrival
};

}  // namespace fathom::engine
