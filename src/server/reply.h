// The answers to one request of /v1/chat/completions or /v1/completions: one request of the engine for each prompt and
// each of its n choices, gathered into one response or written as they come.
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

class Reply : public std::enable_shared_from_this<Reply> {
 public:
  Reply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics, std::shared_ptr<Call> call,
        GenerationFields fields, std::vector<PromptIds> prompts);
  virtual ~Reply() = default;

  // Submits everything and answers, or answers with an error.
  void Start();

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

  // Of the two forms. A chunk is everything between data: and the end of the line.
  virtual std::string IdPrefix() const = 0;
  virtual std::string_view ObjectName(bool chunk) const = 0;
  virtual bool WantsTokens() const = 0;
  // Appends the chunks for a delta (or for the end, where finish_reason is not empty) of choice `index`.
  virtual void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                            std::string_view finish_reason) = 0;
  // The element of "choices" of a whole answer.
  virtual void AppendChoice(std::string& out, size_t index, const State& state) const = 0;

  // data: {"id":...,"choices":[{"index":N, and what closes it.
  void OpenChunk(std::string& out, size_t index) const;
  void CloseChunk(std::string& out, std::string_view finish_reason) const;

  const ServedModel& model_;
  const GenerationFields fields_;
  const std::vector<PromptIds> prompts_;

 private:
  engine::Listener MakeListener(size_t index);
  bool OnToken(size_t index, const engine::Token& token);
  void OnPrompt(size_t index, std::span<const engine::Token> tokens);
  void OnFinish(size_t index, const engine::Answer& answer);
  void Observe(State& state, bool first);
  void Emit(std::string data);
  void Complete();
  void Fail(const ApiError& error);
  void CancelAll();
  std::string Head(bool chunk) const;  // {"id":..., up to "choices":[
  std::string Usage() const;
  std::string Body() const;
  void FillEntry();

  engine::EngineThread& engine_;
  Metrics& metrics_;
  const std::shared_ptr<Call> call_;
  std::string id_, chunk_head_;
  int64_t created_ = 0;

  std::mutex mutex_;  // of what follows
  std::vector<std::unique_ptr<State>> states_;
  size_t unfinished_ = 0;
  bool started_ = false, over_ = false;  // the response has begun; nothing more is to be sent
  std::optional<ApiError> error_;
  std::string early_;  // chunks from before the start

  std::mutex requests_mutex_;
  std::vector<engine::RequestId> requests_;
  std::atomic<bool> gone_{false};
};

}  // namespace fathom::server
