#include "engine/generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace fathom::engine {
namespace {

using Clock = std::chrono::steady_clock;
double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

constexpr int64_t kArenaBudget = int64_t{1} << 30;  // what a chunk's activations may take before chunks shrink
constexpr int64_t kLargestChunk = 2048, kSmallestChunk = 64;

int64_t Plan(Context& ctx, const model::Transformer& t, const GeneratorOptions& o) {
  return model::PlanArena(t, ctx, o.compute,
                          {.tokens = std::min(o.chunk_tokens, o.ctx_size * o.slots),
                           .sequences = o.slots,
                           .positions = o.ctx_size,
                           .head_rows = o.slots});
}

GeneratorOptions Complete(Context& ctx, const model::Transformer& t, GeneratorOptions o) {
  FATHOM_CHECK(o.ctx_size > 0 && o.slots > 0);
  if (o.chunk_tokens <= 0) {
    o.chunk_tokens = kLargestChunk;
    while (o.chunk_tokens > kSmallestChunk && Plan(ctx, t, o) > kArenaBudget) o.chunk_tokens /= 2;
  }
  o.chunk_tokens = std::max(o.slots, std::min(o.chunk_tokens, o.ctx_size * o.slots));
  return o;
}

}  // namespace

std::string_view Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

struct Generator::Slot {
  Slot(const LatentLayout& layout, int64_t positions) : store(layout, positions) {}
  LatentStore store;
  std::vector<int32_t> tokens;  // prompt and answer of the sequence; those before `cached` have their latent rows
  int64_t cached = 0;
  bool active = false;
  size_t index = 0;  // of the request
  std::unique_ptr<Sampler> sampler;
  Clock::time_point start, first;

  int64_t pending() const { return static_cast<int64_t>(tokens.size()) - cached; }
};

Generator::Generator(Context& ctx, const model::Transformer& transformer, const GeneratorOptions& options)
    : ctx_(ctx),
      transformer_(transformer),
      options_(Complete(ctx, transformer, options)),
      arena_(Plan(ctx, transformer, options_)) {
  const model::ModelConfig& c = transformer.config();
  for (int64_t i = 0; i < options_.slots; ++i) {
    slots_.push_back(std::make_unique<Slot>(LatentLayout::Of(c, transformer.cache_layers(), options_.cache_dtype),
                                            options_.ctx_size));
  }
}

Generator::~Generator() = default;

int64_t Generator::cache_bytes() const { return static_cast<int64_t>(slots_.size()) * slots_.front()->store.bytes(); }

void Generator::Start(Slot& slot, size_t index, const Request& request) {
  // The last token of the prompt is always computed: its logits choose the first token of the answer.
  const int64_t known = std::min<int64_t>(slot.cached, static_cast<int64_t>(request.prompt.size()) - 1);
  int64_t shared = 0;
  while (shared < known && slot.tokens[static_cast<size_t>(shared)] == request.prompt[static_cast<size_t>(shared)])
    ++shared;
  slot.tokens = request.prompt;
  slot.cached = shared;
  slot.active = true;
  slot.index = index;
  slot.sampler = std::make_unique<Sampler>(request.sampling, request.prompt, transformer_.config().vocab_size);
  slot.start = Clock::now();
}

void Generator::Take(Slot& slot, const Request& request, std::span<float> logits, const OnToken& on_token,
                     Answer& answer) {
  const int32_t id = slot.sampler->Sample(logits);
  slot.sampler->Accept(id);
  const Clock::time_point now = Clock::now();
  if (answer.ids.empty()) {
    slot.first = now;
    answer.prompt_seconds = Seconds(slot.start, now);
  }
  answer.decode_seconds = Seconds(slot.first, now);
  const auto finish = [&](FinishReason reason) {
    answer.finish_reason = reason;
    slot.active = false;
  };
  if (std::find(request.eos_ids.begin(), request.eos_ids.end(), id) != request.eos_ids.end())
    return finish(FinishReason::kStop);
  answer.ids.push_back(id);
  slot.tokens.push_back(id);
  if (on_token && !on_token(slot.index, id)) return finish(FinishReason::kCancelled);
  const bool full = static_cast<int64_t>(slot.tokens.size()) > options_.ctx_size;
  if (full || static_cast<int64_t>(answer.ids.size()) >= request.max_tokens) finish(FinishReason::kLength);
}

void Generator::StepOnce(std::span<const Request> requests, const OnToken& on_token, std::vector<Answer>& answers) {
  // Sequences that decode come first, one token each; prompts fill what is left of the step.
  std::vector<Slot*> order;
  for (auto& s : slots_) {
    if (s->active) order.push_back(s.get());
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Slot* a, const Slot* b) { return (a->pending() == 1) > (b->pending() == 1); });
  std::vector<int32_t> ids;
  std::vector<model::SequenceSlice> slices;
  std::vector<Slot*> in_step, finishing;  // finishing: their last pending token is in the step
  std::vector<int64_t> last_rows;
  for (Slot* s : order) {
    const int64_t room = options_.chunk_tokens - static_cast<int64_t>(ids.size());
    const int64_t n = std::min(room, s->pending());
    if (n <= 0) break;
    slices.push_back(
        {.row = static_cast<int64_t>(ids.size()), .tokens = n, .position = s->cached, .caches = s->store.caches()});
    ids.insert(ids.end(), s->tokens.begin() + s->cached, s->tokens.begin() + s->cached + n);
    in_step.push_back(s);
    if (n == s->pending()) {
      finishing.push_back(s);
      last_rows.push_back(static_cast<int64_t>(ids.size()) - 1);
    }
  }
  const model::ModelConfig& c = transformer_.config();
  const int64_t t = static_cast<int64_t>(ids.size()), d = c.hidden_size, rows = static_cast<int64_t>(last_rows.size());
  ArenaScope scope(arena_);
  const model::Env env{.ctx = ctx_, .arena = arena_, .compute = options_.compute};
  float* hidden = arena_.Take<float>(t * d);
  transformer_.Forward(env, {ids, slices}, hidden);
  for (size_t i = 0; i < in_step.size(); ++i) in_step[i]->cached += slices[i].tokens;
  if (rows == 0) return;
  float* normed = arena_.Take<float>(rows * d);
  for (int64_t i = 0; i < rows; ++i)
    transformer_.FinalNorm(env, hidden + last_rows[static_cast<size_t>(i)] * d, 1, normed + i * d);
  float* logits = arena_.Take<float>(rows * c.vocab_size);
  transformer_.Head(env, normed, rows, logits);
  for (int64_t i = 0; i < rows; ++i) {
    Slot& s = *finishing[static_cast<size_t>(i)];
    Take(s, requests[s.index], std::span(logits + i * c.vocab_size, static_cast<size_t>(c.vocab_size)), on_token,
         answers[s.index]);
  }
}

std::vector<Answer> Generator::Run(std::span<const Request> requests, const OnToken& on_token) {
  for (size_t i = 0; i < requests.size(); ++i) {
    const int64_t n = static_cast<int64_t>(requests[i].prompt.size());
    if (n == 0)
      throw Error("the prompt is empty", "no tokens", "at least one token",
                  "a model that wants a bos token gets it without --no-bos");
    if (n > options_.ctx_size) {
      throw Error("the prompt is longer than the context", fmt::format("{} tokens", n),
                  fmt::format("at most {} (--ctx-size)", options_.ctx_size),
                  "shorten the prompt or raise --ctx-size, up to the model's max_position_embeddings");
    }
    for (int32_t id : requests[i].prompt) {
      if (id < 0 || id >= transformer_.config().vocab_size) {
        throw Error("token id out of range", fmt::format("{}", id),
                    fmt::format("0 to {}", transformer_.config().vocab_size - 1),
                    "the tokenizer may belong to another model");
      }
    }
  }
  std::vector<Answer> answers(requests.size());
  size_t next = 0;
  for (;;) {
    bool any = false;
    for (auto& slot : slots_) {
      while (!slot->active && next < requests.size()) {
        Start(*slot, next, requests[next]);
        answers[next].cached_tokens = slot->cached;
        if (requests[next].max_tokens <= 0) slot->active = false;
        ++next;
      }
      any = any || slot->active;
    }
    if (!any) return answers;
    try {
      StepOnce(requests, on_token, answers);
    } catch (...) {
      for (auto& slot : slots_) slot->active = false;  // the next Run begins clean; cached rows stay valid
      throw;
    }
  }
}

}  // namespace fathom::engine
