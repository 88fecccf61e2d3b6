// Many requests on one model: continuous batching over a paged latent cache, prompts read in chunks beside the
// sequences that decode, prefixes shared, drafts of the MTP modules verified.
//
// One thread owns an Engine: it adds requests, calls Step until idle, and is where listeners are called. EngineThread
// (engine_thread.h) is that thread for programs with many clients.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/block_store.h"
#include "engine/latent_pool.h"
#include "engine/request.h"
#include "engine/speculation.h"
#include "model/transformer.h"

namespace fathom::engine {

// What the MTP module is fed for the second draft and those behind it: its own output after shared_head.norm, or
// before.
enum class DraftInput : uint8_t { kNormed, kPlain };

struct EngineOptions {
  model::Compute compute = model::Compute::kF32;
  DType cache_dtype = DType::kF32;  // F32, BF16, F8_E4M3
  int64_t max_context = 0;          // positions of a sequence
  int64_t cache_tokens = 0;         // positions of all sequences together; at least max_context. 0: max_context
  int64_t max_running = 64;         // sequences in a step
  int64_t step_tokens = 0;          // rows of a step; 0: by memory, 2048 at most
  int64_t prompt_tokens = 512;      // of them for prompts while sequences decode
  int64_t max_waiting = 0;          // requests that EngineThread lets wait; 0: any number
  bool prefix_cache = true;
  // The same request gives the same tokens whatever else runs, and whether its prefix was cached or not. Sampled
  // answers need a seed, of course; speculation is verified as kCoupled.
  bool batch_invariant = false;
  int64_t drafts = 0;  // at most so many tokens are drafted; 0: no speculation. Needs a model with MTP
  DraftInput draft_input = DraftInput::kNormed;
  Verification verification = Verification::kRejection;
  bool count_experts = false;  // for ExpertLoad
  // Greedy answers by model::GreedyHead where that is faster: the same tokens, lm_head in 8-bit codes beside itself.
  bool greedy_head = true;
  bool always_draft = false;  // do not ask whether drafts pay: for tests and measurements
  // Where blocks are kept beyond memory and this process; outlives the engine. Several engines may have the same.
  cache::BlockStore* block_store = nullptr;
  std::string model_identity = {};  // of the weights: blocks are found under it only
  // Listeners hear of a step's tokens within this: for what is better done once for all of them. Empty: directly.
  std::function<void(const std::function<void()>& tell)> tell_within = {};
};

// Counters since the start, and the state now.
struct EngineStats {
  int64_t running = 0, waiting = 0;
  int64_t blocks = 0, blocks_used = 0, blocks_cached = 0;  // used: by sequences; cached: by the tree alone
  int64_t steps = 0, rows = 0;
  double step_seconds = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  int64_t prefix_queries = 0, prefix_hits = 0;  // tokens of prompts asked for, and found
  int64_t preemptions = 0;
  int64_t drafted = 0, accepted = 0;
  int64_t finished[4] = {};                    // by FinishReason
  int64_t decode_steps = 0, draft_rounds = 0;  // steps without prompts, and drafts behind them
  double decode_seconds = 0, draft_round_seconds = 0;
  // Tokens of prompts that the store was asked for, beyond those in memory, and that came from it; loads given up
  // because computing would have been faster.
  int64_t disk_queries = 0, disk_hits = 0, disk_late = 0;
};

using RequestId = uint64_t;

class Engine {
 public:
  Engine(Context& ctx, const model::Transformer& transformer, const EngineOptions& options);
  ~Engine();

  // Throws Error: an empty prompt, one longer than max_context, a token id out of range, sampling out of range.
  RequestId Add(Request request, Listener listener);
  // The answer ends with kCancelled before the next step; unknown ids are finished requests.
  void Cancel(RequestId id);
  // One step, false if there was nothing to do. Never throws for what a request does: an error of the step (hidden
  // states that are not finite) ends the requests in it with kError.
  bool Step();

  // Adds all, steps until they are finished. Throws what Add throws, and the error of an answer.
  std::vector<Answer> Run(std::span<const Request> requests,
                          const std::function<bool(size_t index, const Token& token)>& on_token = {});

  // Throws what Add throws, without adding. Callable from any thread.
  void Check(const Request& request) const;
  EngineStats stats() const;
  const EngineOptions& options() const;  // with what was 0 filled in
  int64_t arena_bytes() const;
  int64_t arena_overflows() const;
  int64_t cache_bytes() const;
  int64_t greedy_head_bytes() const;  // 0: there is none, or there were few greedy tokens yet
  // Makes it now: for a program that will give many greedy answers.
  void PrepareGreedyHead();
  // Has the system provide memory that is used first (working memory, the beginning of the cache) as far as that goes
  // within `seconds`: on a virtual machine first use went at 0.2 to 1 GB/s. For a server.
  void ProvideMemory(double seconds = 1);
  // Tokens that each expert of each layer with experts was chosen for since the start, (layers, experts), those of the
  // MTP modules last; empty unless counted. The last main layer counts rows that it works for: of a prompt, unless
  // drafts need them, the last. Callable from any thread.
  std::vector<std::vector<int64_t>> ExpertLoad() const;
  // Measures steps of 1, 2, .. rows and drafts for about `seconds`, so that the choice whether drafts pay starts from
  // figures. Runs on free blocks.
  void Calibrate(double seconds = 2);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::engine
