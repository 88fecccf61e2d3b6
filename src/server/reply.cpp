#include "server/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace fathom::server {
namespace {

using engine::FinishReason;

constexpr size_t kChunkBytes = 480;  // what a chunk of one token has at most, as a rule

double Between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

void Join(Delta& all, Delta&& more) {
  all.reasoning += more.reasoning;
  all.content += more.content;
  for (CallDelta& call : more.calls) {
    if (call.index == all.calls.size()) {
      all.calls.push_back(std::move(call));
    } else {
      all.calls[call.index].arguments += call.arguments;
    }
  }
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

void Reply::Start() {
  id_ = RandomId(IdPrefix());
  call_->entry().id = id_;
  // Of the requests, all but what differs between choices; the states first: listeners use them at once.
  const auto n = static_cast<size_t>(fields_.n);
  for (const PromptIds& prompt : prompts_) {
    const ChoiceOptions options{.stop = fields_.stop,
                                .skip_special = fields_.skip_special,
                                .keep_tokens = WantsTokens(),
                                .start = prompt.start,
                                .offset = CountCharacters(prompt.echo),
                                .calls = fields_.calls};
    for (size_t i = 0; i < n; ++i) states_.push_back(std::make_unique<State>(model_, options, prompt));
  }
  unfinished_ = states_.size();
  call_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->gone_ = true;
      self->CancelAll();
    }
  });
  submitted_ = Clock::now();
  if (call_->trace()) call_->trace()->Span(call_->track(), "read", call_->arrival(), submitted_);
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
  if (refused) return Fail(*refused, /*charged=*/false);
  if (error_) return Fail(*error_);
  if (fields_.stream) {
    OpenStream(early_);
    call_->Begin({.headers = {{"Content-Type", "text/event-stream; charset=utf-8"},
                              {"Cache-Control", "no-cache"},
                              {"X-Accel-Buffering", "no"}},
                  .body = std::exchange(early_, {})});
    last_write_ = Clock::now();
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
  if (call_->trace()) listener.on_step = TraceSteps(index);
  return listener;
}

// A choice that is not the first has a track of its own.
std::function<void(const engine::StepPart&)> Reply::TraceSteps(size_t index) {
  RequestTrace* trace = call_->trace();
  const int64_t track = index == 0 ? call_->track() : trace->NewTrack();
  if (index > 0) trace->NameTrack(track, fmt::format("{} choice {}", id_, index));
  return [self = shared_from_this(), trace, track, queued = true](const engine::StepPart& part) mutable {
    if (std::exchange(queued, false)) trace->Span(track, "queue", self->submitted_, part.begin);
    trace->Step(self->call_->engine_track(), track, part);
  };
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
  Delta delta = Detokenise(state, token);
  if (over_) return false;
  if (!fields_.stream) {
    Join(state.text, std::move(delta));
  } else if (!delta.empty()) {
    std::string chunks;
    chunks.reserve(kChunkBytes);
    OpenStream(chunks);
    AppendChunks(chunks, index, state, delta, "");
    Emit(std::move(chunks));
  }
  const std::vector<int32_t>& eos = fields_.shown_eos;
  return !state.choice.stopped() && !state.choice.calls_complete() &&
         std::find(eos.begin(), eos.end(), token.id) == eos.end();
}

Delta Reply::Detokenise(State& state, const engine::Token& token) {
  const TraceScope scope(call_->trace(), call_->track(), "detokenise");
  return state.choice.Push(token);
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
  // What DeepSeek's clients get where the server could not go on: the text up to there.
  const bool cut = answer.finish_reason == FinishReason::kCancelled && call_->dialect() == Dialect::kDeepSeek &&
                   state.choice.tokens() > 0;
  const bool cancelled = answer.finish_reason == FinishReason::kCancelled && !cut;
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
  state.finish_reason = cut                      ? std::string(kInsufficientResource)
                        : state.choice.stopped() ? "stop"
                                                 : std::string(engine::Name(answer.finish_reason));
  if (state.choice.called() && state.finish_reason == "stop") state.finish_reason = "tool_calls";
  if (fields_.remember) model_.answers->Remember(model_.text.tokenizer, answer.ids);
  if (!fields_.stream) {
    Join(state.text, std::move(rest));
  } else {
    std::string chunks;
    OpenStream(chunks);
    if (!rest.empty()) AppendChunks(chunks, index, state, rest, "");
    AppendChunks(chunks, index, state, {}, state.finish_reason);
    Emit(std::move(chunks));
  }
  if (unfinished_ == 0 && started_) Complete();
}

void Reply::OpenStream(std::string& out) {
  if (!std::exchange(opened_, true)) AppendBegin(out);
}

void Reply::Emit(std::string data) {
  if (started_) {
    const TraceScope scope(call_->trace(), call_->track(), "write");
    last_write_ = Clock::now();
    call_->Write(std::move(data));
  } else {
    early_ += data;
  }
}

bool Reply::Beat(double quiet_seconds, double wait_seconds) {
  const std::scoped_lock lock(mutex_);
  if (over_ || gone_) return false;
  if (!started_) return true;
  const Clock::time_point now = Clock::now();
  const bool waits = std::all_of(states_.begin(), states_.end(),
                                 [](const auto& s) { return s->choice.tokens() == 0 && !s->finished; });
  if (wait_seconds > 0 && waits && Between(call_->arrival(), now) > wait_seconds) {
    Fail(Overloaded(), /*charged=*/false);
    return false;
  }
  if (quiet_seconds <= 0 || Between(last_write_, now) < quiet_seconds) return true;
  last_write_ = now;
  if (fields_.stream) {
    call_->Write(KeepAlive());
  } else if (call_->dialect() == Dialect::kDeepSeek) {
    // From here on the status is 200 whatever comes, as it is there.
    if (!call_->begun()) call_->Begin({.headers = {{"Content-Type", "application/json"}}, .body = ""});
    call_->Write("\n");
  }
  return true;
}

void Reply::SendWhole(net::HttpResponse response) {
  if (!call_->begun()) return call_->Send(std::move(response));
  call_->Write(std::move(response.body));  // behind empty lines
  call_->End();
}

void Reply::Complete() {
  if (over_) return;
  over_ = true;
  FillEntry();
  if (!fields_.stream) return SendWhole({.headers = {{"Content-Type", "application/json"}}, .body = Body()});
  std::string end;
  AppendEnd(end);
  call_->Write(std::move(end));
  call_->End();
}

// The other answers of this request end too. A stream that has begun says so in its last event. A request that nothing
// was done for is not charged.
void Reply::Fail(const ApiError& error, bool charged) {
  if (over_) return;
  over_ = true;
  if (charged) FillEntry();
  call_->entry().finish_reason = "error";
  if (fields_.stream && call_->begun()) {
    std::string end;
    AppendError(end, error);
    call_->Write(std::move(end));
    call_->End();
  } else {
    SendWhole(ErrorResponse(error, call_->dialect()));
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

Usage Reply::CountUsage() const {
  Usage u;
  for (size_t i = 0; i < states_.size(); ++i) {
    const State& s = *states_[i];
    if (i % static_cast<size_t>(fields_.n) == 0) {
      u.prompt += static_cast<int64_t>(s.prompt.ids.size());
      u.cached += s.answer.cached_tokens;
    }
    u.completion += s.choice.tokens();
    u.reasoning += s.choice.reasoning_tokens();
    u.drafted += s.answer.drafted;
    u.accepted += s.answer.accepted;
  }
  return u;
}

void Reply::FillEntry() {
  AccessEntry& e = call_->entry();
  const Usage usage = CountUsage();
  e.prompt_tokens = usage.prompt;
  e.cached_tokens = usage.cached;
  e.completion_tokens = usage.completion;
  e.finish_reason = states_.front()->finish_reason;
}

}  // namespace fathom::server
