// The answers to one request for text: one request of the engine for each prompt and each of its n choices, gathered
// into one response or written as they come. What the response looks like is its dialect's: OpenAiReply (with ChatReply
// and CompletionReply), MessagesReply, ResponsesReply.
//
// Start runs on the thread that read the request; from then on the engine's thread calls the listeners, which write the
// chunks there and then: a chunk is some hundred bytes put together without a tree. What they write before all requests
// are in the queue waits, so that a queue found full still answers 429.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "server/api_error.h"
#include "server/call.h"
#include "server/choice.h"
#include "server/generation_fields.h"

namespace fathom::server {

// One prompt, encoded, and how its answers begin.
struct PromptIds {
  std::vector<int32_t> ids;
  std::string echo;  // text before the answer
  ReasoningSplitter::Start start = ReasoningSplitter::Start::kAnswering;
};

// finish_reason of an answer that the server could not finish, as DeepSeek's API has it.
inline constexpr std::string_view kInsufficientResource = "insufficient_system_resource";

// Of all answers to a request.
struct Usage {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0, drafted = 0, accepted = 0;
};

class Reply : public std::enable_shared_from_this<Reply> {
 public:
  Reply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics, std::shared_ptr<Call> call,
        GenerationFields fields, std::vector<PromptIds> prompts);
  virtual ~Reply() = default;

  // Submits everything and answers, or answers with an error.
  void Start();

  // Something that readers skip, where nothing was written for `quiet_seconds`; an error where `wait_seconds` passed
  // without a token. 0: never. False once there is nothing left to do.
  bool Beat(double quiet_seconds, double wait_seconds);

 protected:
  struct State {
    State(const ServedModel& model, const ChoiceOptions& options, const PromptIds& from)
        : choice(model, options), prompt(from) {}
    Choice choice;
    const PromptIds& prompt;
    std::vector<engine::Token> prompt_tokens;  // with log-probabilities, where wanted; without the first
    Delta text;                                // all of it, of an answer that is not streamed
    bool begun = false;                        // its first chunk is written
    bool finished = false;
    std::string finish_reason;
    engine::Answer answer;
    Clock::time_point last_token;
  };

  // The dialect. All are called with the lock held.
  virtual std::string IdPrefix() const = 0;
  virtual bool WantsTokens() const { return fields_.request.logprobs >= 0; }
  virtual std::string Body() const = 0;  // of a whole answer
  // The events of a stream: at its begin, for a delta (or for the end, where finish_reason is not empty) of choice
  // `index`, behind the last choice's end, instead of the rest, and those that nobody minds.
  virtual void AppendBegin(std::string&) {}
  virtual void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                            std::string_view finish_reason) = 0;
  virtual void AppendEnd(std::string& out) = 0;
  virtual void AppendError(std::string& out, const ApiError& error) = 0;
  virtual std::string KeepAlive() const { return ": keep-alive\n\n"; }

  Usage CountUsage() const;
  const std::string& id() const { return id_; }
  int64_t created() const { return created_; }
  const Call& call() const { return *call_; }
  std::vector<std::unique_ptr<State>>& states() { return states_; }
  const std::vector<std::unique_ptr<State>>& states() const { return states_; }

  const ServedModel& model_;
  const GenerationFields fields_;
  const std::vector<PromptIds> prompts_;

 private:
  engine::Listener MakeListener(size_t index);
  std::function<void(const engine::StepPart&)> TraceSteps(size_t index);
  Delta Detokenise(State& state, const engine::Token& token);
  bool OnToken(size_t index, const engine::Token& token);
  void OnPrompt(size_t index, std::span<const engine::Token> tokens);
  void OnFinish(size_t index, const engine::Answer& answer);
  void Observe(State& state, bool first);
  void OpenStream(std::string& out);
  void Emit(std::string data);
  void SendWhole(net::HttpResponse response);
  void Complete();
  void Fail(const ApiError& error, bool charged = true);
  void CancelAll();
  void FillEntry();

  engine::EngineThread& engine_;
  Metrics& metrics_;
  const std::shared_ptr<Call> call_;
  std::string id_;
  const int64_t created_;
  Clock::time_point submitted_{};

  std::mutex mutex_;  // of what follows
  std::vector<std::unique_ptr<State>> states_;
  size_t unfinished_ = 0;
  bool started_ = false, over_ = false;  // the response has begun; nothing more is to be sent
  bool opened_ = false;                  // AppendBegin was called
  std::optional<ApiError> error_;
  std::string early_;  // chunks from before the start
  Clock::time_point last_write_ = Clock::now();

  std::mutex requests_mutex_;
  std::vector<engine::RequestId> requests_;
  std::atomic<bool> gone_{false};
};

}  // namespace fathom::server
