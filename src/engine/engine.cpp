#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/stopwatch.h"
#include "engine/engine_state.h"

namespace fathom::engine {
namespace {

constexpr int64_t kArenaBudget = int64_t{1} << 30;  // what a step's activations may take before steps shrink
constexpr int64_t kLargestStep = 2048, kSmallestStep = 64;
constexpr size_t kCandidates = 64;  // waiting sequences that a step looks at

int64_t Plan(Context& ctx, const model::Transformer& t, const EngineOptions& o) {
  model::StepSizes sizes{.tokens = o.step_tokens,
                         .sequences = o.max_running,
                         .rows = 1 + o.drafts,
                         .positions = o.max_context,
                         .head_rows = o.max_running * (1 + o.drafts),
                         .fixed_form = o.batch_invariant};
  int64_t bytes = model::PlanArena(t, ctx, o.compute, sizes);
  if (o.batch_invariant) {  // the form follows the kind of token, not the cost
    for (const auto form : {model::AttentionForm::kFull, model::AttentionForm::kAbsorbed}) {
      sizes.form = form;
      bytes = std::max(bytes, model::PlanArena(t, ctx, o.compute, sizes));
    }
  }
  return bytes;
}

// Of the greedy head, beside what a step takes.
int64_t PlanGreedyHead(Context& ctx, model::GreedyHead* head, const EngineOptions& o) {
  if (!head) return 0;
  Arena planner = Arena::Planner();
  const model::Env env{.ctx = ctx, .arena = planner, .compute = o.compute, .fixed_form = o.batch_invariant};
  head->Logits(env, nullptr, o.max_running * (1 + o.drafts), nullptr);
  return planner.HighWater();
}

EngineOptions Complete(Context& ctx, const model::Transformer& t, EngineOptions o) {
  FATHOM_CHECK(o.max_context > 0 && o.max_running > 0 && o.drafts >= 0);
  if (o.drafts > 0 && t.mtp_depth() == 0) {
    throw Error("the model has no multi-token-prediction module", "num_nextn_predict_layers: 0",
                "a model with one, or no drafts", "--drafts 0");
  }
  o.cache_tokens = BlocksFor(std::max(o.cache_tokens, o.max_context)) * kBlockTokens;
  if (o.batch_invariant) o.verification = Verification::kCoupled;
  const int64_t least = o.max_running * (1 + o.drafts);  // so that all sequences fit a step
  if (o.step_tokens <= 0) {
    o.step_tokens = std::max(kLargestStep, least);
    while (o.step_tokens / 2 >= std::max(kSmallestStep, least) && Plan(ctx, t, o) > kArenaBudget) o.step_tokens /= 2;
  }
  o.step_tokens = std::max(least, std::min(o.step_tokens, o.cache_tokens));
  o.prompt_tokens = std::clamp<int64_t>(o.prompt_tokens, 1, o.step_tokens);
  return o;
}

}  // namespace

std::string_view Name(FinishReason reason) {
  constexpr std::string_view kNames[] = {"stop", "length", "cancelled", "error"};
  return kNames[static_cast<size_t>(reason)];
}

Engine::State::State(Context& ctx, const model::Transformer& transformer, const EngineOptions& given)
    : options(Complete(ctx, transformer, given)),
      ctx_(ctx),
      transformer_(transformer),
      greedy_head_(options.greedy_head ? model::GreedyHead::Make(ctx, transformer.params().lm_head) : nullptr),
      arena_(Plan(ctx, transformer, options) + PlanGreedyHead(ctx, greedy_head_.get(), options)),
      pool_(
          LatentLayout::Of(transformer.config(), transformer.config().num_hidden_layers + (options.drafts > 0 ? 1 : 0),
                           options.cache_dtype),
          options.cache_tokens / kBlockTokens),
      tree_(kBlockTokens),
      expert_load_(options.count_experts ? static_cast<size_t>((transformer.config().num_hidden_layers +
                                                                transformer.config().num_nextn_predict_layers) *
                                                               transformer.config().n_routed_experts)
                                         : 0) {
  stats_.blocks = pool_.blocks();
}

void Engine::State::ProvideMemory(double seconds) {
  constexpr int64_t kPiece = int64_t{1} << 23, kMostCache = int64_t{1} << 30;
  const Buffer &work = arena_.storage(), &cache = pool_.storage();
  const int64_t of_work = (work.bytes() + kPiece - 1) / kPiece;
  const int64_t of_cache = (std::min(cache.bytes(), kMostCache) + kPiece - 1) / kPiece;
  const Stopwatch clock;
  ctx_.pool.ParallelFor(of_work + of_cache, [&](int64_t piece, int) {
    if (clock.Seconds() > seconds) return;
    const Buffer& buffer = piece < of_work ? work : cache;
    const int64_t begin = (piece < of_work ? piece : piece - of_work) * kPiece;
    buffer.Provide(begin, std::min(begin + kPiece, buffer.bytes()));
  });
}

std::vector<std::vector<int64_t>> Engine::State::ExpertLoad() const {
  const model::ModelConfig& c = transformer_.config();
  std::vector<std::vector<int64_t>> load;
  const int64_t layers = c.num_hidden_layers + c.num_nextn_predict_layers;
  for (int64_t layer = 0; !expert_load_.empty() && layer < layers; ++layer) {
    if (!c.IsMoe(layer)) continue;
    std::vector<int64_t>& row = load.emplace_back();
    for (int64_t e = 0; e < c.n_routed_experts; ++e)
      row.push_back(expert_load_[static_cast<size_t>(layer * c.n_routed_experts + e)].load(std::memory_order_relaxed));
  }
  return load;
}

void Engine::State::Check(const Request& r) const {
  const int64_t n = static_cast<int64_t>(r.prompt.size());
  if (n == 0)
    throw Error("the prompt is empty", "no tokens", "at least one token",
                "a model that wants a bos token gets it without --no-bos");
  if (n > options.max_context) {
    throw Error("the prompt is longer than the context", fmt::format("{} tokens", n),
                fmt::format("at most {} (--ctx-size)", options.max_context),
                "shorten the prompt or raise --ctx-size, up to the model's max_position_embeddings");
  }
  for (int32_t id : r.prompt) {
    if (id < 0 || id >= transformer_.config().vocab_size) {
      throw Error("token id out of range", fmt::format("{}", id),
                  fmt::format("0 to {}", transformer_.config().vocab_size - 1),
                  "the tokenizer may belong to another model");
    }
  }
  Validate(r.sampling, transformer_.config().vocab_size);
  if (r.grammar) CheckGrammar(r);
}

RequestId Engine::State::Add(Request request, Listener listener) {
  Check(request);
  auto s = std::make_unique<Sequence>(next_id_++, std::move(request), std::move(listener), pool_, options.max_context);
  s->sampler.emplace(s->request.sampling, s->request.prompt, transformer_.config().vocab_size, ctx_.isa);
  stats_.prompt_tokens += s->prompt();
  if (s->request.grammar) BeginGrammar(*s);
  // Nothing is asked for but that the prompt is read, and nobody looks at it.
  if (s->request.max_tokens <= 0 && !s->request.prompt_logprobs) Finish(*s, FinishReason::kLength);
  const RequestId id = s->id;
  const auto at = std::upper_bound(waiting_.begin(), waiting_.end(), s, [](const auto& a, const auto& b) {
    return a->request.priority > b->request.priority;
  });
  waiting_.insert(at, std::move(s));
  return id;
}

void Engine::State::Cancel(RequestId id) {
  for (auto* list : {&running_, &waiting_}) {
    for (auto& s : *list) {
      if (s->id == id) s->cancelled = true;
    }
  }
}

void Engine::State::Finish(Sequence& s, FinishReason reason, std::optional<Error> error) {
  s.finished = true;
  s.answer.finish_reason = reason;
  s.answer.error = std::move(error);
  ++stats_.finished[static_cast<size_t>(reason)];
}

// What is over leaves its list, its blocks return, and its listener hears of it.
void Engine::State::Reap() {
  for (auto* list : {&running_, &waiting_}) {
    for (auto& s : *list) {
      if (s->cancelled && !s->finished) Finish(*s, FinishReason::kCancelled);
    }
    const auto over = std::stable_partition(list->begin(), list->end(), [](const auto& s) { return !s->finished; });
    std::vector<std::unique_ptr<Sequence>> done(std::make_move_iterator(over), std::make_move_iterator(list->end()));
    list->erase(over, list->end());
    for (auto& s : done) {
      Release(*s);
      if (s->listener.on_finish) s->listener.on_finish(s->answer);
    }
  }
}

int32_t Engine::State::TakeBlock() {
  if (pool_.free() == 0) pool_.Give(tree_.Evict().value());
  return pool_.Take();
}

void Engine::State::Reserve(Sequence& s, int64_t positions) {
  while (s.table.positions() < positions) s.table.Push(TakeBlock());
}

void Engine::State::Release(Sequence& s) {
  StoreRest(s);
  s.load.reset();
  s.asked = false;
  while (!s.table.blocks().empty()) {
    const size_t i = s.table.blocks().size() - 1;
    const int32_t block = s.table.Pop();
    if (i >= s.nodes.size()) pool_.Give(block);
  }
  while (!s.nodes.empty()) {
    tree_.Release(s.nodes.back());
    s.nodes.pop_back();
  }
  s.cached = 0;
  s.BeginDrafts(0);
  s.drafts.clear();
}

// Full blocks go into the tree, so that others find them and they outlive the sequence. Where the bits must not depend
// on who computed a row, only rows of prompts do: those of answers are computed in another form of attention.
void Engine::State::Share(Sequence& s) {
  if (!options.prefix_cache) return;
  const int64_t rows = std::min({s.cached, s.size(), options.batch_invariant ? s.prompt() : s.cached});
  while (static_cast<int64_t>(s.nodes.size() + 1) * kBlockTokens <= rows) {
    const size_t i = s.nodes.size();
    const int64_t begin = static_cast<int64_t>(i) * kBlockTokens;
    const int32_t own = s.table.blocks()[i];
    const bool drafts = s.draft_base == 0 && s.draft_cached >= begin + kBlockTokens;
    const auto [node, fresh] =
        tree_.Insert(s.request.cache_scope, i == 0 ? PrefixTree::kRoot : s.nodes.back(),
                     std::span(s.tokens).subspan(static_cast<size_t>(begin), kBlockTokens), own, drafts);
    s.nodes.push_back(node);
    if (fresh) {
      Store(s, i);
      continue;
    }
    if (drafts && !tree_.drafts(node)) {  // ours has the module's rows too: it is the better one
      if (tree_.users(node) > 1) {        // as soon as the others have gone
        tree_.Release(node);
        s.nodes.pop_back();
        return;
      }
      pool_.Give(tree_.Replace(node, own));
      Store(s, i);
      continue;
    }
    s.table.Replace(i, tree_.Block(node));
    pool_.Give(own);
    Store(s, i);
  }
}

// Tokens at the beginning whose rows may be taken from the tree: all but the last, whose logits choose the next.
int64_t Engine::State::Reusable(const Sequence& s) const {
  if (!options.prefix_cache || s.request.prompt_logprobs) return 0;
  return std::min(s.size() - 1, options.batch_invariant ? s.prompt() : s.size());
}

void Engine::State::Admit(Sequence& s) {
  const int64_t reusable = Reusable(s);
  bool drafts = options.drafts > 0;
  for (PrefixTree::Node node :
       tree_.Match(s.request.cache_scope, std::span(s.tokens).first(static_cast<size_t>(reusable)))) {
    tree_.Acquire(node);
    s.nodes.push_back(node);
    s.table.Push(tree_.Block(node));
    drafts = drafts && tree_.drafts(node);
  }
  s.cached = s.table.positions();
  if (drafts) s.draft_cached = s.cached;
  if (!s.started) {
    s.started = true;
    s.start = Clock::now();
    s.answer.queue_seconds = Seconds(s.added, s.start);
    s.answer.cached_tokens = s.cached;
    stats_.prefix_queries += reusable;
    stats_.prefix_hits += s.cached;
  }
}

void Engine::State::Preempt(Sequence& s) {
  Release(s);
  ++s.answer.preemptions;
  ++stats_.preemptions;
}

// Another sequence computes, or will compute before this one, a block that both begin with and the tree does not have
// yet: better to wait for it than to compute it twice.
bool Engine::State::HeldBack(size_t index, int64_t found) const {
  const Sequence& s = *waiting_[index];
  const int64_t reusable = Reusable(s) / kBlockTokens * kBlockTokens;
  const auto shares = [&](const Sequence& other, int64_t computed) {
    if (other.request.cache_scope != s.request.cache_scope) return false;
    const int64_t most = std::min(reusable, other.prompt() / kBlockTokens * kBlockTokens);
    if (most <= found || computed >= most) return false;
    const auto end = s.tokens.begin() + found + kBlockTokens;
    return std::equal(s.tokens.begin(), end, other.tokens.begin());
  };
  for (const auto& r : running_) {
    if (r->pending() > 1 && r->cached < found + kBlockTokens && shares(*r, r->cached)) return true;
  }
  for (size_t i = 0; i < index; ++i) {
    if (shares(*waiting_[i], 0)) return true;
  }
  return false;
}

std::vector<Engine::State::Item> Engine::State::Choose() {
  std::vector<SequenceState> running, waiting;
  for (const auto& s : running_) {
    running.push_back({.priority = s->request.priority,
                       .arrival = static_cast<int64_t>(s->id),
                       .cached = s->cached,
                       .pending = s->pending(),
                       .drafts = static_cast<int64_t>(s->drafts.size()),
                       .blocks = static_cast<int64_t>(s->table.blocks().size()),
                       .shared = tree_.Shared(s->nodes)});
  }
  std::vector<size_t> offered;  // of waiting_: those that do not wait for their blocks
  const size_t candidates = std::min(waiting_.size(), kCandidates);
  const bool room = static_cast<int64_t>(running_.size()) < options.max_running;
  for (size_t i = 0; room && i < candidates; ++i) {
    Sequence& s = *waiting_[i];
    if (s.load) continue;
    int64_t unused = 0, found = 0;  // blocks, positions
    for (PrefixTree::Node node :
         tree_.Match(s.request.cache_scope, std::span(s.tokens).first(static_cast<size_t>(Reusable(s))))) {
      found += kBlockTokens;
      if (tree_.users(node) == 0) ++unused;
    }
    const bool held_back = HeldBack(i, found);
    if (!held_back && AskStore(s, found)) continue;
    offered.push_back(i);
    waiting.push_back({.priority = s.request.priority,
                       .arrival = static_cast<int64_t>(s.id),
                       .cached = found,
                       .pending = s.size() - found,
                       .found_unused = unused,
                       .held_back = held_back});
    if (static_cast<int64_t>(running.size() + i) >= options.max_running) break;
  }
  // What they are held back by may be a sequence that waits for its blocks.
  if (running.empty() && Loading() && std::all_of(waiting.begin(), waiting.end(), [](auto& w) { return w.held_back; }))
    return {};
  const Schedule schedule = PlanStep(running, waiting, blocks_left(),
                                     {.step_tokens = options.step_tokens,
                                      .prompt_tokens = options.prompt_tokens,
                                      .max_running = options.max_running,
                                      .block_tokens = kBlockTokens,
                                      .pool_blocks = pool_.blocks()});
  std::vector<Item> items;
  std::vector<Sequence*> admitted, preempted;
  for (size_t i : schedule.preempted) {
    preempted.push_back(running_[i].get());
    Preempt(*preempted.back());
  }
  for (const ScheduledSlice& slice : schedule.slices) {
    if (!slice.waiting) continue;
    admitted.push_back(waiting_[offered[slice.index]].get());
    Admit(*admitted.back());
  }
  int64_t row = 0;
  for (const ScheduledSlice& slice : schedule.slices) {
    Sequence& s = slice.waiting ? *waiting_[offered[slice.index]] : *running_[slice.index];
    s.drafts.resize(static_cast<size_t>(slice.drafts));
    Reserve(s, s.cached + slice.tokens + slice.drafts);
    items.push_back({.sequence = &s,
                     .begin = s.cached,
                     .row = row,
                     .tokens = slice.tokens,
                     .drafts = slice.drafts,
                     .completes = slice.tokens == s.pending(),
                     .chosen = {}});
    row += slice.tokens + slice.drafts;
  }
  // Sequences change their lists.
  const auto move = [](auto& from, auto& to, const std::vector<Sequence*>& which, auto place) {
    for (Sequence* s : which) {
      const auto it = std::find_if(from.begin(), from.end(), [&](const auto& p) { return p.get() == s; });
      auto owned = std::move(*it);
      from.erase(it);
      to.insert(place(to, *owned), std::move(owned));
    }
  };
  move(waiting_, running_, admitted, [](auto& to, const Sequence&) { return to.end(); });
  move(running_, waiting_, preempted, [](auto& to, const Sequence& s) {
    return std::find_if(to.begin(), to.end(), [&](const auto& w) {
      return w->request.priority != s.request.priority ? w->request.priority < s.request.priority : w->id > s.id;
    });
  });
  return items;
}

bool Engine::State::Step() {
  Reap();
  if (running_.empty() && waiting_.empty()) return false;
  ReceiveBlocks();
  std::vector<Item> items = Choose();
  if (items.empty() && Loading()) {
    AwaitBlocks();
    return true;
  }
  FATHOM_CHECK(!items.empty(), "sequences wait and none can run");
  const Clock::time_point begin = Clock::now();
  try {
    Compute(items);
  } catch (const Error& e) {
    for (Item& item : items) {
      if (!item.sequence->finished) Finish(*item.sequence, FinishReason::kError, e);
      item.sequence->cached = 0;  // its rows may not be what they should
    }
  }
  for (Item& item : items) Share(*item.sequence);
  const double seconds = Seconds(begin, Clock::now());
  ++stats_.steps;
  stats_.step_seconds += seconds;
  MeasureRows(items.back().row + items.back().tokens + items.back().drafts, seconds);
  Reap();
  return true;
}

EngineStats Engine::State::Stats() const {
  EngineStats s = stats_;
  s.running = static_cast<int64_t>(running_.size());
  s.waiting = static_cast<int64_t>(waiting_.size());
  s.blocks_cached = tree_.evictable();
  s.blocks_used = pool_.blocks() - pool_.free() - s.blocks_cached;
  return s;
}

Engine::Engine(Context& ctx, const model::Transformer& transformer, const EngineOptions& options)
    : state_(std::make_unique<State>(ctx, transformer, options)) {}
Engine::~Engine() = default;
RequestId Engine::Add(Request request, Listener listener) {
  return state_->Add(std::move(request), std::move(listener));
}
void Engine::Cancel(RequestId id) { state_->Cancel(id); }
bool Engine::Step() { return state_->Step(); }
void Engine::Check(const Request& request) const { state_->Check(request); }
EngineStats Engine::stats() const { return state_->Stats(); }
const EngineOptions& Engine::options() const { return state_->options; }
int64_t Engine::arena_bytes() const { return state_->arena().Capacity(); }
int64_t Engine::arena_overflows() const { return state_->arena().Overflows(); }
int64_t Engine::cache_bytes() const { return state_->pool().bytes(); }
int64_t Engine::greedy_head_bytes() const {
  const model::GreedyHead* head = state_->greedy_head();
  return head ? head->bytes() : 0;
}
void Engine::PrepareGreedyHead() { state_->PrepareGreedyHead(); }
void Engine::ProvideMemory(double seconds) { state_->ProvideMemory(seconds); }
void Engine::Calibrate(double seconds) { state_->Calibrate(seconds); }
std::vector<std::vector<int64_t>> Engine::ExpertLoad() const { return state_->ExpertLoad(); }

std::vector<Answer> Engine::Run(std::span<const Request> requests,
                                const std::function<bool(size_t index, const Token& token)>& on_token) {
  for (const Request& r : requests) Check(r);
  std::vector<Answer> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    Listener listener{.on_token = {}, .on_prompt = {}, .on_finish = [&answers, i](const Answer& a) { answers[i] = a; }};
    if (on_token) listener.on_token = [&on_token, i](const Token& t) { return on_token(i, t); };
    state_->Add(requests[i], std::move(listener));
  }
  while (Step()) {
  }
  for (const Answer& a : answers) {
    if (a.error) throw *a.error;
  }
  return answers;
}

}  // namespace fathom::engine
