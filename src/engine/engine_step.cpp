// What a step computes: the model over the tokens of all its sequences, the next tokens, and drafts of those behind
// them.
#include <algorithm>

#include "engine/engine_state.h"

namespace fathom::engine {
namespace {

// Rows [begin, begin + count) of a sequence as slices, of which the last `wanted` rows' states will be read. Where bits
// must not depend on how a token came to be computed, tokens of the prompt take the full form of attention and those of
// the answer the absorbed one.
void AddSlices(std::vector<model::SequenceSlice>& slices, const Sequence& s, int64_t row, int64_t begin, int64_t count,
               int64_t wanted, bool invariant) {
  const int64_t full = invariant ? std::clamp<int64_t>(s.prompt() - begin, 0, count) : 0;
  if (full > 0) {
    slices.push_back({.row = row,
                      .tokens = full,
                      .position = begin,
                      .form = model::AttentionForm::kFull,
                      .wanted = std::max<int64_t>(wanted - (count - full), 0),
                      .caches = s.table.caches()});
  }
  if (full < count) {
    slices.push_back({.row = row + full,
                      .tokens = count - full,
                      .position = begin + full,
                      .form = invariant ? model::AttentionForm::kAbsorbed : model::AttentionForm::kAuto,
                      .wanted = std::min(wanted, count - full),
                      .caches = s.table.caches()});
  }
}

// Positions are counted from draft_base: the rotation of keys and queries knows their distances only.
void AddDraftSlice(std::vector<model::SequenceSlice>& slices, const Sequence& s, int64_t row, int64_t begin,
                   int64_t count) {
  slices.push_back({.row = row, .tokens = count, .position = begin - s.draft_base, .caches = s.draft_caches});
}

Token WithLogprobs(int32_t id, std::span<const float> logits, int64_t top, Isa isa) {
  const double sum = LogSumExp(logits, isa);
  return {.id = id,
          .logprob = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - sum),
          .top = TopLogprobs(logits, sum, top, isa)};
}

}  // namespace

void Engine::State::Compute(std::vector<Item>& items) {
  const Clock::time_point begin = Clock::now();
  const model::ModelConfig& c = transformer_.config();
  const int64_t d = c.hidden_size, v = c.vocab_size;
  std::vector<int32_t> ids;
  std::vector<model::SequenceSlice> slices;
  int64_t logit_rows = 0;
  bool all_normed = options.drafts > 0, only_answers = true, experts = false;
  for (const Item& item : items) {
    all_normed = all_normed || item.sequence->request.prompt_logprobs;
    experts = experts || item.sequence->request.record_experts;
  }
  for (Item& item : items) {
    const Sequence& s = *item.sequence;
    const int64_t count = item.tokens + item.drafts;
    const int64_t wanted = all_normed || experts ? count : item.completes ? 1 + item.drafts : 0;
    AddSlices(slices, s, item.row, item.begin, count, wanted, options.batch_invariant);
    const auto from = s.tokens.begin() + item.begin;
    ids.insert(ids.end(), from, from + item.tokens);
    for (const Draft& draft : s.drafts) ids.push_back(draft.id);
    only_answers = only_answers && item.tokens == 1;
  }
  // Rows of which only the largest logit is wanted come last.
  int64_t whole_rows = 0;
  for (const bool largest : {false, true}) {
    for (Item& item : items) {
      const Sequence& s = *item.sequence;
      if (!item.completes || s.request.max_tokens <= 0 || TakesLargest(s) != largest) continue;
      item.logits = logit_rows;
      logit_rows += 1 + item.drafts;
    }
    if (!largest) whole_rows = logit_rows;
  }
  const int64_t rows = static_cast<int64_t>(ids.size());

  ArenaScope scope(arena_);
  model::Probe probe;
  std::vector<std::vector<int32_t>> chosen_experts;
  if (experts || options.count_experts) {
    probe.on_tensor = [&](std::string_view name, int64_t layer, const TensorView& t) {
      if (name != "router_ids") return;
      if (options.count_experts) CountExperts(layer, t);
      if (!experts) return;
      const int32_t* p = static_cast<const int32_t*>(t.data);
      chosen_experts.emplace_back(p, p + t.size());
    };
  }
  const model::Env env{.ctx = ctx_,
                       .arena = arena_,
                       .compute = options.compute,
                       .probe = probe.on_tensor ? &probe : nullptr,
                       .fixed_form = options.batch_invariant};
  float* hidden = arena_.Take<float>(rows * d);
  transformer_.Forward(env, {ids, slices}, hidden);
  if (experts) RecordExperts(items, chosen_experts);
  if (all_normed) transformer_.FinalNorm(env, hidden, rows, hidden);

  float* picked = arena_.Take<float>(logit_rows * d);
  for (const Item& item : items) {
    if (item.logits < 0) continue;
    std::copy_n(hidden + (item.row + item.tokens - 1) * d, (1 + item.drafts) * d, picked + item.logits * d);
  }
  if (!all_normed) transformer_.FinalNorm(env, picked, logit_rows, picked);
  float* logits = arena_.Take<float>(logit_rows * v);
  Head(env, picked, whole_rows, false, logits);
  Head(env, picked + whole_rows * d, logit_rows - whole_rows, true, logits + whole_rows * v);
  ctx_.pool.ParallelFor(static_cast<int64_t>(items.size()), [&](int64_t i, int) {
    Item& item = items[static_cast<size_t>(i)];
    if (item.logits >= 0) ChooseTokens(item, logits + item.logits * v);
  });
  if (only_answers) {
    const double seconds = Seconds(begin, Clock::now());
    gain_.AddStep(rows, seconds);
    stats_.decode_seconds += seconds;
    ++stats_.decode_steps;
  }
  stats_.rows += rows;
  TellSteps(items, begin, rows);

  const auto tell = [&] {
    for (Item& item : items) {
      Sequence& s = *item.sequence;
      if (s.request.prompt_logprobs) ShowPrompt(env, item, hidden);
      s.cached += item.valid();
      s.drafts.clear();
      if (item.completes) Take(item);
    }
  };
  options.tell_within ? options.tell_within(tell) : tell();
  if (options.drafts > 0) {
    const Clock::time_point drafting = Clock::now();
    DraftNext(env, items, hidden);
    TellDrafts(items, drafting);
  }
}

// Logits (rows, V) of normed (rows, d), or what of them is needed to know the largest.
void Engine::State::Head(const model::Env& env, const float* normed, int64_t rows, bool largest, float* logits) {
  if (rows == 0) return;
  if (largest && greedy_head_) return greedy_head_->Logits(env, normed, rows, logits);
  transformer_.Head(env, normed, rows, logits);
}

void Engine::State::CountExperts(int64_t layer, const TensorView& ids) {
  const auto experts = transformer_.config().n_routed_experts;
  const auto* p = static_cast<const int32_t*>(ids.data);
  for (int64_t i = 0; i < ids.size(); ++i) {
    std::atomic<int64_t>& n = expert_load_[static_cast<size_t>(layer * experts + p[i])];  // this thread alone writes it
    n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
}

void Engine::State::TellSteps(const std::vector<Item>& items, Clock::time_point begin, int64_t rows) const {
  for (const Item& item : items) {
    const Sequence& s = *item.sequence;
    if (!s.listener.on_step) continue;
    s.listener.on_step({.kind = item.begin < s.prompt() ? StepPart::Kind::kPrompt : StepPart::Kind::kDecode,
                        .begin = begin,
                        .end = Clock::now(),
                        .position = item.begin,
                        .tokens = item.tokens,
                        .drafts = item.drafts,
                        .kept = item.kept,
                        .rows = rows});
  }
}

void Engine::State::TellDrafts(const std::vector<Item>& items, Clock::time_point begin) const {
  for (const Item& item : items) {
    const Sequence& s = *item.sequence;
    if (!s.listener.on_step || s.finished || s.drafts.empty()) continue;
    s.listener.on_step({.kind = StepPart::Kind::kDraft,
                        .begin = begin,
                        .end = Clock::now(),
                        .position = s.cached,
                        .drafts = static_cast<int64_t>(s.drafts.size())});
  }
}

void Engine::State::ChooseTokens(Item& item, float* logits) {
  Sequence& s = *item.sequence;
  const auto v = static_cast<size_t>(transformer_.config().vocab_size);
  std::vector<float> plain;
  for (int64_t i = 0;; ++i) {
    const std::span<float> row(logits + static_cast<size_t>(i) * v, v);
    const Draft* draft = i < item.drafts ? &s.drafts[static_cast<size_t>(i)] : nullptr;
    const bool wanted = s.request.logprobs >= 0;
    if (wanted) plain.assign(row.begin(), row.end());
    if (s.matcher && !Mask(item, row)) return;
    const Verified next = Verify(*s.sampler, row, draft, How(s));
    item.chosen.push_back(wanted ? WithLogprobs(next.id, plain, s.request.logprobs, ctx_.isa)
                                 : Token{.id = next.id, .top = {}});
    item.kept += next.kept;
    if (s.matcher && !Follow(item, next.id)) return;
    if (!next.kept) return;
  }
}

// The tokens that were chosen join the answer, one by one, until one ends it.
void Engine::State::Take(Item& item) {
  Sequence& s = *item.sequence;
  if (s.request.max_tokens <= 0) return Finish(s, FinishReason::kLength);
  if (item.drafts > 0) {
    gain_.AddOutcome(item.drafts, item.kept);
    s.answer.drafted += item.drafts;
    s.answer.accepted += item.kept;
    stats_.drafted += item.drafts;
    stats_.accepted += item.kept;
  }
  const std::vector<int32_t>& eos = s.request.eos_ids;
  for (const Token& token : item.chosen) {
    const Clock::time_point now = Clock::now();
    if (s.answer.ids.empty()) {
      s.first = now;
      s.answer.prompt_seconds = Seconds(s.start, now);
    }
    s.answer.decode_seconds = Seconds(s.first, now);
    if (std::find(eos.begin(), eos.end(), token.id) != eos.end()) return Finish(s, FinishReason::kStop);
    s.answer.ids.push_back(token.id);
    s.tokens.push_back(token.id);
    ++stats_.generated_tokens;
    if (s.listener.on_token && !s.listener.on_token(token)) return Finish(s, FinishReason::kStop);
    if (item.complete && &token == &item.chosen.back()) return Finish(s, FinishReason::kStop);
    // The last position's logits have chosen a token: it is given out and has no place of its own.
    const bool full = s.size() > options.max_context;
    if (full || static_cast<int64_t>(s.answer.ids.size()) >= s.request.max_tokens)
      return Finish(s, FinishReason::kLength);
  }
  if (item.error) Finish(s, FinishReason::kError, item.error);
}

// Log-probabilities of the prompt's tokens, as far as the step has computed the states before them.
void Engine::State::ShowPrompt(const model::Env& env, const Item& item, const float* normed) {
  Sequence& s = *item.sequence;
  const int64_t d = transformer_.config().hidden_size, v = transformer_.config().vocab_size;
  const int64_t group = options.max_running * (1 + options.drafts);
  const int64_t end = std::min(item.begin + item.tokens + 1, s.prompt());
  while (s.prompt_shown < end) {
    ArenaScope scope(arena_);
    const int64_t n = std::min(group, end - s.prompt_shown);
    const int64_t row = item.row + s.prompt_shown - 1 - item.begin;
    float* logits = arena_.Take<float>(n * v);
    transformer_.Head(env, normed + row * d, n, logits);
    std::vector<Token> tokens(static_cast<size_t>(n));
    ctx_.pool.ParallelFor(n, [&](int64_t i, int) {
      tokens[static_cast<size_t>(i)] = WithLogprobs(s.request.prompt[static_cast<size_t>(s.prompt_shown + i)],
                                                    std::span(logits + i * v, static_cast<size_t>(v)),
                                                    std::max<int64_t>(s.request.logprobs, 0), ctx_.isa);
    });
    s.prompt_shown += n;
    if (s.listener.on_prompt) s.listener.on_prompt(tokens);
  }
}

// The MTP module reads what the step has computed (the state of each position with the token behind it), and drafts for
// the sequences that go on. Each further draft is the module again, over its own last state and draft.
void Engine::State::DraftNext(const model::Env& env, std::vector<Item>& items, const float* normed) {
  int64_t decoding = 0;
  for (const Item& item : items) decoding += item.completes && !item.sequence->finished ? 1 : 0;
  const int64_t most =
      options.always_draft ? options.drafts : gain_.Best(std::max<int64_t>(decoding, 1), options.drafts);
  if (most == 0) return;
  const Clock::time_point begin = Clock::now();
  const int64_t d = transformer_.config().hidden_size, v = transformer_.config().vocab_size;
  struct Drafting {
    Sequence* s;
    int64_t wanted;
    int64_t row;  // of its last state
  };
  std::vector<Drafting> drafting;
  std::vector<int32_t> ids;
  std::vector<model::SequenceSlice> slices;
  int64_t rows = 0;
  bool only_answers = true;
  for (const Item& item : items) rows += item.valid();
  ArenaScope scope(arena_);
  float* fed = arena_.Take<float>(rows * d);
  rows = 0;
  for (Item& item : items) {
    Sequence& s = *item.sequence;
    if (s.finished || !s.request.speculate) continue;
    if (s.draft_cached != item.begin) s.BeginDrafts(BlocksFor(item.begin) * kBlockTokens);
    const int64_t first = std::max(s.draft_cached, item.begin), n = s.cached - first;
    if (n <= 0) continue;
    std::copy_n(normed + (item.row + first - item.begin) * d, n * d, fed + rows * d);
    AddDraftSlice(slices, s, rows, first, n);
    const auto from = s.tokens.begin() + first + 1;
    ids.insert(ids.end(), from, from + n);
    s.draft_cached = s.cached;
    rows += n;
    only_answers = only_answers && item.tokens == 1;
    if (!item.completes) continue;
    const int64_t left = s.request.max_tokens - static_cast<int64_t>(s.answer.ids.size()) - 1;
    int64_t wanted = std::min({most, left, options.max_context - s.cached - 1});
    while (wanted > 0 && s.table.positions() < s.cached + 1 + wanted && blocks_left() > 0) s.table.Push(TakeBlock());
    wanted = std::min(wanted, s.table.positions() - s.cached - 1);
    if (wanted > 0) drafting.push_back({&s, wanted, rows - 1});
  }
  if (rows == 0) return;
  float* out = arena_.Take<float>(rows * d);
  transformer_.MtpForward(env, 1, {ids, slices}, fed, out);

  const auto sequences = static_cast<int64_t>(drafting.size());
  float* states = fed;  // (n, d): what the module is fed next
  float* last = arena_.Take<float>(sequences * d);
  float* logits = arena_.Take<float>(sequences * v);
  int64_t rounds = 0;
  for (int64_t ahead = 0; !drafting.empty(); ++ahead, ++rounds) {
    const auto n = static_cast<int64_t>(drafting.size());
    for (int64_t i = 0; i < n; ++i) std::copy_n(out + drafting[static_cast<size_t>(i)].row * d, d, last + i * d);
    transformer_.MtpNorm(env, 1, last, n, states);
    const bool largest =
        std::all_of(drafting.begin(), drafting.end(), [&](const Drafting& drafts) { return TakesLargest(*drafts.s); });
    Head(env, states, n, largest, logits);
    ctx_.pool.ParallelFor(n, [&](int64_t i, int) {
      Drafting& drafts = drafting[static_cast<size_t>(i)];
      Sequence& s = *drafts.s;
      const std::span<float> row(logits + i * v, static_cast<size_t>(v));
      MaskDraft(s, row);
      s.drafts.push_back(DrawDraft(*s.sampler, ahead, row, How(s)));
      if (!FollowDraft(s, s.drafts.back().id)) drafts.wanted = ahead + 1;
    });
    if (options.draft_input == DraftInput::kPlain) std::copy_n(last, n * d, states);
    int64_t kept = 0;
    ids.clear();
    slices.clear();
    for (int64_t i = 0; i < n; ++i) {
      Drafting next = drafting[static_cast<size_t>(i)];
      if (next.wanted <= ahead + 1) continue;
      std::copy_n(states + i * d, d, states + kept * d);
      next.row = kept;
      ids.push_back(next.s->drafts.back().id);
      AddDraftSlice(slices, *next.s, kept, next.s->cached + ahead, 1);
      drafting[static_cast<size_t>(kept++)] = next;
    }
    drafting.resize(static_cast<size_t>(kept));
    if (kept > 0) transformer_.MtpForward(env, 1, {ids, slices}, states, out);
  }
  ForgetDrafts(items);
  if (only_answers && rounds > 0) {
    const double seconds = Seconds(begin, Clock::now());
    gain_.AddDraft(sequences, seconds / static_cast<double>(rounds));
    stats_.draft_round_seconds += seconds;
    stats_.draft_rounds += rounds;
  }
}

void Engine::State::RecordExperts(const std::vector<Item>& items, const std::vector<std::vector<int32_t>>& ids) {
  const auto layers = static_cast<int64_t>(ids.size()), k = transformer_.config().num_experts_per_tok;
  for (const Item& item : items) {
    Sequence& s = *item.sequence;
    if (!s.request.record_experts) continue;
    std::vector<int16_t>& to = s.answer.experts;
    const int64_t rows = item.tokens + item.drafts;  // those of drafts that are not kept are written again
    to.resize(static_cast<size_t>((item.begin + rows) * layers * k), -1);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t l = 0; l < layers; ++l) {
        const int32_t* from = ids[static_cast<size_t>(l)].data() + (item.row + t) * k;
        std::transform(from, from + k, to.begin() + ((item.begin + t) * layers + l) * k,
                       [](int32_t id) { return static_cast<int16_t>(id); });
      }
    }
  }
}

// Every row of its own sequence, a block each, so that experts spread as they do in service.
void Engine::State::Calibrate(double seconds) {
  const Clock::time_point start = Clock::now();
  constexpr int kRuns = 3;
  const model::ModelConfig& c = transformer_.config();
  const int64_t d = c.hidden_size, v = c.vocab_size;
  const int64_t most = std::min({pool_.free(), options.max_running * (1 + options.drafts), options.step_tokens});
  std::vector<std::unique_ptr<LatentTable>> tables;
  std::vector<model::SequenceSlice> slices;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < most; ++i) {
    tables.push_back(std::make_unique<LatentTable>(pool_, kBlockTokens));
    tables.back()->Push(pool_.Take());
    slices.push_back({.row = i,
                      .tokens = 1,
                      .position = 0,
                      .form = model::AttentionForm::kAbsorbed,
                      .caches = tables.back()->caches()});
    ids.push_back(static_cast<int32_t>((i * 7919 + 101) % v));
  }
  const model::Env env{.ctx = ctx_, .arena = arena_, .compute = options.compute, .fixed_form = options.batch_invariant};
  const auto timed = [&](auto run) {
    double best = 0;
    for (int i = 0; i < kRuns && (i == 0 || Seconds(start, Clock::now()) < seconds); ++i) {
      const Clock::time_point begin = Clock::now();
      run();
      const double taken = Seconds(begin, Clock::now());
      best = i == 0 ? taken : std::min(best, taken);
    }
    return best;
  };
  for (int64_t n = 1; n <= most && (n == 1 || Seconds(start, Clock::now()) < seconds); n = n < 4 ? n + 1 : n * 2) {
    ArenaScope scope(arena_);
    const model::Step step{std::span(ids).first(static_cast<size_t>(n)),
                           std::span(slices).first(static_cast<size_t>(n))};
    float* hidden = arena_.Take<float>(n * d);
    float* out = arena_.Take<float>(n * d);
    float* logits = arena_.Take<float>(n * v);
    gain_.AddStep(n, timed([&] {
                    transformer_.Forward(env, step, hidden);
                    transformer_.FinalNorm(env, hidden, n, hidden);
                    transformer_.Head(env, hidden, n, logits);
                  }));
    if (options.drafts == 0 || n > options.max_running) continue;
    gain_.AddDraft(n, timed([&] {
                     transformer_.MtpForward(env, 1, step, hidden, out);
                     transformer_.MtpNorm(env, 1, out, n, out);
                     transformer_.Head(env, out, n, logits);
                   }));
  }
  for (auto& table : tables) pool_.Give(table->Pop());
}

}  // namespace fathom::engine
