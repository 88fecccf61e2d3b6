#include "server/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "server/json_text.h"

namespace fathom::server {
namespace {

using engine::FinishReason;

double Between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

void Join(Delta& all, Delta&& more) {
  all.reasoning += more.reasoning;
  all.content += more.content;
  all.tokens.insert(all.tokens.end(), std::make_move_iterator(more.tokens.begin()),
                    std::make_move_iterator(more.tokens.end()));
}

}  // namespace

Reply::Reply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics, std::shared_ptr<Call> call,
             GenerationFields fields, std::vector<PromptIds> prompts)
    : model_(model),
      fields_(std::move(fields)),
      prompts_(std::move(prompts)),
      engine_(engine),
      metrics_(metrics),
      call_(std::move(call)),
      created_(std::time(nullptr)) {}

std::string Reply::Head(bool chunk) const {
  return fmt::format(R"({{"id":"{}","object":"{}","created":{},"model":{},"system_fingerprint":{},"choices":[)", id_,
                     ObjectName(chunk), created_, Quoted(fields_.model), Quoted(model_.fingerprint));
}

void Reply::OpenChunk(std::string& out, size_t index) const {
  out += chunk_head_;
  fmt::format_to(std::back_inserter(out), R"({{"index":{},)", index);
}

void Reply::CloseChunk(std::string& out, std::string_view finish_reason) const {
  if (finish_reason.empty()) {
    out += R"(,"finish_reason":null}])";
  } else {
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}}])", finish_reason);
  }
  out += fields_.include_usage ? ",\"usage\":null}\n\n" : "}\n\n";
}

void Reply::Start() {
  id_ = RandomId(IdPrefix());
  chunk_head_ = "data: " + Head(true);
  call_->entry().id = id_;
  // Of the requests, all but what differs between choices; the states first: listeners use them at once.
  const auto n = static_cast<size_t>(fields_.n);
  for (const PromptIds& prompt : prompts_) {
    const ChoiceOptions options{.stop = fields_.stop,
                                .skip_special = fields_.skip_special,
                                .keep_tokens = WantsTokens(),
                                .start = prompt.start,
                                .offset = CountCharacters(prompt.echo)};
    for (size_t i = 0; i < n; ++i) states_.push_back(std::make_unique<State>(model_, options, prompt));
  }
  unfinished_ = states_.size();
  call_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->gone_ = true;
      self->CancelAll();
    }
  });
  std::optional<ApiError> refused;
  for (size_t p = 0; p < prompts_.size() && !refused; ++p) {
    engine::Request request = fields_.request;
    request.prompt = prompts_[p].ids;
    request.reproducible = fields_.seeded;
    const int64_t room = model_.max_context - static_cast<int64_t>(request.prompt.size());
    request.max_tokens = std::min(fields_.max_tokens.value_or(model_.max_context), std::max<int64_t>(room, 1));
    if (p > 0 && !fields_.seeded) request.sampling.seed = RandomU64();
    for (size_t i = 0; i < n && !refused; ++i) {
      try {
        const std::optional<engine::RequestId> id = engine_.Submit(request, MakeListener(p * n + i));
        ++request.sampling.seed;
        if (id) {
          const std::scoped_lock lock(requests_mutex_);
          requests_.push_back(*id);
        } else {
          refused = engine_.draining() ? Draining() : QueueFull();
        }
      } catch (const Error& e) {
        refused = BadField("", e.got().empty() ? e.summary() : fmt::format("{}: {}", e.summary(), e.got()));
      }
    }
  }
  if (refused) CancelAll();
  if (gone_) CancelAll();  // those that were submitted while it went
  const std::scoped_lock lock(mutex_);
  started_ = true;
  if (refused) return Fail(*refused);
  if (error_) return Fail(*error_);
  if (fields_.stream) {
    call_->Begin({.headers = {{"Content-Type", "text/event-stream; charset=utf-8"},
                              {"Cache-Control", "no-cache"},
                              {"X-Accel-Buffering", "no"}},
                  .body = std::move(early_)});
  }
  if (unfinished_ == 0) Complete();
}

engine::Listener Reply::MakeListener(size_t index) {
  const auto self = shared_from_this();
  engine::Listener listener;
  listener.on_token = [self, index](const engine::Token& token) { return self->OnToken(index, token); };
  listener.on_finish = [self, index](const engine::Answer& answer) { self->OnFinish(index, answer); };
  if (fields_.request.prompt_logprobs) {
    listener.on_prompt = [self, index](std::span<const engine::Token> tokens) { self->OnPrompt(index, tokens); };
  }
  return listener;
}

void Reply::Observe(State& state, bool first) {
  const Clock::time_point now = Clock::now();
  if (first) {
    const double seconds = Between(call_->arrival(), now);
    metrics_.first_token.Observe(seconds);
    double& noted = call_->entry().first_token_seconds;
    if (noted < 0) noted = seconds;
  } else {
    metrics_.inter_token.Observe(Between(state.last_token, now));
  }
  state.last_token = now;
}

bool Reply::OnToken(size_t index, const engine::Token& token) {
  const std::scoped_lock lock(mutex_);
  State& state = *states_[index];
  Observe(state, state.choice.tokens() == 0);
  Delta delta = state.choice.Push(token);
  if (over_) return false;
  if (!fields_.stream) {
    Join(state.text, std::move(delta));
  } else if (!delta.empty()) {
    std::string chunks;
    AppendChunks(chunks, index, state, delta, "");
    Emit(std::move(chunks));
  }
  const std::vector<int32_t>& eos = fields_.shown_eos;
  return !state.choice.stopped() && std::find(eos.begin(), eos.end(), token.id) == eos.end();
}

void Reply::OnPrompt(size_t index, std::span<const engine::Token> tokens) {
  const std::scoped_lock lock(mutex_);
  std::vector<engine::Token>& all = states_[index]->prompt_tokens;
  all.insert(all.end(), tokens.begin(), tokens.end());
}

void Reply::OnFinish(size_t index, const engine::Answer& answer) {
  const std::scoped_lock lock(mutex_);
  State& state = *states_[index];
  state.answer = answer;
  state.finished = true;
  --unfinished_;
  metrics_.end_to_end.Observe(call_->Seconds());
  metrics_.queue.Observe(answer.queue_seconds);
  metrics_.prefill.Observe(answer.prompt_seconds);
  metrics_.decode.Observe(answer.decode_seconds);
  metrics_.prompt_tokens.Observe(static_cast<double>(answer.prompt_tokens));
  metrics_.generation_tokens.Observe(static_cast<double>(state.choice.tokens()));
  const bool cancelled = answer.finish_reason == FinishReason::kCancelled;
  if (over_ || gone_) {
    if (gone_ && unfinished_ == 0 && !over_) {
      over_ = true;
      FillEntry();
      call_->entry().finish_reason = "cancelled";
      call_->Gone();
    }
    return;
  }
  if (answer.finish_reason == FinishReason::kError || cancelled) {
    const ApiError error =
        cancelled ? Draining() : ServerFault(answer.error ? answer.error->summary() : "the engine failed");
    if (started_) {
      Fail(error);
    } else {
      error_ = error;
    }
    return;
  }
  Delta rest = state.choice.Finish();
  state.finish_reason = state.choice.stopped() ? "stop" : std::string(engine::Name(answer.finish_reason));
  if (!fields_.stream) {
    Join(state.text, std::move(rest));
  } else {
    std::string chunks;
    if (!rest.empty()) AppendChunks(chunks, index, state, rest, "");
    AppendChunks(chunks, index, state, {}, state.finish_reason);
    Emit(std::move(chunks));
  }
  if (unfinished_ == 0 && started_) Complete();
}

void Reply::Emit(std::string data) {
  if (started_) {
    call_->Write(std::move(data));
  } else {
    early_ += data;
  }
}

void Reply::Complete() {
  if (over_) return;
  over_ = true;
  FillEntry();
  if (!fields_.stream) {
    call_->Send({.headers = {{"Content-Type", "application/json"}}, .body = Body()});
    return;
  }
  std::string end;
  if (fields_.include_usage) end = fmt::format("{}],\"usage\":{}}}\n\n", chunk_head_, Usage());
  end += "data: [DONE]\n\n";
  call_->Write(std::move(end));
  call_->End();
}

// The other answers of this request end too. A stream that has begun says so in its last event.
void Reply::Fail(const ApiError& error) {
  if (over_) return;
  over_ = true;
  FillEntry();
  call_->entry().finish_reason = "error";
  if (call_->begun()) {
    call_->Write(fmt::format("data: {}\n\ndata: [DONE]\n\n", ErrorJson(error)));
    call_->End();
  } else {
    call_->Send(ErrorResponse(error));
  }
  CancelAll();
}

void Reply::CancelAll() {
  std::vector<engine::RequestId> requests;
  {
    const std::scoped_lock lock(requests_mutex_);
    requests.swap(requests_);
  }
  for (engine::RequestId id : requests) engine_.Cancel(id);
}

std::string Reply::Usage() const {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0, drafted = 0, accepted = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    const State& s = *states_[i];
    if (i % static_cast<size_t>(fields_.n) == 0) {
      prompt += s.answer.prompt_tokens;
      cached += s.answer.cached_tokens;
    }
    completion += s.choice.tokens();
    reasoning += s.choice.reasoning_tokens();
    drafted += s.answer.drafted;
    accepted += s.answer.accepted;
  }
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_cache_hit_tokens":{},)"
      R"("prompt_cache_miss_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}},"completion_tokens_details":)"
      R"({{"reasoning_tokens":{},"accepted_prediction_tokens":{},"rejected_prediction_tokens":{}}}}})",
      prompt, completion, prompt + completion, cached, prompt - cached, cached, reasoning, accepted,
      drafted - accepted);
}

std::string Reply::Body() const {
  std::string out = Head(false);
  for (size_t i = 0; i < states_.size(); ++i) {
    if (i > 0) out += ',';
    AppendChoice(out, i, *states_[i]);
  }
  fmt::format_to(std::back_inserter(out), "],\"usage\":{}}}", Usage());
  return out;
}

void Reply::FillEntry() {
  AccessEntry& e = call_->entry();
  e.prompt_tokens = e.cached_tokens = e.completion_tokens = 0;
  for (const PromptIds& p : prompts_) e.prompt_tokens += static_cast<int64_t>(p.ids.size());
  for (size_t i = 0; i < states_.size(); ++i) {
    if (i % static_cast<size_t>(fields_.n) == 0) e.cached_tokens += states_[i]->answer.cached_tokens;
    e.completion_tokens += states_[i]->choice.tokens();
  }
  e.finish_reason = states_.front()->finish_reason;
}

}  // namespace fathom::server
